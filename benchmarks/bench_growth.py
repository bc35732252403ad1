"""Growth of time and memory of each experiment: with images, layers, classes and shards.

    python -m benchmarks.bench_growth        # writes growth.csv and growth_laws.csv into results/benchmarks, 15 minutes

Each row is a fresh process on one thread that measures what the notebook measures, with `mlp` of CIFAR-10 (04a along
layers: `vit`) and the images in memory. `seconds` is the measuring, `process_seconds` all of the process, with imports,
weights and images; `times_forward` is against one plain pass of the network over the same images; `added_mib` is how
far the peak memory rose above that before the measuring. A row of several shards is that many processes, one after the
other: `seconds` of the longest and `process_seconds` of all together.

A law is fitted to each series of three points or more: seconds = c · x^p on logarithms, with the 95 % interval of p;
and the slope of a straight line, `seconds_per_unit` and `mib_per_unit`, by which docs/scaling.md extends it. 06
measures a number of images that is fixed, and has no row.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from src import attacks, tables, texture_shape
from src.cka import hsic_table
from src.data import ImageSet, load_images
from src.data.loaders import make_loader
from src.feature_vis import invert_features
from src.files import written_whole
from src.models import PixelModel, build_model
from src.models.layers import layer_names
from src.models.predict import logits_of, predict
from src.paths import RESULTS
from src.runtime import provenance
from src.study import part_of
from src.training import Recipe, fine_tune

IMAGES = (500, 1000, 2000, 5000, 10_000)
SHARDS = (1, 2, 4, 8)
BATCH = 100


def finetuning(images: ImageSet, _: PixelModel) -> None:
    backbone = build_model("vit", "cifar10", weights=None, size="small")
    fine_tune(backbone, images, Recipe(epochs=5, crop_scale=1.0), mode="linear", progress=False)


def adversarial(images: ImageSet, model: PixelModel) -> None:
    loader = make_loader(images, batch_size=BATCH)
    attacks.attack_curve(model, loader, attack="pgd", steps=5, eps_grid=(2 / 255, 4 / 255, 8 / 255), batch_size=BATCH)


def texture(images: ImageSet, model: PixelModel) -> None:
    conditions = dict(occlusion_black=(0.5,), patch_shuffle=(8,), low_pass=(2,), phase_scramble=(90,))
    texture_shape.predict_manipulated({("mlp", 0): model}, make_loader(images, batch_size=BATCH), conditions=conditions)


def cka(images: ImageSet, model: PixelModel, n_layers: int | None = None) -> None:
    loader = make_loader(images, batch_size=64)
    names = layer_names(model, next(iter(loader)).pixels[:2])
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, n_layers or min(16, len(names))).round().astype(int)]
    hsic_table({("model", 0): model}, loader, layers={"model": chosen})


def inversion(images: ImageSet, model: PixelModel) -> None:
    (batch,) = make_loader(images, batch_size=len(images))
    layer = layer_names(model, batch.pixels[:2])[2]
    invert_features(model, layer, batch.pixels, sample_ids=batch.sample_ids, steps=10)


def calibrated(images: ImageSet, model: PixelModel) -> None:
    table = predict(model, make_loader(images, batch_size=BATCH))
    logits, labels = logits_of(table), table["label"].to_numpy()
    for make in tables.calibration.SCALINGS.values():
        confidence, correct = tables.calibration.confidence_and_correct(make(logits, labels)(logits), labels)
        tables.calibration.verdict(confidence, correct, n_bins=15, n_resamples=200, seed=0)


EXPERIMENTS: dict[str, Callable] = {
    "01 linear fine-tuning": finetuning,
    "02 PGD-5 at 3 radii": adversarial,
    "03 four manipulations": texture,
    "04a CKA, 16 layers": cka,
    "04b inversion, 10 steps": inversion,
    "05 calibration": calibrated,
}
DIVISIBLE = ("02 PGD-5 at 3 radii", "03 four manipulations", "05 calibration")


def memory_mib(kind: str) -> float:
    """VmRSS, what this process has in memory, or VmHWM, the most it had since the mark was last taken back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


