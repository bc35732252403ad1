"""Names as users write them: of models, data sets and runs. They are taken apart, checked, and made fit for files.

    cnn    cnn@seed1    cnn@untrained    timm:resnet10t@runs/mine/weights/….safetensors    mine.py:build@weights.pt
    mixer=mine.py:build@weights.pt    pictures=folder:/my/pictures@64

What stands before "=" is the label, by which tables and figures call a model or a data set.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

UNTRAINED = "untrained"
DEFAULT = "default"
COMPACT = ("mlp", "cnn", "vit", "cnn_robust")  # the study's own, as `src.models` builds them
NAMED = (*COMPACT, "mlp_b12_wi1024", "resnet18", "vit_small_patch16_224")  # and the 2023 report's
RANDOM_FILTERS, COMPARED = "random filters", "compared"  # painters of 03 that name no network of their own
FILES = (".safetensors", ".pt", ".pth")  # endings of weight files; other weights are labels
TAKEN = ("worst_case", "transfer", "audit", "cue_conflict", "calibration")  # tables beside those of each network
LONGEST = 120  # letters of a name in files, which may have two in theirs; file systems take 255
_LABEL = r"[A-Za-z0-9][A-Za-z0-9_.+@-]*"


@dataclass(frozen=True)
class ModelName:
    """A model's name, taken apart.

    label: what tables and figures call it.  reference: what `build_model` builds, such as cnn, timm:resnet10t or
    mine.py:build.  weights: "default", another label, "untrained", or the path of a file.
    """

    label: str
    reference: str
    weights: str = DEFAULT

    @property
    def file(self) -> str:
        """The label as part of a file's name."""
        return slug(self.label)

    @property
    def called(self) -> list[str]:
        """The label, if it is one of its own, and the reference: by these its weights are filed."""
        own = self.label != self.reference and not self.label.startswith(f"{self.reference}@")
        return [self.label, self.reference] if own else [self.reference]

    @property
    def full(self) -> str:
        """The name without a label in front."""
        return self.reference if self.weights == DEFAULT else f"{self.reference}@{self.weights}"

    def with_seed(self, seed: int) -> "ModelName":
        """The same model with the weights of another training seed: label seed1 for default, w8_seed1 for w8.

        Raises ValueError for weights that have one training seed: a file, or a label that names a seed.
        """
        if seed == 0 or self.weights == UNTRAINED:
            return self
        if self.weights.endswith(FILES) or re.search(r"(^|_)seed\d+$", self.weights):
            raise ValueError(
                f"{self.label} has the one training seed that its weights name; give the others seeds by model, as in "
                'model_seeds = {"mlp": [0, 1]}'
            )
        return replace(self, weights=f"seed{seed}" if self.weights == DEFAULT else f"{self.weights}_seed{seed}")


def parse_model(name: str) -> ModelName:
    """The parts of "[label=]reference[@weights]"; a label that is not given is the name itself.

    Raises ValueError for a name with an empty part, or a label that is no plain word.

    >>> parse_model("mixer=mine.py:build@runs/mine/weights/mixer.safetensors")
    ModelName(label='mixer', reference='mine.py:build', weights='runs/mine/weights/mixer.safetensors')
    >>> parse_model("cnn@seed1").weights
    'seed1'
    """
    label, rest = _split_label(name, "model", "cnn, cnn@seed1, timm:resnet18@untrained or mixer=mine.py:build")
    found = re.fullmatch(r"(?P<reference>.+?\.py:\w+|[^@]+?)(?:@(?P<weights>.+))?", rest)
    if found is None:
        raise ValueError(f"{name!r} is no model's name; write it as cnn@seed1: the model, @, its weights")
    return ModelName(label or rest, found["reference"], found["weights"] or DEFAULT)


def check_model(name: str) -> ModelName:
    """The parts of a model's name; ValueError where no such model is known, FileNotFoundError without its files.

    What only timm or the model's own file can tell is not looked at.
    """
    model = parse_model(name)
    file, _, made_by = model.reference.rpartition(":")
    own = file.endswith(".py")
    if not (own or model.reference in NAMED or (file == "timm" and made_by)):
        near = difflib.get_close_matches(model.reference, NAMED, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"unknown MODEL {name!r}{hint}; choose from {', '.join(NAMED)}, timm:<name> or <file>.py:<name>"
        )
    for path in [file] * own + [model.weights] * model.weights.endswith(FILES):
        if not Path(path).is_file():
            raise FileNotFoundError(f"MODEL {name!r} names {path}, and there is no such file, seen from {Path.cwd()}")
    return model


