"""The first predictions of a fresh process, timed: `python -m src.efficiency.cold_start JSON`.

The JSON holds model (the parts of its name), task, folder (of a run's own weights), device and place (the working
directory). Printed as JSON are the milliseconds to build the model with its weights, and for each of three images.
"""

import json
import os
import sys
import time

import torch

from src.models import build_model
from src.models.build import Task
from src.names import ModelName
from src.runtime import pick_device


def main(asked: str) -> None:
    """Print the milliseconds, as JSON: of building the model, then of each of three images."""
    asked = json.loads(asked)
    os.chdir(asked["place"])
    task, device, times = Task(**asked["task"]), pick_device(asked["device"]), [time.perf_counter()]
    model = build_model(ModelName(**asked["model"]), task, folder=asked["folder"]).to(device)
    times.append(time.perf_counter())
    pixels = torch.zeros(1, 3, task.side, task.side, device=device)
    with torch.inference_mode():
        for _ in range(3):
            model(pixels).cpu()
            times.append(time.perf_counter())
    print(json.dumps([1e3 * (end - begin) for begin, end in zip(times, times[1:], strict=False)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
