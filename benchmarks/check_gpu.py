"""A GPU in five minutes: does it compute what the CPU computes, how fast is it, and what stands in its way?

    make check-gpu                      # this, then every notebook at small sizes; or python -m benchmarks.check_gpu

The networks of this repository on embedded images.  It ends with what is off and what to do; its exit status is 1 where
there is no GPU or where numbers differ.
"""

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import nn

from src import cka
from src.attacks import attack_curve
from src.data.load import load_images
from src.data.loaders import make_loader
from src.models import build_model
from src.models.predict import predict
from src.runtime import device_label, fast_dtype, pick_device
from src.tables.cka import cka_table
from src.texture_shape import predict_manipulated
from src.training import Recipe, train

DATASET, MODELS = "fashion_mnist", ("mlp", "cnn", "vit")
N, N_TRAIN, BATCH = 500, 2_000, 250
ALIKE = 0.99  # share of predictions that must agree: float32 rounds otherwise on a GPU, and images lie near a border
NEAR = 2e-3  # of logits and of CKA; TF32, which is off unless it is forced, is farther off
FASTER = 3.0  # times the CPU's images a second; less is told

Zoo = dict[tuple[str, int], nn.Module]


def predictions(zoo: Zoo, loader) -> pd.DataFrame:
    return pd.concat([predict(model, loader, progress=False) for model in zoo.values()], ignore_index=True)


def attacked(zoo: Zoo, loader) -> pd.DataFrame:
    grid = (1 / 255, 4 / 255)
    parts = [
        attack_curve(model, loader, attack="pgd", eps_grid=grid, steps=5, progress=False) for model in zoo.values()
    ]
    return pd.concat(parts, ignore_index=True)


def manipulated(zoo: Zoo, loader) -> pd.DataFrame:
    conditions = {"patch_shuffle": (8,), "low_pass": (2,)}
    return predict_manipulated(zoo, loader, conditions=conditions, progress=False)


def similarity(zoo: Zoo, loader) -> pd.DataFrame:
    hsic, _ = cka.hsic_table(zoo, loader, n_permutations=2, progress=False)
    return cka_table(hsic)


# name -> (measure, column that is compared)
CHECKS: dict[str, tuple[Callable[[Zoo, object], pd.DataFrame], str]] = {
    "logits": (predictions, "logit_0"),
    "predictions": (predictions, "prediction"),
    "PGD-5 at 1 and 4/255": (attacked, "prediction"),
    "manipulated images": (manipulated, "prediction"),
    "CKA of all layers": (similarity, "cka"),
}


def compare(device: torch.device, *, n: int = N) -> pd.DataFrame:
    """One row per check: share of values alike on the device and on the CPU, the largest difference, and whether all is
    well; images a second on either."""
    here, there, rows = zoo_on("cpu"), zoo_on(device), []
    images = load_images(DATASET, "test").at_most(n, 0)
    for name, (measure, column) in CHECKS.items():
        found, rates = [], []
        for zoo, place in ((here, "cpu"), (there, device)):
            loader = make_loader(images, batch_size=min(n, BATCH), device=place)
            measure(zoo, loader)  # the first of a kind sets up libraries
            began = time.perf_counter()
            found.append(measure(zoo, loader)[column])
            rates.append(len(images) * len(zoo) / (time.perf_counter() - began))
        apart = (found[0] - found[1]).abs()
        rows.append(dict(check=name, alike=(apart <= NEAR).mean(), largest=apart.max(), cpu=rates[0], gpu=rates[1]))
    table = pd.DataFrame(rows)
    return table.assign(passed=table["alike"] >= ALIKE)


def training_rates(device: torch.device, *, n: int = N_TRAIN) -> pd.DataFrame:
    """Images a second of one epoch of each network on the device, in the faster number format, and of the CPU."""
    images, rows = load_images(DATASET, "train").at_most(n, 0), []
    for name in MODELS:
        row = dict(check=f"training, {name}")
        for column, place in (("cpu", torch.device("cpu")), ("gpu", device)):
            recipe = Recipe(epochs=2, batch_size=min(BATCH, n), dtype=fast_dtype(place))
            model = build_model(f"{name}@untrained", images)
            row[column] = n / train(model, images, recipe, device=place, progress=False)["seconds"].iloc[-1]
        rows.append(row)
    return pd.DataFrame(rows)


def zoo_on(device: torch.device | str) -> Zoo:
    return {(name, 0): copy.deepcopy(build_model(name, DATASET)).to(device).eval() for name in MODELS}


def advice(table: pd.DataFrame, device: torch.device) -> list[str]:
    """A line for each thing that is off, with what to do about it."""
    differ = table[~table["passed"].fillna(True).astype(bool)]
    lines = [
        f"{row.check}: only {row.alike:.1%} of the values are the CPU's (largest difference {row.largest:.2g}). Is "
        "TF32 forced (NVIDIA_TF32_OVERRIDE)? Try another driver or torch; trust no number of this card till they agree."
        for row in differ.itertuples()
    ]
    slow = table.loc[table["gpu"] < FASTER * table["cpu"], "check"]
    if len(slow):
        lines.append(
            f"Less than {FASTER:g} times as fast as this CPU: {', '.join(slow)}. Is the card shared or throttled, or "
            "are batches too small (batch_size in the notebooks)?"
        )
    if fast_dtype(device) == "float32":
        lines.append("The card has no bf16 units: training and PGD run in float32, at half the speed of newer ones.")
    if (os.cpu_count() or 1) < 4:
        lines.append("Fewer than four CPU cores: pictures that are decoded on the way may keep the card waiting.")
    return lines


def describe(device: torch.device) -> str:
    card = torch.cuda.get_device_properties(device)
    memory = f"{card.total_memory / 2**30:.0f} GiB"
    return f"{device_label(device)}, {memory}, CUDA {torch.version.cuda}, torch {torch.__version__}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--n", type=int, default=N, help=f"images of each check (default: {N})")
    asked = parser.parse_args(arguments)
    try:
        device = pick_device("cuda")
    except ValueError as error:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs alone"
        sys.exit(
            f"{error}\nThis torch ({torch.__version__}) is built for {built}; `nvidia-smi` says whether the driver "
            "sees a card. Without one all runs on the CPU."
        )
    print(describe(device), flush=True)
    checks = compare(device, n=asked.n)
    table = pd.concat([checks, training_rates(device, n=4 * asked.n)], ignore_index=True)
    shown = dict(cpu="CPU, images/s", gpu="GPU, images/s", largest="largest difference")
    print(table.rename(columns=shown).to_string(index=False, na_rep="", float_format="{:.4g}".format))
    lines = advice(table, device)
    print("\n".join(lines or ["Nothing is off."]))
    if not checks["passed"].all():
        sys.exit(1)


if __name__ == "__main__":
    main()
