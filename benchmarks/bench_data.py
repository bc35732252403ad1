"""Training images per second of each loader: random resized crop, flip, [0, 1] floats, batches of 500.

    python -m benchmarks.bench_data            # CIFAR-10's training set; writes results/benchmarks/data.csv

The same work in one run on one torch thread and at most one worker: torchvision's data set and transforms through
torch's DataLoader, FFCV (where installed; its crops are resized by area, not bilinearly), and this study's `memory` and
`ffcv` backends. The loaders take turns, so that all meet the machine's drift, and the first batch, with its
compilation, is timed apart. Wall time is a model's wait, CPU time the cores' share that it loses.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from src.data import ImageSet, load_images
from src.data.augment import Augmentation
from src.data.beton import write_beton
from src.data.loaders import make_loader
from src.files import written_whole
from src.paths import RESULTS
from src.runtime import provenance

BATCH, SCALE = 500, (0.35, 1.0)


class PictureDataset(Dataset):
    """A first attempt, as users write it: one PIL picture at a time through torchvision's transforms."""

    def __init__(self, image_set: ImageSet):
        self.image_set = image_set
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(image_set.images.shape[1], scale=SCALE),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.image_set)

    def __getitem__(self, i: int):
        return self.transform(Image.fromarray(self.image_set.images[i])), int(self.image_set.labels[i])


def torchvision_batches(image_set: ImageSet) -> Iterable:
    return DataLoader(PictureDataset(image_set), batch_size=BATCH, shuffle=True, num_workers=0)


def memory_batches(image_set: ImageSet) -> Iterable:
    return make_loader(image_set, batch_size=BATCH, augment=Augmentation(scale=SCALE), shuffle=True)


def ffcv_backend_batches(image_set: ImageSet) -> Iterable:
    return make_loader(image_set, batch_size=BATCH, augment=Augmentation(scale=SCALE), shuffle=True, backend="ffcv")


def ffcv_batches(image_set: ImageSet) -> Iterable:
    """FFCV as its users write it: its own random resized crop and flip, then [0, 1] floats."""
    from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import Convert, RandomHorizontalFlip, ToTensor, ToTorchImage

    side = image_set.images.shape[1]
    path = Path(tempfile.gettempdir()) / f"bench_{image_set.name}_{len(image_set)}.beton"
    if not path.exists():
        write_beton(path, image_set.images, image_set.labels)
    decode = RandomResizedCropRGBImageDecoder((side, side), scale=SCALE)
    image = [decode, RandomHorizontalFlip(), ToTensor(), ToTorchImage(convert_back_int16=False), Convert(torch.float32)]
    loader = Loader(
        str(path),
        batch_size=BATCH,
        num_workers=1,
        os_cache=True,
        order=OrderOption.RANDOM,
        pipelines={"image": image, "label": [IntDecoder(), ToTensor()]},
    )
    return ((pixels / 255, labels) for pixels, labels in loader)


LOADERS: dict[str, Callable[[ImageSet], Iterable]] = {
    "torchvision + DataLoader": torchvision_batches,
    "FFCV": ffcv_batches,
    "memory": memory_batches,
    "ffcv backend": ffcv_backend_batches,
}


def time_pass(make: Callable[[ImageSet], Iterable], image_set: ImageSet, n: int) -> dict[str, float]:
    """Wall and CPU seconds of the first batch (the loader's making included) and of the rest of `n` images."""
    wall, cpu = time.perf_counter(), time.process_time()
    seen, first = 0, None
    for pixels, *_ in make(image_set):
        seen += len(pixels)
        if first is None:
            first = dict(first_batch_s=time.perf_counter() - wall, first_batch_cpu_s=time.process_time() - cpu)
            wall, cpu, seen = time.perf_counter(), time.process_time(), 0
        if seen >= n:
            break
    return first | dict(images=seen, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def measure(image_set: ImageSet, rounds: int, n: int) -> pd.DataFrame:
    """One row per loader and round, the loaders taking turns in an order drawn for each round."""
    names = [name for name in LOADERS if "ffcv" not in name.lower() or find_spec("ffcv")]
    rng, rows = np.random.default_rng(0), []
    for round_ in range(rounds):
        for name in rng.permutation(names):
            slow = name.startswith("torchvision")
            rows.append(dict(loader=name, round=round_) | time_pass(LOADERS[name], image_set, n // 10 if slow else n))
            print(f"round {round_ + 1} of {rounds}: {name}", flush=True)
    table = pd.DataFrame(rows)
    table["images_per_s"] = table["images"] / table["wall_s"]
    table["images_per_cpu_s"] = table["images"] / table["cpu_s"]
    return table


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over rounds, their range, and the ratio to torchvision + DataLoader of the same round."""
    base = table[table["loader"] == "torchvision + DataLoader"].set_index("round")
    table = table.assign(
        speed_up=table["images_per_s"] / table["round"].map(base["images_per_s"]),
        cpu_speed_up=table["images_per_cpu_s"] / table["round"].map(base["images_per_cpu_s"]),
    )
    grouped = table.groupby("loader")
    summary = grouped[["images_per_s", "images_per_cpu_s", "speed_up", "cpu_speed_up", "first_batch_s"]].median()
    # the first of all first batches pays for what is compiled or imported once in a process
    summary["first_batch_cold_s"] = grouped["first_batch_s"].first()
    summary["cpu_speed_up_low"] = grouped["cpu_speed_up"].min()
    summary["cpu_speed_up_high"] = grouped["cpu_speed_up"].max()
    return summary.sort_values("images_per_cpu_s").reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=49_000, help="per loader and round; torchvision does a tenth")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    image_set = load_images(asked.dataset, "train")
    summary = summarise(measure(image_set, asked.rounds, min(asked.images, len(image_set) - BATCH)))
    facts = provenance()
    summary = summary.assign(dataset=asked.dataset, rounds=asked.rounds, threads=1, device=facts["device"])
    summary["versions"] = f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"
    print(summary.round(3).to_string(index=False))
    with written_whole(RESULTS / "benchmarks" / "data.csv") as path:
        summary.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
