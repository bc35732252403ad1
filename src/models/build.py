"""Every model by name. A built model takes pixels in [0, 1] and gives logits: resizing and normalisation are inside.

build_model("cnn@seed1", "cifar10")                        # this study's weights, of another training seed
build_model("vit@untrained", "cifar10")                    # the same architecture, untrained
build_model("timm:convnext_atto", "cifar100")              # any timm model, ImageNet weights, new head
build_model("timm:convnext_atto@tuned.safetensors", …)     # the same, fine-tuned
build_model("mixer=mine.py:build@mixer.pt", …)             # a function of one's own, called mixer
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from src.data.image_set import ImageSet
from src.data.records import DATASETS
from src.files import fingerprint
from src.models import published
from src.models.compact import COMPACT, read_shape
from src.models.loading import backbone_fingerprint, classifier_name, load_named
from src.models.own import build_own
from src.models.weights import find_weights, read_card
from src.names import DEFAULT, UNTRAINED, ModelName, parse_model

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SMALL_DATASETS = ("fashion_mnist", "fashion_mnist_full")
WEIGHTS_OF = {"fashion_mnist_full": "fashion_mnist"}  # one test set, one set of weights


class PixelModel(nn.Module):
    """A network behind its preprocessing: pixels in [0, 1], resized to `input_side`, normalised; `net`'s logits."""

    def __init__(self, net: nn.Module, *, mean, std, input_side: int | None = None, name: str = ""):
        super().__init__()
        self.net = net
        self.input_side = input_side
        self.name = name
        self.size = ""  # of a compact model, a key of SIZES or a shape
        self.family = ""  # mlp, cnn, vit, or the name of a network that is none of these
        self.path: Path | None = None  # of the weights
        self.source: dict[str, str] = {}  # of trained weights, file name -> sha256
        self.trained = False  # all of it: False where the classifier, or everything, is random
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        if self.input_side and self.input_side != pixels.shape[-1]:
            pixels = F.interpolate(pixels, (self.input_side,) * 2, mode="bilinear", antialias=True)
        return self.net((pixels - self.mean) / self.std)

    @property
    def classifier(self) -> nn.Linear:
        """The last linear layer, which `fine_tune` replaces."""
        return self.net.get_submodule(classifier_name(self.net))

    def replace_classifier(self, new: nn.Linear) -> None:
        self.net.set_submodule(classifier_name(self.net), new)


# The 2023 report's three, name -> family, input side (None: the data set's), builder that loads the public weights
PUBLISHED: dict[str, tuple[str, int | None, Callable]] = {
    "mlp_b12_wi1024": ("mlp", 64, published.build_mlp),
    "resnet18": ("cnn", None, published.build_cnn),
    "vit_small_patch16_224": ("vit", 224, published.build_vit),
}
MODELS = (*COMPACT, *PUBLISHED)

# timm's modules by family; those that mix convolutions and attention are of none
TIMM_FAMILIES = {
    "mlp": ["mlp_mixer"],
    "cnn": (
        "byobnet convmixer convnext cspnet cspnext densenet dla dpn efficientnet fasternet ghostnet hardcorenas hgnet "
        "hrnet inception_next inception_resnet_v2 inception_v3 inception_v4 mobilenetv3 nasnet nfnet pnasnet rdnet "
        "regnet repghost res2net resnest resnet resnetv2 rexnet selecsls senet sknet starnet tresnet vgg vovnet "
        "xception xception_aligned"
    ).split(),
    "vit": (
        "beit cait crossvit davit deit eva gcvit hiera mvitv2 naflexvit nest pit pvt_v2 swin_transformer "
        "swin_transformer_v2 swin_transformer_v2_cr tnt twins vision_transformer vision_transformer_relpos "
        "vision_transformer_sam volo xcit"
    ).split(),
}


@dataclass(frozen=True)
class Task:
    """A data set as a model must fit it: name, class count, image side and normalisation."""

    name: str
    n_classes: int
    side: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


def family_of(reference: str) -> str:
    """The architecture: mlp, cnn or vit; of timm's models that are neither, and of one's own, the reference itself.

    Raises ValueError for a name that `build_model` does not know.
    """
    if reference in COMPACT:
        return reference.partition("_")[0]
    if reference in PUBLISHED:
        return PUBLISHED[reference][0]
    prefix, _, timm_name = reference.partition(":")
    if prefix.endswith(".py") or ".py:" in reference:
        return reference
    if prefix != "timm" or not timm.is_model(timm_name):
        raise _unknown(reference)
    modules = TIMM_FAMILIES.items()
    return next((f for f, names in modules if timm.models.is_model_in_modules(timm_name, names)), reference)


def _unknown(name: str) -> ValueError:
    near = difflib.get_close_matches(name, MODELS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"unknown model {name!r}{hint}; choose from {', '.join(MODELS)}, timm:<name> or <file>.py:<name>")


def describe_task(dataset: str | ImageSet | Task) -> Task:
    """The task of a named data set, or of any loaded `ImageSet`, with ImageNet's normalisation if its name is new."""
    if isinstance(dataset, Task):
        return dataset
    name = dataset if isinstance(dataset, str) else dataset.name
    if name in DATASETS:
        record = DATASETS[name]
        return Task(name, record.n_classes, record.side, record.mean, record.std)
    if isinstance(dataset, str):
        raise ValueError(
            f"unknown data set {dataset!r}; choose from {', '.join(DATASETS)}, or pass the loaded ImageSet itself"
        )
    height, width = dataset.images.shape[1:3]
    if height != width:
        raise ValueError(f"{name} has images of {width}x{height} pixels; models take square ones")
    return Task(name, len(dataset.classes), height)