def parse_models(names: Sequence[str]) -> list[ModelName]:
    """The parts of several names; ValueError for none, for a text, and for what tables could not tell apart.

    That are two names of one file, capitals or not, and a network that is called what a table of all of them is.
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"models must be a list of at least one name, such as ['mlp', 'cnn'], not {names!r}")
    models: dict[str, ModelName] = {}
    for model in map(parse_model, names):
        if model.file.lower() in TAKEN:
            raise ValueError(f"model {model.label!r} has the name of a table; give it a label, as in b={model.full}")
        other = models.setdefault(model.file.lower(), model)
        if other is not model:
            again = "is named twice" if other == model else f"and {other.label!r} have the same name in files"
            raise ValueError(f"model {model.label!r} {again}; give one a label of its own, as in b={model.full}")
    return list(models.values())


def seeds_of(models: Sequence[str], model_seeds: Sequence[int] | Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """label -> training seeds of each model; model_seeds: those of all, or by label, where others have the first alone.

    Raises ValueError for a label that no model has, and for lists that do not begin with the same seed: figures that
    show one seed show that one.

    >>> seeds_of(["mlp", "cnn@w2"], {"mlp": [0, 1]})
    {'mlp': [0, 1], 'cnn@w2': [0]}
    """
    labels = [model.label for model in parse_models(models)]
    if not isinstance(model_seeds, Mapping):
        return {label: list(model_seeds) for label in labels}
    if unknown := sorted(set(model_seeds) - set(labels)):
        raise ValueError(f"model_seeds names {', '.join(unknown)}, not among the models {', '.join(labels)}")
    firsts = sorted({seed for seeds in model_seeds.values() for seed in seeds[:1]})
    if len(firsts) > 1:
        said = " and ".join(map(str, firsts))
        raise ValueError(f"the lists of model_seeds must begin with the same seed, not {said}")
    return {label: list(model_seeds.get(label, firsts)) for label in labels}


def weight_files(model: ModelName, dataset: str) -> list[str]:
    """The names that a model's weights on a data set may have in a folder, by its own label first, then by what it is.

    >>> weight_files(parse_model("cnn@seed1"), "cifar10")
    ['cnn_cifar10_seed1.safetensors']
    >>> weight_files(parse_model("mixer=mine.py:build"), "pictures")
    ['mixer_pictures.safetensors', 'mine.py-build_pictures.safetensors']
    """
    suffix = "" if model.weights == DEFAULT else f"_{slug(model.weights)}"
    return [f"{slug(name)}_{slug(dataset)}{suffix}.safetensors" for name in model.called]


def parse_dataset(name: str) -> tuple[str, str]:
    """(label, name as `load_images` takes it) of "[label=]name".

    >>> parse_dataset("pictures=folder:/my/pictures@64")
    ('pictures', 'folder:/my/pictures@64')
    """
    label, rest = _split_label(name, "data set", "cifar10, folder:/my/pictures@64 or pictures=folder:/my/pictures@64")
    return label or rest, rest


def parse_painter(name: str) -> tuple[str, str]:
    """(model, data set) of a painter of notebook 03, "NAME on DATASET"; of any other painter the name and "".

    >>> parse_painter("cnn@seed1 on cifar100"), parse_painter("random filters")
    (('cnn@seed1', 'cifar100'), ('random filters', ''))
    """
    model, _, dataset = name.partition(" on ")
    return model.strip(), dataset.strip()


def is_outsider(painter: str) -> bool:
    """Whether a painter belongs to no network that is compared: random filters, or weights of another data set.

    >>> [is_outsider(name) for name in ("random filters", "cnn on cifar100", "cnn")]
    [True, True, False]
    """
    return painter == RANDOM_FILTERS or bool(parse_painter(painter)[1])


def slug(name: str) -> str:
    """A name made fit for a file or a folder: what is not a letter, a digit or one of _.+@- becomes -.

    >>> slug("folder:/my pictures@64")
    'folder-my-pictures@64'
    """
    fit = re.sub(r"[^A-Za-z0-9_.+@-]+", "-", name).strip("-.")
    if not fit:
        raise ValueError(f"{name!r} leaves no letter for a file's name; give it a label in front, as in mine={name}")
    if len(fit) > LONGEST:
        raise ValueError(
            f"{name[:40]}… has {len(fit)} letters, a file's name {LONGEST} at most; give it a label in front"
        )
    return fit


def check_run(name: str) -> str:
    """The name of a run, one folder's; ValueError for anything else, such as a path."""
    if not isinstance(name, str) or not re.fullmatch(_LABEL, name) or name == "comparisons" or len(name) > LONGEST:
        raise ValueError(f"run must be a flat name of letters, digits and _.+@-, such as mine, not {name!r}")
    return name


def _split_label(name: str, what: str, examples: str) -> tuple[str, str]:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{name!r} is no {what}'s name; write one such as {examples}")
    found = re.fullmatch(rf"({_LABEL})=(.+)", name)
    if name.startswith("=") or (found is None and re.match(r"[^:/]*=", name)):
        raise ValueError(f"{name!r} has a label that is no plain word of letters, digits and _.+@-; write {examples}")
    return (found[1], found[2]) if found else ("", name)
