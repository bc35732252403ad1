"""Cost of manipulating images, beside the forward pass they are made for, kornia, and ten passes, one for a class.

    python -m benchmarks.bench_texture_shape      # CIFAR-10's test set; writes results/benchmarks/texture_shape.csv

One thread, in turns, CPU seconds, on a GPU wall seconds; all contenders get the same batches in memory, and the process
keeps freed memory, as a study's does. "ours" is each manipulation at its middle level. "kornia" is the same operation
where kornia has one: the same function for grayscale, edges (but for the 0.000001 that it adds under the root) and
low_pass, with the largest difference from ours; for occlusion RandomErasing, which takes one rectangle; for
patch_shuffle RandomJigsaw, which may leave patches in place. Ours first looks whether all pixels lie in [0, 1].
Shares are of "forward", the model's pass over the same images.

"one pass" is `predict_manipulated`: all manipulations, once over the images, whatever their class. "ten passes" goes
over all images once for each class and counts that class alone, as the study's code of 2023 did. "per-class subset"
picks out the images of the class first. `forwards` are the images that went through the model, counted.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import kornia
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from src.data import load_images
from src.data.batches import Batch
from src.data.loaders import make_loader
from src.files import written_whole
from src.models import build_model
from src.paths import RESULTS
from src.runtime import keep_memory, pick_device, provenance
from src.tables.texture_shape import LEVELS
from src.texture_shape import MANIPULATIONS, manipulate, predict_manipulated

MIDDLE = {name: levels[len(levels) // 2] for name, levels in LEVELS.items()}
MIDDLE["occlusion_black"] = 0.25  # the area that the rectangle of RandomErasing covers below


def kornia_blur(pixels: Tensor) -> Tensor:
    blur, reach = MIDDLE["low_pass"], 2 * round(4 * MIDDLE["low_pass"]) + 1
    return kornia.filters.gaussian_blur2d(pixels, (reach, reach), (blur, blur), border_type="reflect")


def kornia_edges(pixels: Tensor) -> Tensor:
    grey = kornia.color.rgb_to_grayscale(pixels)
    return (2 * kornia.filters.sobel(grey)).clamp(max=1).expand_as(pixels)  # its kernel is scaled to half


# name -> (pixels -> pixels, whether it is the same function)
KORNIA: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "grayscale": (lambda pixels: kornia.color.rgb_to_grayscale(pixels).expand_as(pixels), True),
    "edges": (kornia_edges, True),
    "low_pass": (kornia_blur, True),
    "occlusion_black": (kornia.augmentation.RandomErasing(scale=(0.25, 0.25), ratio=(1.0, 1.0), p=1.0), False),
    "patch_shuffle": (kornia.augmentation.RandomJigsaw(grid=(8, 8), p=1.0), False),
}


class Counter(nn.Module):
    """Passes images on and counts them."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.n = inner, 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.n += len(pixels)
        return self.inner(pixels)


def accuracies_in_one_pass(model: nn.Module, batches: list[Batch], n_classes: int, level: dict) -> np.ndarray:
    """Accuracy of each class on clean images, then under each manipulation, [1 + manipulations, classes]."""
    table = predict_manipulated({("model", 0): model}, batches, conditions={name: (x,) for name, x in level.items()})
    table = table.assign(hit=table["label"] == table["prediction"])
    return table.pivot_table(index="condition", columns="label", values="hit").loc[["clean", *level]].to_numpy()


@torch.inference_mode()
def accuracies_in_ten_passes(
    model: nn.Module, batches: list[Batch], n_classes: int, level: dict, *, subset: bool = False
) -> np.ndarray:
    """The same, class after class: of all images, or of those of the class."""
    rows = []
    for name, x in {"clean": 0, **level}.items():
        for k in range(n_classes):
            right = total = 0
            for batch in batches:
                pixels, labels, ids = (values[batch.labels == k] if subset else values for values in batch)
                seen = pixels if name == "clean" else manipulate(name, pixels, ids, level=x)
                answers = model(seen).argmax(1)
                right += ((answers == labels) & (labels == k)).sum().item()
                total += (labels == k).sum().item()
            rows.append(right / total)
    return np.reshape(rows, (1 + len(level), n_classes))


