"""The cost of an expected calibration error of many predictions: this study's, torchmetrics', netcal's, a plain loop.

    python -m benchmarks.bench_calibration        # writes results/benchmarks/calibration.csv

All get the same float32 probabilities of ten classes and labels in memory, as the array or tensor that they work on,
and 15 bins of equal width; one thread, in turns, CPU seconds. `error` is the distance from a float64 sum over the same
bins. The plain loop is what tutorials have: a mask for each bin, in float32. It and torchmetrics take the largest
probability themselves, as ours and netcal do; ours also checks that rows sum to 1.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from netcal.metrics import ECE
from torchmetrics.functional.classification import multiclass_calibration_error

from src.files import written_whole
from src.paths import RESULTS
from src.runtime import provenance
from src.tables.calibration.measures import expected_calibration_error, smooth_ece

N_BINS = 15


def predictions(n: int, *, k: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 [n, k] of an overconfident model, and labels."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k)).astype(np.float32)
    probs = torch.from_numpy(logits).softmax(1).numpy()
    labels = (rng.random((n, 1), dtype=np.float32) > probs.cumsum(1)).sum(1).clip(max=k - 1)
    return torch.from_numpy(1.5 * logits).softmax(1).numpy(), labels


def plain_loop(probs: torch.Tensor, labels: torch.Tensor) -> float:
    confidence, prediction = probs.max(1)
    correct, error = prediction.eq(labels), torch.zeros(1)
    borders = torch.linspace(0, 1, N_BINS + 1)
    for low, high in zip(borders[:-1], borders[1:], strict=True):
        inside = confidence.gt(low) & confidence.le(high)
        share = inside.float().mean()
        if share > 0:
            error += (confidence[inside].mean() - correct[inside].float().mean()).abs() * share
    return error.item()


def in_float64(probs: np.ndarray, labels: np.ndarray) -> float:
    """The reference for `error`: sorted by search among the borders, summed in float64."""
    confidence = probs.max(1).astype(np.float64)
    bins = np.searchsorted(np.arange(N_BINS + 1) / N_BINS, confidence, side="left")
    excess = np.bincount(bins, confidence - (probs.argmax(1) == labels))
    return float(np.abs(excess).sum() / len(labels))


# name -> (probs, labels) -> error; arrays for the first ones, tensors for the last two
CONTENDERS: dict[str, Callable] = {
    "ours": lambda probs, labels: expected_calibration_error(probs, labels, n_bins=N_BINS),
    "ours, smooth": smooth_ece,
    "netcal": lambda probs, labels: float(ECE(N_BINS).measure(probs, labels)),
    "torchmetrics": lambda probs, labels: float(
        multiclass_calibration_error(probs, labels, num_classes=probs.shape[1], n_bins=N_BINS)
    ),
    "plain loop": plain_loop,
}
ON_TENSORS = ("torchmetrics", "plain loop")


def measure(n: int, rounds: int) -> pd.DataFrame:
    """One row per contender and round; the first round warms up and is left out."""
    arrays = predictions(n)
    tensors = tuple(torch.from_numpy(values) for values in arrays)
    expected, rows, names = in_float64(*arrays), [], list(CONTENDERS)
    for round_ in range(rounds + 1):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            inputs = tensors if name in ON_TENSORS else arrays
            start = time.process_time()
            value = CONTENDERS[name](*inputs)
            seconds = time.process_time() - start
            error = float("nan") if "smooth" in name else abs(value - expected)
            rows.append(dict(n=n, contender=name, round=round_, ms=1e3 * seconds, error=error))
    return pd.DataFrame(rows).query("round > 0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "calibration.csv")
    asked = parser.parse_args()

    torch.set_num_threads(asked.threads)
    table = pd.concat(measure(n, asked.rounds) for n in asked.n)
    ours = table[table["contender"] == "ours"].set_index(["n", "round"])["ms"]
    table = table.join(ours.rename("ours_ms"), on=["n", "round"])
    table["times_ours"] = table["ms"] / table["ours_ms"]
    grouped = table.groupby(["n", "contender"], sort=False)
    summary = grouped[["ms", "error"]].median()
    summary[["times_ours", "times_ours_low", "times_ours_high"]] = grouped["times_ours"].agg(["median", "min", "max"])
    print(summary.to_string(float_format="{:.3g}".format))
    versions = ", ".join(f"{package} {version(package)}" for package in ("numpy", "torch", "torchmetrics", "netcal"))
    summary = summary.reset_index().assign(rounds=asked.rounds, threads=asked.threads)
    summary["device"] = provenance("cpu")["device"]
    summary["versions"] = f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores"
    with written_whole(asked.out) as path:
        summary.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
