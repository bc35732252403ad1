"""The first predictions of a fresh process, timed: `python -m src.efficiency.cold_start cnn cifar10 default cpu 32`.

Prints as JSON the milliseconds to build the model with its weights ("" for none), and for each of three images.
"""

import json
import sys
import time

import torch

from src.models import build_model
from src.runtime import pick_device


def main(name: str, dataset: str, weights: str, device: str, side: str) -> None:
    """Print the milliseconds, as JSON: of building the model, then of each of three images of `side` pixels."""
    device, times = pick_device(device), [time.perf_counter()]
    model = build_model(name, dataset, weights=weights or None).to(device)
    times.append(time.perf_counter())
    pixels = torch.zeros(1, 3, int(side), int(side), device=device)
    with torch.inference_mode():
        for _ in range(3):
            model(pixels).cpu()
            times.append(time.perf_counter())
    print(json.dumps([1e3 * (end - begin) for begin, end in zip(times, times[1:], strict=False)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