def now(device: torch.device) -> float:
    """Seconds on the clock: of CPU time, or on a GPU of wall time, once it is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device) -> tuple[float, object]:
    start = now(device)
    result = work()
    return now(device) - start, result


@torch.inference_mode()
def time_operations(model: nn.Module, batches: list[Batch], rounds: int) -> pd.DataFrame:
    """One row per operation, contender and round; the first round warms up and is left out."""
    device, rows = batches[0].pixels.device, []
    for round_ in range(rounds + 1):
        some = batches if round_ else batches[:1]
        forward, _ = seconds_of(lambda some=some: [model(batch.pixels) for batch in some], device)
        for name in MANIPULATIONS:
            work = {
                "ours": lambda some=some, name=name: [
                    manipulate(name, batch.pixels, batch.sample_ids, level=MIDDLE[name]) for batch in some
                ]
            }
            if name in KORNIA:
                work["kornia"] = lambda some=some, name=name: [KORNIA[name][0](batch.pixels) for batch in some]
            for contender in list(work)[:: 1 if round_ % 2 else -1]:
                taken, _ = seconds_of(work[contender], device)
                rows.append(dict(operation=name, contender=contender, round=round_, seconds=taken, forward=forward))
        print(f"round {round_} of {rounds}: operations", flush=True)
    table = pd.DataFrame(rows)
    return table[table["round"] > 0]


def summarise_operations(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over rounds; ratios to the forward pass, and of kornia to ours, within each round."""
    ours = table[table["contender"] == "ours"].set_index(["operation", "round"])["seconds"].rename("ours")
    table = table.join(ours, on=["operation", "round"])
    table["share_of_forward"] = table["seconds"] / table["forward"]
    table["speed_up_of_ours"] = table["seconds"] / table["ours"]
    columns = ["seconds", "share_of_forward", "speed_up_of_ours"]
    return table.groupby(["operation", "contender"], sort=False)[columns].median().reset_index()


@torch.inference_mode()
def differences_from_kornia(batch: Batch) -> dict[str, float]:
    """Largest difference of a pixel, away from the border, where the two mirror images otherwise."""
    differences = {}
    for name, (operation, same) in KORNIA.items():
        if same:
            ours = manipulate(name, batch.pixels, batch.sample_ids, level=MIDDLE[name])
            inner = (ours - operation(batch.pixels))[..., 8:-8, 8:-8]
            differences[name] = inner.abs().max().item()
    return differences


def time_passes(model: nn.Module, batches: list[Batch], n_classes: int) -> pd.DataFrame:
    """One row for each way to get all accuracies of all classes; fails if they do not agree."""
    ways = {
        "one pass": accuracies_in_one_pass,
        "ten passes": accuracies_in_ten_passes,
        "per-class subset": lambda *arguments: accuracies_in_ten_passes(*arguments, subset=True),
    }
    rows, first = [], None
    for contender, way in ways.items():
        counter = Counter(model).eval()
        taken, accuracies = seconds_of(
            lambda way=way, c=counter: way(c, batches, n_classes, MIDDLE), batches[0].pixels.device
        )
        first = accuracies if first is None else first
        if abs(accuracies - first).max() > 1e-3:
            raise RuntimeError(
                f"{contender} gives other accuracies than one pass, by up to {abs(accuracies - first).max():.3g}"
            )
        rows.append(dict(operation="all, by class", contender=contender, seconds=taken, forwards=counter.n))
        print(f"{contender}: {taken:.1f} s", flush=True)
    table = pd.DataFrame(rows)
    return table.assign(speed_up_of_ours=table["seconds"] / table["seconds"].iloc[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cnn", help="a name for build_model")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--n", type=int, default=10_000, help="test images for the operations, as many of every class")
    parser.add_argument(
        "--n-passes", type=int, default=1_000, help="test images for the passes: 11 times over, and 110"
    )
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "texture_shape.csv")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_memory()
    device = pick_device(asked.device)
    model, test_set = build_model(asked.model, asked.dataset).to(device), load_images(asked.dataset, "test")
    batches, few = (
        list(make_loader(test_set.subset(n, seed=0), batch_size=asked.batch_size, device=device))
        for n in (asked.n, asked.n_passes)
    )
    operations = summarise_operations(time_operations(model, batches, asked.rounds)).assign(n=asked.n)
    differences = differences_from_kornia(batches[0])
    theirs = operations["contender"] == "kornia"
    operations.loc[theirs, "difference"] = operations.loc[theirs, "operation"].map(differences)
    passes = time_passes(model, few, len(test_set.classes)).assign(n=asked.n_passes)
    summary = pd.concat([operations, passes], ignore_index=True)
    print(summary.round(4).to_string(index=False))
    conditions = {name: getattr(asked, name) for name in ("model", "dataset", "batch_size", "rounds", "threads")}
    summary = summary.assign(**conditions, device=provenance(device)["device"])
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "kornia"))
    summary["versions"] = f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores"
    with written_whole(asked.out) as path:
        summary.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
