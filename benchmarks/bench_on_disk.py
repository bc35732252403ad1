"""Evaluation of a set larger than memory: images a second and peak memory, from the file and from RAM.

    python -m benchmarks.bench_on_disk        # writes a beton of 4 GB into data/.cache and removes it again

Each row is a process of its own on one thread that classifies every image by a linear model. `limit_gib` bounds its
writable memory (RLIMIT_DATA), so that a process that holds the whole set dies there. `added_mib` is the growth of its
own memory from the opened set to the peak, without pages of files, which the system takes back at will.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from src.data import load as data
from src.data.beton import write_beton
from src.data.loaders import make_loader
from src.files import written_whole
from src.paths import DATA, RESULTS
from src.runtime import provenance

BYTES = 3 * 32 * 32


def own_memory() -> float:
    """MiB of this process's memory without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def make_set(path: Path, gigabytes: float) -> int:
    """Write a raw beton of noise, by way of a file of its pixels, so that memory stays small; returns n images."""
    n = int(gigabytes * 1e9) // BYTES
    scratch, rng = path.with_suffix(".raw"), np.random.default_rng(0)
    images = np.memmap(scratch, np.uint8, mode="w+", shape=(n, 32, 32, 3))
    for first in range(0, n, 50_000):
        images[first : first + 50_000] = rng.integers(0, 256, (min(50_000, n - first), 32, 32, 3), np.uint8)
    write_beton(path, images, rng.integers(0, 10, n), classes=list("0123456789"))
    scratch.unlink()
    return n


@torch.inference_mode()
def measure(path: str, where: str, limit_gib: float) -> dict:
    """A row on this process: images per second over a pass, after a first batch, and the growth of memory."""
    torch.set_num_threads(1)
    if limit_gib:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gib * 2**30),) * 2)
    data.IN_MEMORY_BYTES = 0 if where == "file" else 1 << 60
    images = data.load_images(f"beton:{path}", "test")
    model = nn.Sequential(nn.Flatten(), nn.Linear(BYTES, 10))
    loader = make_loader(images, batch_size=500)
    model(next(iter(loader)).pixels)
    before = largest = own_memory()
    start, right = time.perf_counter(), 0
    for number, batch in enumerate(loader):
        right += int((model(batch.pixels).argmax(1) == batch.labels).sum())
        if number % 50 == 0:
            largest = max(largest, own_memory())
    seconds = time.perf_counter() - start
    row = dict(images_from=where, limit_gib=limit_gib, n=len(images), images_per_s=len(images) / seconds)
    return row | dict(opened_mib=before, added_mib=largest - before, accuracy=right / len(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--limit-gib", type=float, default=2.0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(**json.loads(asked.one))))
        return
    path = DATA / ".cache" / "test_bench_on_disk.beton"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        n = make_set(path, asked.gigabytes)
        for where, limit in (("file", asked.limit_gib), ("RAM", 0), ("RAM", asked.limit_gib)):
            question = json.dumps(dict(path=str(path), where=where, limit_gib=limit))
            command = [sys.executable, "-m", "benchmarks.bench_on_disk", "--one", question]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and "MemoryError" not in done.stderr and "allocate memory" not in done.stderr:
                raise RuntimeError(done.stderr)
            died = dict(images_from=where, limit_gib=limit, n=n, outcome="out of memory")
            rows.append(died if done.returncode else json.loads(done.stdout.splitlines()[-1]) | dict(outcome="done"))
    finally:
        for file in path.parent.glob("test_bench_on_disk.*"):
            file.unlink()
    table = pd.DataFrame(rows)
    facts = provenance("cpu")
    table = table.assign(gigabytes=asked.gigabytes, threads=1, machine=facts["device"], time=facts["time"])
    print(table.to_string(index=False))
    with written_whole(RESULTS / "benchmarks" / "on_disk.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
