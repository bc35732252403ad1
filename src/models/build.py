"""Every model by name. A built model takes pixels in [0, 1] and gives logits: resizing and normalisation are inside.

build_model("cnn", "cifar10")                              # this study's weights; "cnn@seed1" for others
build_model("vit@untrained", "cifar10")                    # the same network, untrained
build_model("timm:convnext_atto", "cifar100")              # any timm model, ImageNet weights, new head
build_model("mixer=mine.py:build@weights.pt", images)      # a network of one's own, called mixer
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from src.data.image_set import ImageSet
from src.data.records import DATASETS, WEIGHTS_OF
from src.files import fingerprint
from src.models import published
from src.models.compact import COMPACT, SIZES, shape_of
from src.models.own import build_own, run_own
from src.models.pixel_model import PixelModel, classifier_name
from src.models.weights import find_weights, load_state, read_card, read_file, read_weights, weights_path
from src.names import DEFAULT, UNTRAINED, ModelName, parse_model

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SMALL_DATASETS = ("fashion_mnist", "fashion_mnist_full")


# The 2023 report's three, name -> family, input side (None: the data set's), label of the public weights, their builder
PUBLISHED: dict[str, tuple[str, int | None, str, Callable]] = {
    "mlp_b12_wi1024": ("mlp", 64, DEFAULT, published.build_mlp),
    "resnet18": ("cnn", None, DEFAULT, published.build_cnn),
    "vit_small_patch16_224": ("vit", 224, "backbone", published.build_vit),
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
    """A data set as a model must fit it: name, class count, image side, normalisation, and its classes in order."""

    name: str
    n_classes: int
    side: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    classes: tuple[str, ...] = ()


def family_of(name: str | ModelName) -> str:
    """The architecture of a model's whole name: mlp, cnn or vit; of a new one in COMPACT, what precedes the underscore.

    A network of a user's own, and a timm model that is none of the three, are a family of their own: their reference.
    Raises ValueError for a name that `build_model` does not know.
    """
    model = name if isinstance(name, ModelName) else parse_model(name)
    kind, name = _kind(model.reference)
    if kind == "compact":
        return name.partition("_")[0]
    if kind == "published":
        return PUBLISHED[name][0]
    if kind != "timm":
        return model.reference
    import timm  # it takes longer to import than torch

    found = (family for family, modules in TIMM_FAMILIES.items() if timm.models.is_model_in_modules(name, modules))
    return next(found, model.reference)


def _kind(reference: str) -> tuple[str, str]:
    """Of which kind a model is, and its name among those; ValueError for an unknown one."""
    prefix, _, timm_name = reference.partition(":")
    for kind, names in (("compact", COMPACT), ("published", PUBLISHED)):
        if reference in names:
            return kind, reference
    if prefix == "timm" and timm_name:
        published.check_timm(timm_name)
        return "timm", timm_name
    if ".py:" in reference:
        return "own", reference
    near = difflib.get_close_matches(reference, MODELS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    choices = f"{', '.join(MODELS)}, timm:<name>, or <file>.py:<function> for your own"
    raise ValueError(f"unknown model {reference!r}{hint}; choose from {choices}")


def describe_task(dataset: str | ImageSet | Task) -> Task:
    """The task of a named data set, or of any loaded `ImageSet`, with ImageNet's normalisation if its name is new."""
    if isinstance(dataset, Task):
        return dataset
    name = dataset if isinstance(dataset, str) else dataset.name
    if name in DATASETS:
        record = DATASETS[name]
        classes = record.classes if isinstance(dataset, str) else dataset.classes
        return Task(name, record.n_classes, record.side, record.mean, record.std, classes)
    if isinstance(dataset, str):
        raise ValueError(
            f"unknown data set {dataset!r}; choose from {', '.join(DATASETS)}, or pass the loaded ImageSet itself"
        )
    height, width = dataset.images.shape[1:3]
    if height != width:
        raise ValueError(f"{name} has images of {width}x{height} pixels; models take square ones")
    return Task(name, len(dataset.classes), height, classes=dataset.classes)


