"""A notebook's parameters: the values of its own, and the check of those given. No torch."""

import ast
import math
import reprlib

from src.data.records import DATASETS
from src.names import parse_models, seeds_of
from src.results import GATHER, parse_shard
from src.runs import read_cells

MAY_BE_EMPTY = ("others", "judges", "formats")  # lists
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
# least, of numbers that cannot be 0; of images, 0 means all
LEAST = dict.fromkeys(
    "batch_size measured_batch_size batch_sizes threads n_bins n_resamples n_repeats n_processes n_permutations "
    "n_measured n_pairs n_stylised n_transformed n_corrupted linear_epochs full_epochs pgd_steps apgd_steps n_targets "
    "n_untrained n_seeds steps inversion_steps style_steps texture_steps".split(),
    1,
) | dict.fromkeys("worst_eps_255 transfer_eps_255 linear_lr full_lr linear_crop_scale full_crop_scale".split(), 1e-9)
LEAST |= dict(n_warmup=1, n_repeats=2, measured_batch_size=11)  # of the clock, and of the neighbours among images
# most, where there is one: of shares, radii and seeds, and of counts that are held in memory at once
MOST = dict(worst_eps_255=255, transfer_eps_255=255, shift_eps_max=1, linear_crop_scale=1, full_crop_scale=1)
MOST |= dict(seed=2**32 - 1, model_seeds=2**32 - 1, n_bins=10_000, n_resamples=10**5, n_permutations=10**5)
MOST |= dict(n_processes=1000, threads=1024, batch_size=10**6, measured_batch_size=10**6, batch_sizes=10**6)
DEVICES = ("auto", "cuda", "mps", "cpu")
CHOICES = dict(
    pretrained_on=("", *DATASETS),
    loader=("memory", "ffcv"),
    budget=("quick", "standard"),
    dtype=("float32", "bfloat16", "tf32", "auto"),
    kernel=("linear", "rbf", "cosine"),
    methods=("pixels", "fourier", "maco", "from image"),
    formats=("pdf", "svg", "png"),
    variants=("eager", "contiguous", "channels_last", "bfloat16", "compile"),
)


def default_parameters(notebook: str) -> dict:
    """name -> value, as the parameters cell of a notebook, a file of the repository, assigns them."""
    (cell,) = (cell for cell in read_cells(notebook) if "parameters" in cell["metadata"].get("tags", []))
    return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse("".join(cell["source"])).body}


def read_parameters(notebook: str, variables: dict) -> dict:
    """name -> value of a notebook's parameters among its variables; ValueError as of `check_parameters`."""
    defaults = default_parameters(notebook)
    parameters = {name: variables[name] for name in defaults}
    check_parameters(parameters, defaults)
    return parameters


def check_parameters(parameters: dict, defaults: dict) -> None:
    """Raise ValueError for the first value that is not of the kind of the notebook's own, or that means nothing.

    Where the notebook has None, a whole number will do too.  Numbers are finite and from LEAST, or 0, to MOST; texts
    with CHOICES are among them; a list names something, each once, but for those of MAY_BE_EMPTY.  model_seeds may be a
    list for all models, or lists by label.
    """
    for name, value in parameters.items():
        default = defaults[name]
        if default is None and value is None:
            continue
        if name == "model_seeds" and isinstance(value, dict) and value:
            for seeds in value.values():
                check_parameters({name: seeds}, {name: default})
            seeds_of(parameters["models"], value)
            continue
        wrong = _not_of_kind(value, default) or _not_in_range(name, value)
        if (
            isinstance(value, list)
            and not wrong
            and (len(set(value)) < len(value) or not (value or name in MAY_BE_EMPTY))
        ):
            wrong = "must name at least one, each once"
        if wrong:
            raise ValueError(f"{name} = {reprlib.repr(value)} {wrong}; the notebook has {name} = {default!r}")
        if name == "models":
            parse_models(value)
        elif name == "shard" and value != GATHER:
            parse_shard(value)


def _not_of_kind(value: object, default: object) -> str:
    """What is wrong with a value's type; nothing for one of the default's, or a whole number for any number."""
    listed = isinstance(default, list)
    kind = int if default is None else type((default or [""])[0] if listed else default)
    kinds = (int, float) if kind is float else (kind,)
    values = value if listed and isinstance(value, list) else [value]
    right = isinstance(value, list) == listed
    right = right and all(isinstance(one, kinds) and isinstance(one, bool) == (kind is bool) for one in values)
    return "" if right else f"must be {'a list, each ' * listed}{KINDS[kind]}"


def _not_in_range(name: str, value: object) -> str:
    """What is wrong with a value of the right type."""
    values = value if isinstance(value, list) else [value]
    if name == "device" and value.partition(":")[0] not in DEVICES:
        return f"is none of {', '.join(DEVICES)}, or cuda:1 for the second"
    if name in CHOICES and set(values) - set(CHOICES[name]):
        return f"is not among {', '.join(filter(None, CHOICES[name]))}"
    least, most = LEAST.get(name, 0), MOST.get(name, math.inf)
    if all(least <= one <= most and one < math.inf for one in values if isinstance(one, int | float)):
        return ""
    said = "above 0" if 0 < least < 1 else f"at least {least}"
    return f"must be {said}" + (f" and at most {most}" if most < math.inf else " and finite")
