"""Costs besides steady time: the cold start of a fresh process, and energy."""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from src.data.image_set import ImageSet
from src.efficiency.timing import synchronise
from src.efficiency.variants import Runner
from src.models.build import Task, describe_task
from src.names import ModelName, parse_model
from src.paths import ROOT


def time_cold_start(
    name: str | ModelName,
    dataset: str | ImageSet | Task,
    *,
    folder: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Milliseconds in a fresh process to build a model with its weights, for its first image, and for its third.

    name, dataset, folder: as of `build_model`.  Keys: build_ms, first_ms, third_ms.  Importing torch is not in them.
    Raises RuntimeError with the process's own words when it fails.
    """
    model = name if isinstance(name, ModelName) else parse_model(name)
    asked = dict(model=asdict(model), task=asdict(describe_task(dataset)), device=str(device), place=str(Path.cwd()))
    asked["folder"] = str(folder) if folder else None
    build, first, _, third = json.loads(
        in_fresh_process("src.efficiency.cold_start", asked, what=f"the cold start of {model.label}")
    )
    return {"build_ms": build, "first_ms": first, "third_ms": third}


def in_fresh_process(module: str, asked: dict, *, what: str) -> str:
    """The last line that a module, by its whole name, prints when it is run with `asked`, as JSON, in a fresh process.

    Raises RuntimeError, "`what` failed", with the process's own words.
    """
    command = [sys.executable, "-m", module, json.dumps(asked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{what} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout.splitlines()[-1]


def energy_per_image(runner: Runner, *, n_images: int, device: torch.device, seconds: float = 2.0) -> float | None:
    """Joules of the whole card for one image, by NVML's counter over about `seconds`; None where there is no counter.

    runner: of `prepare`, on n_images.  Needs the package nvidia-ml-py, and a card that counts (Volta or newer).
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        with torch.inference_mode():
            runner()
            synchronise(device)
            begin, joules, calls = time.perf_counter(), pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), 0
            while time.perf_counter() - begin < seconds:
                runner()
                synchronise(device)
                calls += 1
        return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - joules) / 1e3 / (calls * n_images)
    except pynvml.NVMLError_NotSupported:
        return None
    finally:
        pynvml.nvmlShutdown()
