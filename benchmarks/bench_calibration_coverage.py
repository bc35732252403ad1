"""Coverage of the 95 % intervals of a calibration error, simulated.

    python -m benchmarks.bench_calibration_coverage     # writes results/benchmarks/calibration_coverage.csv

Confidences are drawn from a published CIFAR-10 network's, outcomes from a true accuracy at each confidence: lower or
higher than it by the shape of a gap, stretched until its size over all the network's images is the one asked for. So
the truth is known without bins. `debiased` is the study's headline, whose truth is the root mean square of the gap;
`recentred` is what stood before, the plug-in ECE with a bootstrap interval less the resamples' mean shift, whose truth
is the mean absolute gap. `difference` is that of two networks' debiased errors on the same images, whose outcomes hang
together (`compared`): `size` is the error of the named one, SECOND that of the ViT. `truth` is what the interval is to
hold; `below` and `above`: the share of the intervals that lie on that side of it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from src.files import written_whole
from src.paths import RESULTS
from src.results import load_table
from src.tables.calibration import compared
from src.tables.calibration.interval import debiased_interval
from src.tables.calibration.measures import binned_gap
from src.tables.calibration.resampling import bootstrap
from src.tables.statistics import percentile_interval, wilson_interval

SIZES = (0.005, 0.01, 0.02, 0.035, 0.07)
# confidence less accuracy by confidence, but for its size
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the same everywhere": lambda c: -np.ones_like(c),
    "label smoothing": lambda c: -(c - 0.1) * (1.0001 - c) ** 0.3,
    "overconfident": lambda c: c * (1 - c),
    "both signs": lambda c: np.sin(2 * np.pi * c),
}
SECOND = 0.02


def true_accuracy(confidence: np.ndarray, shape: str, size: float, *, power: int) -> np.ndarray:
    """The accuracy at each confidence [n] whose gap has this shape and size: its mean absolute (power 1) or RMS (2)."""
    gap = SHAPES[shape](confidence)

    def at(step: float) -> np.ndarray:
        return np.clip(confidence - step * gap, 0, 1)

    def missing(step: float) -> float:
        return float((np.abs(confidence - at(step)) ** power).mean() ** (1 / power) - size)

    return at(brentq(missing, 0, 100))


def recentred(confidence: np.ndarray, correct: np.ndarray) -> tuple[float, float, float]:
    ece, drawn = binned_gap(confidence, correct), bootstrap(confidence, correct, n_resamples=200)
    low, high = percentile_interval(drawn - drawn.mean() + ece)
    return ece, max(low, 0.0), high


def confidences(model: str) -> np.ndarray:
    table = load_table(RESULTS / "cifar10", "05_calibration", model).sort_values("sample_id")
    return table["confidence"].to_numpy(np.float64)


def simulate(model: str, shape: str, size: float, method: str, *, n: int, runs: int) -> dict:
    """One row, of the intervals for one network."""
    interval = dict(debiased=debiased_interval, recentred=recentred)[method]
    population, rng = confidences(model), np.random.default_rng([*map(ord, method + model + shape), round(1e4 * size)])
    accuracy, found = true_accuracy(population, shape, size, power=1 + (method == "debiased")), []
    for _ in range(runs):
        drawn = rng.integers(0, len(population), n)
        found.append(interval(population[drawn], rng.random(n) < accuracy[drawn]))
    return summed_up(np.array(found), size, dict(method=method, confidences=model, gap=shape, size=size, n=n))


def simulate_difference(model: str, shape: str, size: float, *, n: int, runs: int) -> dict:
    """One row, of the intervals for the error of one network less that of the ViT, as `compared` gives them."""
    rng, found = np.random.default_rng([*map(ord, model + shape), round(1e4 * size)]), []
    sides = {name: confidences(name) for name in (model, "vit")}
    accuracy = {name: true_accuracy(sides[name], shape, s, power=2) for name, s in ((model, size), ("vit", SECOND))}
    for _ in range(runs):
        drawn = rng.integers(0, len(sides[model]), n)
        luck, hard = rng.random((2, n)), rng.random(n) < 0.5  # half of the images are as hard for both
        parts = [
            dict(model=name, confidence=sides[name][drawn], correct=np.where(hard, luck[0], luck[i]) < each[drawn])
            for i, (name, each) in enumerate(accuracy.items())
        ]
        judged = pd.concat([pd.DataFrame(part) for part in parts]).assign(model_seed=0, condition="none")
        (row,) = compared(judged, n_resamples=200).to_dict("records")
        values = np.array([row["difference"], row["low"], row["high"]])
        found.append(values if row["worse"] == model else -values[[0, 2, 1]])
    return summed_up(
        np.array(found), size - SECOND, dict(method="difference", confidences=model, gap=shape, size=size, n=n)
    )


def summed_up(found: np.ndarray, truth: float, row: dict) -> dict:
    """found: (value, low, high) of each run."""
    (estimate, low, high), runs = found.T, len(found)
    held = int(((low <= truth) & (truth <= high)).sum())
    ends = [float(end) for end in wilson_interval(held, runs)]
    row |= dict(truth=truth, runs=runs, coverage=held / runs, coverage_low=ends[0], coverage_high=ends[1])
    row |= dict(below=(high < truth).mean(), above=(low > truth).mean())
    return row | dict(mean_estimate=estimate.mean(), mean_low=low.mean(), mean_high=high.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5000, help="images, as many as 05 judges")
    parser.add_argument("--runs", type=int, default=1200)
    parser.add_argument("--slow-runs", type=int, default=150, help="of what takes a bootstrap")
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "calibration_coverage.csv")
    asked, rows = parser.parse_args(), []
    for size in SIZES:
        for model in ("mlp", "cnn", "vit"):
            rows += [simulate(model, shape, size, "debiased", n=asked.n, runs=asked.runs) for shape in SHAPES]
            rows.append(simulate(model, next(iter(SHAPES)), size, "recentred", n=asked.n, runs=asked.slow_runs))
        rows += [
            simulate_difference(model, "label smoothing", size, n=asked.n, runs=asked.slow_runs)
            for model in ("mlp", "cnn")
        ]
        print(size, {method: f"{part['coverage'].mean():.3f}" for method, part in pd.DataFrame(rows).groupby("method")})
    table = pd.DataFrame(rows).sort_values(["method", "confidences", "gap", "size"])
    print(table.groupby(["method", "size"])["coverage"].agg(["mean", "min", "max"]).round(3).to_string())
    with written_whole(asked.out) as path:
        table.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
