"""The error of a common way to time inference, for each architecture.

    python -m benchmarks.bench_efficiency             # embedded images; writes results/benchmarks/efficiency.csv

"as in 2023": one pass of a loader that decodes picture by picture, model and first batch inside the clock, divided by
the number of images. "memory loader inside": the same with this study's loader. "ours": the median of `time_inference`
on images that lie on the device, warmed up. The three take turns within each round. `times_ours` is how much slower a
network seems, the median over rounds; rankings and ratios of networks are judged by `ratio_to_mlp`.
"""

import argparse
import itertools
import os
import platform
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from src.data import ImageSet, load_images
from src.data.loaders import make_loader
from src.efficiency import time_inference
from src.files import written_whole
from src.models import build_model
from src.paths import RESULTS
from src.runtime import provenance


class Pictures(Dataset):
    """One PIL picture at a time, as tutorials load images."""

    def __init__(self, image_set: ImageSet):
        self.image_set, self.transform = image_set, v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.image_set)

    def __getitem__(self, i: int):
        return self.transform(Image.fromarray(self.image_set.images[i])), int(self.image_set.labels[i])


def whole_pass(model: torch.nn.Module, batches: Iterable) -> float:
    """Milliseconds an image of a pass over a loader, loading and first batch included."""
    begin, n = time.perf_counter(), 0
    with torch.no_grad():
        for pixels, *_ in batches:
            model(pixels)
            n += len(pixels)
    return 1e3 * (time.perf_counter() - begin) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn", "vit"])
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "efficiency.csv")
    asked = parser.parse_args()

    torch.set_num_threads(asked.threads)
    images = load_images(asked.dataset, "test").subset(asked.n, seed=0)
    (first, *_) = make_loader(images, batch_size=asked.batch_size)

    def build(name: str) -> torch.nn.Module:
        return build_model(name, asked.dataset)

    def ours(name: str) -> float:
        times = time_inference({name: partial(build, name)}, first.pixels, progress=False)
        return times["ms"].median() / len(first.pixels)

    ways = {
        "as in 2023": lambda name: whole_pass(build(name), DataLoader(Pictures(images), asked.batch_size)),
        "memory loader inside": lambda name: whole_pass(build(name), make_loader(images, batch_size=asked.batch_size)),
        "ours": ours,
    }
    turns = itertools.product(range(asked.rounds), asked.models, ways.items())
    table = pd.DataFrame(
        [dict(model=name, way=way, round=round_, ms=measure(name)) for round_, name, (way, measure) in turns]
    )
    wide = table.pivot(index=["model", "round"], columns="way", values="ms")
    table = table.join(wide["ours"].rename("ours_ms"), on=["model", "round"])
    table["times_ours"] = table["ms"] / table["ours_ms"]
    grouped = table.groupby(["way", "model"], sort=False)
    summary = grouped["ms"].agg(["median", "min", "max"]).add_prefix("ms_an_image_")
    summary["times_ours"] = grouped["times_ours"].median()
    summary = summary.reset_index()
    base = summary[summary["model"] == asked.models[0]].set_index("way")["ms_an_image_median"]
    summary[f"ratio_to_{asked.models[0]}"] = summary["ms_an_image_median"] / summary["way"].map(base)
    print(summary.to_string(index=False, float_format="{:.3g}".format))
    conditions = {name: getattr(asked, name) for name in ("dataset", "n", "batch_size", "rounds", "threads")}
    summary = summary.assign(**conditions, device=provenance("cpu")["device"])
    summary["versions"] = f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"
    with written_whole(asked.out) as path:
        summary.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
