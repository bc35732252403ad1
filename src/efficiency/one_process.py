"""All timings in a fresh process: `python -m src.efficiency.one_process JSON`.

The JSON holds models and others (label -> the parts of a name), task, folder (of a run's own weights), device, place
(the working directory) and the options of `time_all`. Printed is its table, as JSON in one line.
"""

import json
import os
import sys
from contextlib import redirect_stdout
from functools import partial

import torch

from src.efficiency.timing import time_all
from src.models import build_model
from src.models.build import Task
from src.names import ModelName
from src.runtime import pick_device


def main(asked: str) -> None:
    """Print the table; what else is printed goes to the errors."""
    asked = json.loads(asked)
    os.chdir(asked["place"])
    task, device, options = Task(**asked["task"]), pick_device(asked["device"]), asked["options"]
    build = partial(build_model, dataset=task, folder=asked["folder"])
    models, others = (
        {label: partial(build, ModelName(**name)) for label, name in names.items()}
        for names in (asked["models"], asked["others"])
    )
    generator = torch.Generator().manual_seed(options["seed"])
    pixels = torch.rand(max([16, *options["batch_sizes"]]), 3, task.side, task.side, generator=generator).to(device)
    with redirect_stdout(sys.stderr):
        table = time_all(models, pixels, others=others, progress=False, **options)
    print(table.to_json(orient="split", index=False, double_precision=15))


if __name__ == "__main__":
    main(*sys.argv[1:])