def build_model(
    name: str | ModelName,
    dataset: str | ImageSet | Task,
    *,
    weights: str | Path | None = DEFAULT,
    size: str | None = None,
    folder: Path | None = None,
) -> PixelModel:
    """Build a model by name, in eval mode: pixels in [0, 1] at the data set's size -> logits.

    name: as `src.names.parse_model` takes it: one of MODELS, "timm:<any timm name>" or "<file>.py:<name>", which is
    run; with "@" and its weights behind it, "label=" before it.  dataset: a name in DATASETS, a loaded ImageSet, or its
    Task.  weights: in place of those in the name: "default", a label such as "seed1", a file, or None for an untrained
    network.  A timm: model's default weights are those of its own pretraining, under a new, untrained head.
    size: of an untrained compact model, "small", "base" or a shape such as "width=8"; trained ones know theirs.
    folder: of a run's own weights, which come before the shipped ones.
    Raises ValueError for unknown names and for weights of other keys, shapes, class count, model or data set,
    FileNotFoundError for weights that are not there, RuntimeError when public weights cannot be downloaded.
    """
    asked, task = name if isinstance(name, ModelName) else parse_model(name), describe_task(dataset)
    if weights != DEFAULT:
        if asked.weights != DEFAULT:
            raise ValueError(f"{asked.full} names its weights; weights={weights!r} would be others")
        asked = replace(asked, weights=UNTRAINED if weights is None else str(weights))
    if size is not None and asked.reference not in COMPACT:
        raise ValueError(f"size={size!r} is for {', '.join(COMPACT)}; {asked.reference} has one size")
    if asked.reference in COMPACT:
        model = _build_compact(asked, task, size, folder)
    elif asked.reference in PUBLISHED:
        model = _build_published(asked, task, folder)
    elif ".py:" in asked.reference or asked.reference.startswith("timm:"):
        model = _build_named(asked, task, folder)
    else:
        raise _unknown(asked.reference)
    model.name, model.family = asked.label, family_of(asked.reference)
    return model.eval()


def _build_compact(asked: ModelName, task: Task, size: str | None, folder: Path | None) -> PixelModel:
    usual = "small" if task.name in SMALL_DATASETS else "base"
    about, dataset = {"size": size or usual, "mean": task.mean, "std": task.std}, WEIGHTS_OF.get(task.name, task.name)
    path = None if asked.weights == UNTRAINED else find_weights(asked, dataset, folder)
    if path and path.suffix == ".safetensors":
        about = read_card(path)
        if size not in (None, about["size"]):
            raise ValueError(f"{path} holds a network of size {about['size']}, not {size}")
    shape = read_shape(family_of(asked.reference), about["size"], usual)
    model = PixelModel(
        COMPACT[asked.reference](task.n_classes, task.side, **shape), mean=about["mean"], std=about["std"]
    )
    model.size = about["size"]
    return _with_weights(model, path, asked, dataset, own=False)


def _build_published(asked: ModelName, task: Task, folder: Path | None) -> PixelModel:
    _, side, build = PUBLISHED[asked.reference]
    weights = None if asked.weights == UNTRAINED else asked.weights
    net = build(task.name, task.n_classes, weights=weights, folder=folder)
    model = PixelModel(net, mean=task.mean, std=task.std, input_side=side or task.side)
    model.trained = weights == DEFAULT
    if weights is not None:  # the head of other weights is new, and random
        values = net.state_dict().values()
        model.source = {asked.reference: fingerprint(*values) if model.trained else backbone_fingerprint(net)}
    return model


def _build_named(asked: ModelName, task: Task, folder: Path | None) -> PixelModel:
    """A timm network, or one of the user's own, which takes pixels as they are."""
    prefix, _, timm_name = asked.reference.partition(":")
    is_timm, path, pretrained = prefix == "timm", None, False
    if asked.weights != UNTRAINED and not (is_timm and asked.weights == DEFAULT):
        path = find_weights(asked, task.name, folder, shipped=False)
    if is_timm:
        has_card = path is not None and path.with_suffix(".json").exists()
        is_head = has_card and asked.reference in read_card(path).get("backbone", {})
        pretrained = is_head or asked.weights == DEFAULT
        net = published.build_timm(timm_name, task.n_classes, pretrained=pretrained)
        config = net.pretrained_cfg
        about = dict(mean=config["mean"], std=config["std"], input_side=config["input_size"][-1])
    else:
        net, about = build_own(asked.reference, task.n_classes, task.side), dict(mean=(0.0,) * 3, std=(1.0,) * 3)
    model = PixelModel(net, **about)
    if pretrained:
        model.source = {asked.reference: backbone_fingerprint(net)}
    return _with_weights(model, path, asked, task.name, own=True)


def _with_weights(model: PixelModel, path: Path | None, asked: ModelName, dataset: str, *, own: bool) -> PixelModel:
    if path is not None:
        model.source = load_named(model.net, path, asked, dataset, own=own)
        model.path, model.trained = path, True
    return model
