"""The first predictions of a fresh process, timed: `python -m src.efficiency.cold_start cnn cifar10`.

Prints as JSON the milliseconds to build the model with its weights, and for each of its first three images.
"""

import argparse
import json
import time

import torch

from src.models import build_model
from src.runtime import pick_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--weights", default="default", help="as of build_model; empty for an untrained network")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=32)
    asked = parser.parse_args()

    device = pick_device(asked.device)
    times = [time.perf_counter()]
    model = build_model(asked.model, asked.dataset, weights=asked.weights or None).to(device)
    times.append(time.perf_counter())
    pixels = torch.zeros(1, 3, asked.side, asked.side, device=device)
    with torch.inference_mode():
        for _ in range(3):
            model(pixels).cpu()
            times.append(time.perf_counter())
    print(json.dumps([1e3 * (end - begin) for begin, end in zip(times, times[1:], strict=False)]))


if __name__ == "__main__":
    main()