def build_model(
    name: str | ModelName,
    dataset: str | ImageSet | Task,
    *,
    weights: str | Path | None = DEFAULT,
    size: str | None = None,
    folder: Path | str | None = None,
) -> PixelModel:
    """Build a model by name, in eval mode: pixels in [0, 1] at the data set's size -> logits.

    name: [label=]reference[@weights], the reference one of MODELS, "timm:<any timm name>" or "<file>.py:<callable>".
    dataset: a name in DATASETS, a loaded ImageSet, or a Task.
    weights: where the name has none: "default", another label such as "seed1", a .safetensors, .pt or .pth file, or
    None for an untrained network, as "@untrained" is.  A timm model's default weights are those of its own
    pretraining, under a new, untrained head; `model.trained` is then False.
    size: of a compact model without weights, or with a .pt file: "small", "base", or a shape such as "width=8", which
    takes the rest from the data set's usual size; trained ones know theirs.
    folder: of a run's own weights; a label, "default" too, is looked for there first.
    Raises ValueError for unknown names and for weights of another model, data set, classes or shapes, FileNotFoundError
    for weights and files that are not there, RuntimeError when public weights cannot be downloaded, or when a file of
    the user's own fails.
    """
    asked, task = _asked(name, weights), describe_task(dataset)
    (kind, _), datasets = _kind(asked.reference), _filed_under(task)
    path, state, card = None, {}, {}
    if kind == "own":
        run_own(asked.reference)  # what is wrong with the file is told before what is missing beside it
    if asked.weights != UNTRAINED:
        needed = asked.weights != _public_label(asked.reference)
        path = find_weights(family_of(asked), asked, datasets, folder=folder, needed=needed)
    if path:
        state, card = read_file(path, asked, datasets, bare=kind in ("timm", "own"))
        _check_classes(path, card.get("classes", ()), task)
    elsewhere = path is None and asked.weights != UNTRAINED  # not in a file of ours, but public
    on_public = asked.reference in card.get("backbone", ())
    side = card.get("side") or task.side  # a network sees the side it was trained for
    model = _network(asked, replace(task, side=side), _agreed(size, card, asked), pretrained=elsewhere or on_public)
    for key in {"mean", "std"} & card.keys():  # as it was trained with
        getattr(model, key).copy_(torch.tensor(card[key]).view(3, 1, 1))
    model.name, model.reference, model.family = asked.label, asked.reference, family_of(asked)
    model.path, model.card, model.classes = path, card, tuple(task.classes)
    if path:
        model.trained, model.source = True, {path.name: card["sha256"]} | card.get("backbone", {})
        load_state(model.net, state | _backbone(path, card, model, asked), source=str(path))
    elif elsewhere:
        model.trained = kind == "published" and asked.weights == DEFAULT  # otherwise the head is new, and random
        values = model.net.state_dict().values()
        checksum = fingerprint(*values) if model.trained else published.backbone_fingerprint(model.net)
        model.source = {asked.reference: checksum}
    return model.eval()


def _check_classes(path: Path, trained: Sequence[str], task: Task) -> None:
    """ValueError where weights were trained for other classes, or in another order; numbers alone are no names."""
    unnamed = [str(i) for i in range(task.n_classes)]
    if len(trained) != len(task.classes) or unnamed in ([*trained], [*task.classes]):
        return
    for i, (theirs, ours) in enumerate(zip(trained, task.classes, strict=True)):
        if theirs != ours:
            raise ValueError(
                f"{path} was trained for other classes: number {i} was {theirs!r}, in {task.name} it is {ours!r}; "
                "name the sub-folders as they were, or train again"
            )


def size_of(model: ModelName, task: Task, *, folder: Path | str | None = None) -> str | None:
    """The size that the weights of a compact model have by their card; None where there are none, and for others."""
    if model.reference not in COMPACT or model.weights == UNTRAINED:
        return None
    path = find_weights(family_of(model), model, _filed_under(task), folder=folder, needed=False)
    return read_card(path).get("size") if path and path.suffix == ".safetensors" else None


