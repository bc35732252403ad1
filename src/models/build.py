"""Every model by name. A built model takes pixels in [0, 1] and gives logits: resizing and normalisation are inside.

build_model("cnn", "cifar10")                              # this study's weights
build_model("vit", "cifar10", weights=None)                # the same network, untrained
build_model("timm:convnext_atto", "cifar100")              # any timm model, ImageNet weights, new head
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from src.data.image_set import ImageSet
from src.data.records import DATASETS
from src.files import fingerprint
from src.models import published
from src.models.mlp import BottleneckMLP, bottleneck_mlp
from src.models.weights import find_weights, load_state, read_card, read_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The compact models come in two sizes of matched parameter counts: about 0.8 M for grey 28-pixel clothes, where more
# buys nothing and files stay below 2 MB, and about 2.7 M for everything else.
SIZES = {
    "mlp": {"small": dict(blocks=6, width=104), "base": dict(blocks=6, width=208)},
    "cnn": {"small": dict(width=16), "base": dict(width=32)},
    "vit": {
        "small": dict(embed_dim=128, depth=4, num_heads=4),
        "base": dict(embed_dim=192, depth=6, num_heads=3),
    },
}
SMALL_DATASETS = ("fashion_mnist", "fashion_mnist_full")
WEIGHTS_OF = {"fashion_mnist_full": "fashion_mnist"}  # one test set, one set of weights


class PixelModel(nn.Module):
    """A network behind its preprocessing: pixels in [0, 1], resized to `input_side`, normalised; `net`'s logits."""

    def __init__(self, net: nn.Module, *, mean, std, input_side: int | None = None, name: str = ""):
        super().__init__()
        self.net = net
        self.input_side = input_side
        self.name = name
        self.size = ""  # of a compact model, a key of SIZES
        self.source: dict[str, str] = {}  # of trained weights, file name -> sha256
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        if self.input_side and self.input_side != pixels.shape[-1]:
            size = (self.input_side, self.input_side)
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return self.net((pixels - self.mean) / self.std)

    @property
    def classifier(self) -> nn.Linear:
        """The last linear layer, which `fine_tune` replaces."""
        return self.net.get_submodule(classifier_name(self.net))

    def replace_classifier(self, new: nn.Linear) -> None:
        self.net.set_submodule(classifier_name(self.net), new)


def classifier_name(net: nn.Module) -> str:
    """Name of the layer that gives the logits: `linear_out` of an MLP, or what timm records for its models.

    Raises ValueError when that is not one linear layer, as in a distilled ViT with two or a network that ends in a
    convolution.
    """
    name = "linear_out" if isinstance(net, BottleneckMLP) else net.default_cfg["classifier"]
    if not isinstance(name, str) or not isinstance(net.get_submodule(name), nn.Linear):
        raise ValueError(f"{type(net).__name__} has no single linear classifier but {name!r}; it cannot be fine-tuned")
    return name


def compact_mlp(n_classes: int, side: int, *, blocks: int, width: int) -> nn.Module:
    return bottleneck_mlp(f"B_{blocks}-Wi_{width}", n_classes=n_classes, side=side)


def compact_cnn(n_classes: int, side: int, *, width: int) -> nn.Module:
    """ResNet-18 (He et al. 2016) with `width` channels in place of 64 and a CIFAR stem: 3×3, stride 1, no pooling."""
    # timm sets the stem's width only for its deep stem; that one is then replaced by a single convolution
    net = ResNet(
        BasicBlock,
        [2, 2, 2, 2],
        num_classes=n_classes,
        stem_type="deep",
        stem_width=width // 2,
        channels=(width, 2 * width, 4 * width, 8 * width),
    )
    net.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    net.default_cfg = {"classifier": "fc"}
    return net.to(memory_format=torch.channels_last)  # a fifth faster, forward and backward


def compact_vit(n_classes: int, side: int, *, embed_dim: int, depth: int, num_heads: int) -> nn.Module:
    """A ViT (Dosovitskiy et al. 2021) on 4×4 patches with mean pooling in place of a class token."""
    if side % 4:
        raise ValueError(f"vit cuts images into patches of 4x4 pixels, which does not work for {side} pixels a side")
    net = VisionTransformer(
        img_size=side,
        patch_size=4,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        num_classes=n_classes,
        global_pool="avg",
        class_token=False,
    )
    net.default_cfg = {"classifier": "head"}
    for block in net.blocks:  # torch's fused attention gains nothing on 64 tokens, and halves bf16 training on CPUs
        block.attn.fused_attn = False
    return net


# The study's own, name -> builder of the bare network. What precedes an underscore is the family, which has the SIZES
# and whose folder holds the weights, e.g. cnn_models/. cnn_robust is the cnn, trained adversarially.
COMPACT: dict[str, Callable] = {"mlp": compact_mlp, "cnn": compact_cnn, "vit": compact_vit, "cnn_robust": compact_cnn}

# The 2023 report's three, name -> builder that loads the public weights
PUBLISHED: dict[str, Callable] = {
    "mlp_b12_wi1024": published.build_mlp,
    "resnet18": published.build_cnn,
    "vit_small_patch16_224": published.build_vit,
}

