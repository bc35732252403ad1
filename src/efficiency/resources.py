"""What a model takes besides steady time: a cold start, memory at the peak, energy."""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.efficiency.timing import synchronise
from src.efficiency.variants import Runner
from src.paths import ROOT

COLD = """
import json, sys, time
import torch
from src.models import build_model
from src.runtime import pick_device
name, dataset, weights, device, side = json.loads(sys.argv[1])
device = pick_device(device)
begin = time.perf_counter()
model = build_model(name, dataset, weights=weights).to(device)
built = time.perf_counter()
pixels = torch.zeros(1, 3, side, side, device=device)
times = [built]
with torch.inference_mode():
    for _ in range(3):
        model(pixels).cpu()
        times.append(time.perf_counter())
print(json.dumps([1e3 * (built - begin), *(1e3 * (b - a) for a, b in zip(times, times[1:]))]))
"""


def cold_start(
    name: str, dataset: str, *, weights: str | None = "default", device: str = "cpu", side: int = 32
) -> dict:
    """Milliseconds in a fresh process to build a model with its weights, for its first image, and for its third.

    Importing torch is not in it. Raises RuntimeError with the process's own words when it fails.
    """
    asked = json.dumps([name, dataset, weights, device, side])
    done = subprocess.run([sys.executable, "-c", COLD, asked], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the cold start of {name} failed: {done.stderr.strip().splitlines()[-1:]}")
    build, first, _, third = json.loads(done.stdout.splitlines()[-1])
    return {"build_ms": build, "first_ms": first, "third_ms": third}


def measured_memory(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> float:
    """Bytes at the peak of one forward pass beyond what was there before, buffers inside operators included.

    On a GPU what torch allocated; on the CPU the growth of the process's resident memory (Linux), which is coarse and
    0 where memory that was freed before is used again: take a large batch in a fresh process.
    """
    if pixels.is_cuda:
        torch.cuda.synchronize(pixels.device)
        torch.cuda.reset_peak_memory_stats(pixels.device)
        before, peak = torch.cuda.memory_allocated(pixels.device), torch.cuda.max_memory_allocated
    else:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before, peak = _resident("VmRSS"), lambda _: _resident("VmHWM")
    with torch.inference_mode():
        model(pixels)
    synchronise(pixels.device)
    return float(max(peak(pixels.device) - before, 0))


def _resident(field: str) -> int:
    """In bytes, as Linux tells it; FileNotFoundError elsewhere."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def energy_per_image(runner: Runner, *, n_images: int, device: torch.device, seconds: float = 2.0) -> float | None:
    """Joules of the whole card for one image, by NVML's counter over about `seconds`; None where there is no counter.

    Needs the package nvidia-ml-py, and a card that counts (Volta or newer).
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
