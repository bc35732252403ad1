"""What smaller budgets of the ensemble miss, and what FAB-T would add to the largest.

    python -m benchmarks.bench_budgets            # CIFAR-10's test set; writes results/benchmarks/budgets.csv

Each network is attacked near the radius that leaves it about a third of the images, with every budget on the same
images from the same seed. FAB-T (Croce & Hein 2020b) is torchattacks' own, given what the budget "standard" leaves.
Seconds are of CPU time on one thread; they say what a budget costs, not who is faster.
"""

import argparse
import platform
import time
from importlib.metadata import version

import pandas as pd
import torch
import torchattacks

from src.attacks import worst_case
from src.data import load_images
from src.data.loaders import make_loader
from src.files import written_whole
from src.models import PixelModel, build_model
from src.paths import RESULTS
from src.runtime import provenance
from src.tables.attacks import BUDGETS

NETWORKS = {"mlp": 1.0, "cnn": 0.5, "vit": 1.0, "cnn_robust": 8.0}  # radius in 255ths
BUDGETS_TRIED = {"quick": BUDGETS["quick"], "half": dict(steps=50, n_targets=5, queries=500)}
BUDGETS_TRIED |= {"standard": BUDGETS["standard"]}
FAB_STEPS = 100  # for each of the nine targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="test images (default: 100)")
    parser.add_argument("--models", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images, path, tables = load_images("cifar10", "test").subset(asked.n, seed=0), RESULTS / "benchmarks", []
    for name in asked.models:
        table = tried(build_model(name, "cifar10"), make_loader(images, batch_size=100), NETWORKS[name] / 255)
        tables.append(table.assign(model=name, eps_255=NETWORKS[name], n=asked.n))
        print(tables[-1].to_string(), flush=True)
    table = pd.concat(tables, ignore_index=True)
    versions = f"torch {torch.__version__}, torchattacks {version('torchattacks')}, Python {platform.python_version()}"
    with written_whole(path / "budgets.csv") as partial:
        table.assign(threads=1, device=provenance("cpu")["device"], versions=versions).to_csv(
            partial, index=False, float_format="%.4g"
        )


def tried(model: PixelModel, loader, eps: float) -> pd.DataFrame:
    """One row per budget: seconds, held (what nothing breaks), missed (what it holds and standard or FAB-T breaks)."""
    rows, held = [], {}
    for name, budget in BUDGETS_TRIED.items():
        tick = time.process_time()
        table = worst_case(model, loader, eps=eps, progress=False, **budget)
        table = table[table["eps"] > 0]
        held[name] = set(table.loc[table["broken_by"] == "", "sample_id"])
        rows.append(dict(budget=name, **budget, seconds=time.process_time() - tick))
    tick = time.process_time()
    held["standard and FAB-T"] = held["standard"] - broken_by_fab(model, loader, held["standard"], eps)
    rows.append(rows[-1] | dict(budget="standard and FAB-T", seconds=rows[-1]["seconds"] + time.process_time() - tick))
    surest = held["standard"] & held["standard and FAB-T"]
    return pd.DataFrame(
        row | dict(held=len(held[row["budget"]]), missed=len(held[row["budget"]] - surest)) for row in rows
    )


def broken_by_fab(model: PixelModel, loader, sample_ids: set[int], eps: float) -> set[int]:
    """The images, of those named, that FAB-T breaks within the radius."""
    attack = torchattacks.FAB(model, norm="Linf", eps=eps, n_classes=10, multi_targeted=True, steps=FAB_STEPS)
    broken = set()
    for batch in loader:
        own = torch.tensor([int(sample_id) in sample_ids for sample_id in batch.sample_ids])
        if not own.any():
            continue
        pixels, labels = batch.pixels[own], batch.labels[own]
        found = attack(pixels, labels).detach()
        within = (found - pixels).abs().amax((1, 2, 3)) <= eps + 1e-6
        with torch.no_grad():
            wrong = (model(found).argmax(1) != labels) & within
        broken |= set(batch.sample_ids[own][wrong].tolist())
    return broken


if __name__ == "__main__":
    main()
