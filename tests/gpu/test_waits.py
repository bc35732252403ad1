"""How often a GPU is waited for, and what it is given to do: no more than what has been reached."""

import pandas as pd
import pytest

from benchmarks.bench_waits import BATCHES, STEPS, measure
from src.paths import RESULTS
from src.texture_shape import textures

# function -> waits and kernels of a step, or of a batch
LIMITS = {
    "PGD": (0.1, 70),
    "APGD": (0.1, 90),
    "APGD-T": (0.1, 95),
    "Square": (0.1, 175),
    "PGD, early stop": (1, 70),
    "APGD-T, early stop": (1, 95),
    "training, AdamW": (1, 100),
    "training, SGD, adversarial": (1, 130),
    **{f"maximise, {name}": (0.1, 175) for name in ("pixels", "fourier", "maco")},
    "invert": (0.1, 130),
    "style transfer": (0, 140),
    **({"texture synthesis": (0, 1400)} if textures.available() else {}),
    "predict": (1, 25),
    "manipulations": (2, 3700),  # two networks, 38 conditions
    "HSIC, 10 permutations": (3, 700),
    "other measures": (11, 700),
    "transfer": (4, 4000),
    "worst case": (50, 4600),  # of three attacks: one a step, and some to begin and to end
}


@pytest.mark.parametrize("function", LIMITS)
def test_a_gpu_is_waited_for_no_more_often_than_it_was(function):
    (row,) = measure((function,))
    waits, kernels = LIMITS[function]
    assert row["waits"] <= waits and row["kernels"] <= kernels


def test_the_table_of_waits_names_every_function():
    table = pd.read_csv(RESULTS / "benchmarks" / "waits.csv")
    assert {*STEPS, *BATCHES} <= {*table["function"]} and table["per"].isin(["step", "batch"]).all()
