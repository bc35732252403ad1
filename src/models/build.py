"""Every model by name. A built model takes pixels in [0, 1] and gives logits: resizing and normalisation are inside.

build_model("cnn", "cifar10")                              # this study's weights
build_model("vit", "cifar10", weights=None)                # the same network, untrained
build_model("timm:convnext_atto", "cifar100")              # any timm model, ImageNet weights, new head
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
from torch import Tensor, nn

from src.data.image_set import ImageSet
from src.data.records import DATASETS
from src.files import fingerprint
from src.models import published
from src.models.compact import COMPACT, SIZES
from src.models.pixel_model import PixelModel, classifier_name
from src.models.weights import find_weights, load_state, read_card, read_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SMALL_DATASETS = ("fashion_mnist", "fashion_mnist_full")
WEIGHTS_OF = {"fashion_mnist_full": "fashion_mnist"}  # one test set, one set of weights


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


def family_of(name: str) -> str:
    """The architecture of a model's name: mlp, cnn or vit; of a new one in COMPACT, what precedes the underscore.

    Raises ValueError for a name that `build_model` does not know, and for a timm model of another architecture.
    """
    if name in COMPACT:
        return name.partition("_")[0]
    if name in PUBLISHED:
        return PUBLISHED[name][0]
    prefix, _, timm_name = name.partition(":")
    if prefix != "timm" or not timm.is_model(timm_name):
        raise _unknown(name)
    for family, modules in TIMM_FAMILIES.items():
        if timm.models.is_model_in_modules(timm_name, modules):
            return family
    raise ValueError(f"{name} is of none of the families {', '.join(TIMM_FAMILIES)}, by timm's module of it")


def _unknown(name: str) -> ValueError:
    near = difflib.get_close_matches(name, MODELS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"unknown model {name!r}{hint}; choose from {', '.join(MODELS)}, or timm:<name>")


def describe_task(dataset: str | ImageSet) -> Task:
    """The task of a named data set, or of any loaded `ImageSet`, with ImageNet's normalisation if its name is new."""
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
        _, side, build = PUBLISHED[name]
        net = build(task.name, task.n_classes, weights=weights)
        model = PixelModel(net, mean=task.mean, std=task.std, input_side=side or task.side)
    elif name.startswith("timm:"):
        model = _build_timm(name.removeprefix("timm:"), task, weights)
    else:
        raise _unknown(name)
    model.name = name
    if weights is not None and not model.source:
        complete = name in PUBLISHED and weights == "default"  # otherwise the head is new, and random
        values = model.net.state_dict().values()
        model.source = {name: fingerprint(*values) if complete else published.backbone_fingerprint(model.net)}
    return model.eval()


def _build_compact(name: str, task: Task, weights: str | Path | None, size: str | None) -> PixelModel:
    sizes = SIZES[family_of(name)]
    about = {"size": size or ("small" if task.name in SMALL_DATASETS else "base"), "mean": task.mean, "std": task.std}
    if weights is not None:
        path = find_weights(family_of(name), name, WEIGHTS_OF.get(task.name, task.name), weights)
        about = card = read_card(path)
    size = about["size"]
    if size not in sizes:
        raise ValueError(f"unknown size {size!r} of {name}; choose from {', '.join(sizes)}")
    net = COMPACT[name](task.n_classes, task.side, **sizes[size])
    model = PixelModel(net, mean=about["mean"], std=about["std"])
    model.size = size
    if weights is not None:
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
    state, backbone = read_weights(path), read_card(path).get("backbone")
    if not backbone:
        return state
    if len(backbone) != 1:
        raise ValueError(f"{path.name} is a head on {' and '.join(backbone)}; it must stand on one network")
    ((file, checksum),) = backbone.items()
    if read_card(path.parent / file)["sha256"] != checksum:
        raise ValueError(f"{path.name} is a head for {file} as it was before; run 01_vit_finetuning.ipynb again")
    head = f"{classifier_name(net)}."
    return {key: value for key, value in read_weights(path.parent / file).items() if not key.startswith(head)} | state
