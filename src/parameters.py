"""A notebook's parameters: the values of its own, and the check of those given. No torch."""

import ast
import math

import nbformat

from src.paths import ROOT
from src.results import NOTEBOOKS

# whole numbers that cannot be 0; of images, 0 means all
POSITIVE = ("batch_size", "measured_batch_size", "batch_sizes", "threads", "n_bins", "n_resamples", "n_repeats")


def default_parameters(experiment: str) -> dict:
    """name -> value, as the parameters cell of an experiment's notebook assigns them."""
    cells = nbformat.read(ROOT / NOTEBOOKS[experiment], as_version=4).cells
    (cell,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body}


def check_parameters(parameters: dict, defaults: dict) -> None:
    """Raise ValueError for the first value that is not of the kind of the notebook's own, or that means nothing.

    Where the notebook has None, a whole number will do too.  Numbers are finite and not negative, those of POSITIVE at
    least 1; a seed is below 2**32; a list names something, each once, but for `others`, which may be empty.
    """
    for name, value in parameters.items():
        default, listed = defaults[name], isinstance(value, list) and isinstance(defaults[name], list)
        kind = int if default is None else type(default[0] if listed else default)
        if default is None and value is None:
            continue
        kinds = (int, float) if kind is float else (kind,)
        wrong = ""
        for one in value if listed else [value]:
            if not isinstance(one, kinds) or isinstance(one, bool) != (kind is bool):
                wrong = "is not of the right kind"
            elif kind in (int, float) and not (name in POSITIVE) <= one < (2**32 if "seed" in name else math.inf):
                wrong = "is out of range"
        if listed and not wrong and (len(set(value)) < len(value) or not (value or name == "others")):
            wrong = "must name at least one, each once"
        if wrong:
            raise ValueError(f"{name} = {value!r} {wrong}; the notebook has {name} = {default!r}")