MODELS: dict[str, Callable] = COMPACT | PUBLISHED


@dataclass(frozen=True)
class Task:
    """What a model must fit: the data set's name, class count, image side and normalisation."""

    name: str
    n_classes: int
    side: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


def family_of(name: str) -> str:
    """The family of a compact model's name: mlp, cnn or vit."""
    return name.partition("_")[0]


def describe_task(dataset: str | ImageSet) -> Task:
    """The task of a named data set, or of any loaded `ImageSet`, with ImageNet's normalisation if its name is new."""
    name = dataset if isinstance(dataset, str) else dataset.name
    if name in DATASETS:
        record = DATASETS[name]
        return Task(name, record.n_classes, record.side, record.mean, record.std)
    if isinstance(dataset, str):
        raise ValueError(
            f"unknown data set {dataset!r}; choose from {', '.join(DATASETS)}, or pass the loaded ImageSet itself, "
            "which tells its classes and image size"
        )
    height, width = dataset.images.shape[1:3]
    if height != width:
        raise ValueError(f"{name} has images of {width}x{height} pixels; models take square ones")
    return Task(name, len(dataset.classes), height)


def build_model(
    name: str, dataset: str | ImageSet, *, weights: str | Path | None = "default", size: str | None = None
) -> PixelModel:
    """Build a model by name, in eval mode: pixels in [0, 1] at the data set's size -> logits.

    name: one of MODELS, or "timm:<any timm name>".  dataset: a name in DATASETS, or a loaded ImageSet.
    weights: "default", another label such as "seed1", a .safetensors path, or None for an untrained network.  A
    timm: model's default weights are those of its own pretraining, under a new, untrained head.
    size: "small" or "base" for an untrained compact model; trained ones know theirs.
    Raises ValueError for unknown names and for weights of other keys, shapes or class count, FileNotFoundError for
    weights that are not there, RuntimeError when public weights cannot be downloaded.
    """
    task = describe_task(dataset)
    if name in COMPACT:
        model = _build_compact(name, task, weights, size)
    elif name in PUBLISHED:
        side = {"mlp_b12_wi1024": 64, "resnet18": task.side, "vit_small_patch16_224": 224}[name]
        net = PUBLISHED[name](task.name, task.n_classes, weights=weights)
        model = PixelModel(net, mean=task.mean, std=task.std, input_side=side)
    elif name.startswith("timm:"):
        model = _build_timm(name.removeprefix("timm:"), task, weights)
    else:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"unknown model {name!r}{hint}; choose from {', '.join(MODELS)}, or timm:<name>")
    model.name = name
    if weights is not None and not model.source:
        complete = name in PUBLISHED and weights == "default"  # otherwise the head is new, and random
        values = model.net.state_dict().values()
        model.source = {name: fingerprint(*values) if complete else published.backbone_fingerprint(model.net)}
    return model.eval()


def _build_compact(name: str, task: Task, weights: str | Path | None, size: str | None) -> PixelModel:
    mean, std = task.mean, task.std
    path, sizes = None, SIZES[family_of(name)]
    if weights is not None:
        path = find_weights(family_of(name), name, WEIGHTS_OF.get(task.name, task.name), weights)
        card = read_card(path)
        size, mean, std = card["size"], card["mean"], card["std"]
    size = size or ("small" if task.name in SMALL_DATASETS else "base")
    if size not in sizes:
        raise ValueError(f"unknown size {size!r} of {name}; choose from {', '.join(sizes)}")
    model = PixelModel(COMPACT[name](task.n_classes, task.side, **sizes[size]), mean=mean, std=std)
    model.size = size
    if path:
        load_state(model.net, _whole_state(path, model.net), source=str(path))
        model.source = {path.name: card["sha256"]} | card.get("backbone", {})
    return model


def _build_timm(name: str, task: Task, weights: str | Path | None) -> PixelModel:
    if weights not in (None, "default"):
        raise ValueError(f"timm:{name} has weights 'default' (its own pretraining) or None, not {str(weights)!r}")
    net = published.build_timm(name, task.n_classes, pretrained=weights is not None)
    config = net.pretrained_cfg
    return PixelModel(net, mean=config["mean"], std=config["std"], input_side=config["input_size"][-1])


def _whole_state(path: Path, net: nn.Module) -> dict[str, Tensor]:
    """The state in a weight file; where it holds a head alone, that of the backbone its card names is added."""
    state, card = read_weights(path), read_card(path)
    if "backbone" not in card:
        return state
    if len(card["backbone"]) != 1:
        raise ValueError(f"{path.name} is a head on {' and '.join(card['backbone'])}; it must stand on one network")
    ((file, checksum),) = card["backbone"].items()
    if read_card(path.parent / file)["sha256"] != checksum:
        raise ValueError(f"{path.name} is a head for {file} as it was before; run 01_vit_finetuning.ipynb again")
    backbone = read_weights(path.parent / file)
    head = classifier_name(net)
    return {key: value for key, value in backbone.items() if not key.startswith(f"{head}.")} | state