def measure(experiment: str, n: int, dataset: str, shard: str, layers: int | None) -> dict:
    """In this process: one row."""
    torch.set_num_threads(1)
    model = build_model("vit" if layers else "mlp", dataset)
    images = part_of(load_images(dataset, "test").subset(n, seed=0), shard)
    loader = make_loader(images, batch_size=BATCH)
    predict(model, [next(iter(loader))])
    start = time.perf_counter()
    predict(model, loader)
    forward = time.perf_counter() - start
    Path("/proc/self/clear_refs").write_text("5")  # takes the mark back
    before, start = memory_mib("VmRSS"), time.perf_counter()
    EXPERIMENTS[experiment](images, model, *([layers] if layers else []))
    seconds = time.perf_counter() - start
    return dict(seconds=seconds, times_forward=seconds / forward, added_mib=memory_mib("VmHWM") - before)


def in_a_process(**question) -> dict:
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.bench_growth", "--one", json.dumps(question)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]) | dict(process_seconds=time.perf_counter() - start)


def cases(most: int) -> list[tuple[str, str, int, dict]]:
    """(experiment, what grows, its value, settings) of every row."""
    rows = []
    for name in EXPERIMENTS:
        few = 20 if name.startswith("04b") else 1  # pictures that are optimised are few
        rows += [(name, "images", n // few, dict(n=n // few)) for n in IMAGES if n <= most]
    rows += [("04a CKA, 16 layers", "layers", k, dict(n=512, layers=k)) for k in (4, 8, 16, 32)]
    for name in (*DIVISIBLE, "04a CKA, 16 layers"):
        rows += [(name, "classes", k, dict(n=2000, dataset=f"cifar{k}")) for k in (10, 100)]
    rows += [(name, "shards", k, dict(n=most)) for name in DIVISIBLE for k in SHARDS]
    return rows


def laws(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (experiment, axis), part in table.groupby(["experiment", "axis"], sort=False):
        if len(part) < 3:
            continue
        x, seconds = part["value"].to_numpy(float), part["seconds"].to_numpy()
        fit = stats.linregress(np.log(x), np.log(seconds))
        half = fit.stderr * stats.t.ppf(0.975, len(x) - 2)
        line, memory = stats.linregress(x, seconds), stats.linregress(x, part["added_mib"])
        facts = dict(
            points=len(x), p=fit.slope, p_low=fit.slope - half, p_high=fit.slope + half, c=np.exp(fit.intercept)
        )
        facts |= dict(r2=fit.rvalue**2, seconds_per_unit=line.slope, mib_per_unit=memory.slope)
        rows.append(dict(experiment=experiment, axis=axis) | facts)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=IMAGES[-1], help="images, at most (default: %(default)s)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(**json.loads(asked.one))))
        return
    rows = []
    for experiment, axis, value, settings in cases(asked.most):
        question = dict(experiment=experiment, dataset="cifar10", layers=None) | settings
        n = value if axis == "shards" else 1
        found = [in_a_process(**question, shard=f"{k}/{n}") for k in range(1, n + 1)]
        largest = {name: max(part[name] for part in found) for name in ("seconds", "times_forward", "added_mib")}
        total = sum(part["process_seconds"] for part in found)
        rows.append(dict(experiment=experiment, axis=axis, value=value) | largest | dict(process_seconds=total))
        print(rows[-1], flush=True)
    facts = provenance("cpu")
    table = pd.DataFrame(rows).assign(threads=1, machine=facts["device"], time=facts["time"])
    for name, part in (("growth", table), ("growth_laws", laws(table))):
        print(part.to_string(index=False))
        with written_whole(RESULTS / "benchmarks" / f"{name}.csv") as partial:
            part.to_csv(partial, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
