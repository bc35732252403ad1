"""Training images a second of the compact networks by their CIFAR-10 recipes: this study's loop and a plain one.

    python -m benchmarks.bench_training        # writes results/benchmarks/training.csv

Both train the same network with the same optimiser, crops and mixup in the same number format, on one thread. The plain
loop is a DataLoader without workers over Pillow images, with torchvision's transforms and torch's optimisers. "Muon in
float32" is what this study's loop takes where bfloat16 would be emulated; "compiled", what it does with compile=1,
whose first step (first_step_s) compiles. All take turns on the same images, and the fastest turn counts. The second
half of the rows comes from a process that is held to AVX2, in float32, as on a CPU without bfloat16.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from src.data import ImageSet, load_images
from src.data.loaders import make_loader
from src.files import written_whole
from src.models import build_model
from src.paths import RESULTS
from src.runtime import device_label
from src.training import Recipe, loop
from src.training.compiled import compiled
from src.training.optimisers import Float32Muon, make_optimisers
from src.training.recipe import RECIPES

N = 512  # images of a turn
TURNS = 3


class Pictures(torch.utils.data.Dataset):
    """Pillow images with their labels, transformed one by one."""

    def __init__(self, images: ImageSet, transform: Callable):
        self.pictures = [Image.fromarray(image) for image in images.images]
        self.labels, self.transform = images.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[i]), self.labels[i]


def plain(images: ImageSet, recipe: Recipe, network) -> Iterator[int]:
    """Steps of the plain loop, each of so many images."""
    pad = v2.RandomCrop(32, recipe.crop_pad, padding_mode="reflect")
    crop = pad if recipe.crop_pad else v2.RandomResizedCrop(32, (recipe.crop_scale, 1.0))
    steps = [crop, v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    mixup = v2.MixUp(alpha=recipe.mixup, num_classes=10) if recipe.mixup else None
    collate = (lambda rows: mixup(*torch.utils.data.default_collate(rows))) if mixup else None
    batches = DataLoader(
        Pictures(images, v2.Compose(steps)), batch_size=recipe.batch_size, shuffle=True, collate_fn=collate
    )
    sgd = recipe.optimiser == "sgd"
    hidden = [p for p in network.parameters() if p.ndim == 2][:-1] if recipe.optimiser == "muon" else []
    rest = [p for p in network.parameters() if all(p is not matrix for matrix in hidden)]
    first = torch.optim.SGD(rest, recipe.lr, 0.9, nesterov=True) if sgd else torch.optim.AdamW(rest, recipe.lr)
    optimisers = [first, *([torch.optim.Muon(hidden, recipe.lr)] if hidden else [])]
    for pixels, labels in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.dtype == "bfloat16"):
            logits = network(pixels).float()
        F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing).backward()
        if recipe.gradient_clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        yield len(pixels)


def ours(images: ImageSet, recipe: Recipe, network, *, muon: type) -> Iterator[int]:
    """Steps of this study's loop; muon: the optimiser of hidden matrices."""
    batches = make_loader(images, batch_size=recipe.batch_size, shuffle=True, augment=recipe.augmentation() or False)
    optimisers = make_optimisers(network, recipe)
    if recipe.optimiser == "muon":
        hidden = [p for group in optimisers[1].param_groups for p in group["params"]]
        optimisers[1] = muon(hidden, lr=recipe.lr, adjust_lr_fn="match_rms_adamw")
    for batch in batches:
        yield loop._training_step(network, optimisers, batch, recipe)[2]


def timed(steps: Iterator[int]) -> tuple[float, float]:
    """Seconds of a turn's first step, and images a second in the others."""
    began = time.perf_counter()
    next(steps)
    first = time.perf_counter()
    return first - began, sum(steps) / (time.perf_counter() - first)


CONTENDERS = {
    "plain loop": plain,
    "ours": partial(ours, muon=torch.optim.Muon),
    "ours, compiled": partial(ours, muon=torch.optim.Muon),
    "ours, Muon in float32": partial(ours, muon=Float32Muon),
}


def measure(dtype: str) -> None:
    """Print the rows of this process as JSON."""
    torch.set_num_threads(1)
    images = load_images("cifar10", "train").subset(N, seed=0)
    about = dict(dtype=dtype, held_to=os.environ.get("ONEDNN_MAX_CPU_ISA", ""), torch=torch.__version__)
    for name in ("mlp", "cnn", "vit"):
        recipe = replace(RECIPES[name, "cifar10", "base"], dtype=dtype)
        contenders = dict(list(CONTENDERS.items())[: 4 if recipe.optimiser == "muon" else 3])
        if about["held_to"]:  # torch compiles for the CPU as it is
            del contenders["ours, compiled"]
        networks = {who: build_model(name, "cifar10", weights=None).train() for who in contenders}
        networks |= {who: compiled(network) for who, network in networks.items() if who == "ours, compiled"}
        turns = {who: [] for who in contenders}
        for _ in range(TURNS):
            for who, steps in contenders.items():
                turns[who].append(timed(steps(images, recipe, networks[who])))
        for who, found in turns.items():
            row = dict(model=name, contender=who, images_per_s=round(max(speed for _, speed in found), 1))
            row |= dict(first_step_s=round(found[0][0], 1))
            print(json.dumps(row | about | dict(machine=device_label(torch.device("cpu")))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--measure", choices=("float32", "bfloat16"), help="in this process; what the command itself runs"
    )
    if dtype := parser.parse_args().measure:
        return measure(dtype)
    rows = []
    for dtype, held in (("bfloat16", {}), ("float32", {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"})):
        command = [sys.executable, "-m", "benchmarks.bench_training", "--measure", dtype]
        done = subprocess.run(command, env=os.environ | held, check=True, stdout=subprocess.PIPE, text=True)
        rows += map(json.loads, done.stdout.splitlines())
    table = pd.DataFrame(rows)
    print(table)
    with written_whole(RESULTS / "benchmarks" / "training.csv") as partial_file:
        table.to_csv(partial_file, index=False)


if __name__ == "__main__":
    main()
