"""How often a GPU is waited for, and what it is given to do: no more than what has been reached."""

import pandas as pd
import pytest

from benchmarks.bench_waits import BATCHES, STEPS, measure
from src.paths import RESULTS

# function -> waits and kernels of a step, or of a batch
LIMITS = {
    "PGD": (1, 70),
    "APGD": (1, 90),
    "APGD-T": (1, 95),
    "Square": (1, 175),
    "PGD, early stop": (1, 70),
    "APGD-T, early stop": (1, 95),
    "training, AdamW": (1, 100),
    "training, SGD, adversarial": (1, 130),
    "transfer": (80, 4000),
    "worst case": (110, 8500),
}


@pytest.mark.parametrize("function", LIMITS)
def test_a_gpu_is_waited_for_no_more_often_than_it_was(function):
    (row,) = measure((function,))
    waits, kernels = LIMITS[function]
    assert row["waits"] <= waits and row["kernels"] <= kernels


def test_the_table_of_waits_names_every_function():
    table = pd.read_csv(RESULTS / "benchmarks" / "waits.csv")
    assert table["function"].tolist() == [*STEPS, *BATCHES] and table["per"].isin(["step", "batch"]).all()