def _filed_under(task: Task) -> tuple[str, ...]:
    """The data sets whose weights are those of a task."""
    return tuple(dict.fromkeys((task.name, WEIGHTS_OF.get(task.name, task.name))))


def _asked(name: str | ModelName, weights: str | Path | None) -> ModelName:
    """The model's name with the weights that are given beside it."""
    model = name if isinstance(name, ModelName) else parse_model(name)
    if weights == DEFAULT:
        return model
    if model.weights != DEFAULT:
        raise ValueError(f"{model.full} names its weights already; leave out weights={weights!r}")
    return replace(model, weights=UNTRAINED if weights is None else str(weights))


def _public_label(reference: str) -> str | None:
    """The label under which weights come from elsewhere; None for models that have none."""
    return PUBLISHED[reference][2] if reference in PUBLISHED else DEFAULT if reference.startswith("timm:") else None


def _agreed(size: str | None, card: dict, asked: ModelName) -> str | None:
    """The size asked for, or that of the weights; ValueError where they differ, and for a model of one size."""
    if size is not None and asked.reference not in COMPACT:
        raise ValueError(f"size={size!r} is for {', '.join(COMPACT)}; {asked.reference} has one size")
    of_weights = card.get("size") or size
    if size not in (None, of_weights):
        raise ValueError(f"{card['file']} holds weights of size {of_weights!r}, not {size!r}; leave the size out")
    return of_weights


def _network(asked: ModelName, task: Task, size: str | None, *, pretrained: bool) -> PixelModel:
    """The network that a name means behind its preprocessing, with public weights or random ones."""
    (kind, name), look = _kind(asked.reference), dict(mean=task.mean, std=task.std)
    if kind == "compact":
        usual = "small" if task.name in SMALL_DATASETS else "base"
        size, shape = shape_of(name, SIZES[family_of(name)], size or usual, usual)
        model = PixelModel(COMPACT[name](task.n_classes, task.side, **shape), **look, input_side=task.side)
        model.size = size
    elif kind == "published":
        _, side, _, build = PUBLISHED[name]
        net = build(task.name, task.n_classes, pretrained=pretrained)
        model = PixelModel(net, **look, input_side=side or task.side)
    elif kind == "timm":
        net = published.build_timm(name, task.n_classes, pretrained=pretrained)
        config = net.pretrained_cfg
        model = PixelModel(net, mean=config["mean"], std=config["std"], input_side=config["input_size"][-1])
    else:
        net, code = build_own(name, task.n_classes, task.side)
        model = PixelModel(net, mean=(0.0,) * 3, std=(1.0,) * 3, input_side=task.side)  # pixels as they are
        model.code = code
    return model


def _backbone(path: Path, card: dict, model: PixelModel, asked: ModelName) -> dict[str, Tensor]:
    """What a file that holds a head alone stands on: the state of the public network, or of the file its card names."""
    backbone = card.get("backbone")
    if not backbone:
        return {}
    if len(backbone) != 1:
        raise ValueError(f"{path.name} is a head on {' and '.join(backbone)}; it must stand on one network")
    ((file, checksum),) = backbone.items()
    if file == asked.reference:
        state, actual = model.net.state_dict(), published.backbone_fingerprint(model.net)
    else:
        shipped = weights_path(model.family, "any", "any").parent
        there = [at / file for at in (path.parent, shipped) if (at / file).exists() and at / file != path]
        same = (one for one in there if read_card(one)["sha256"] == checksum)  # another may have its name
        file = next(same, there[0] if there else path.parent / file)
        state, actual = read_weights(file), read_card(file)["sha256"]
    if actual != checksum:
        raise ValueError(f"{path.name} was trained on another backbone than {file} is now; train the head again")
    head = f"{classifier_name(model.net)}."
    return {key: value for key, value in state.items() if not key.startswith(head)}
