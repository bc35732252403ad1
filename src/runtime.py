"""Seeds, devices, and the facts about a run that a result must carry."""

import ctypes
import os
import platform
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.paths import ROOT

CPUINFO = Path("/proc/cpuinfo")  # of Linux
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt in glibc's malloc.h
RECORDED_PACKAGES = ("torch", "torchvision", "timm", "numpy", "datasets", "ffcv")


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, numpy and torch (all devices) and return a CPU generator with the same seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def pick_device(name: str = "auto", *, float64: bool = False) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then Apple's MPS, then the CPU.

    float64: whether it must compute in double precision, which MPS does not.  On CUDA, float32 is float32 from here on:
    torch's default of TF32 for convolutions, good to three digits, is switched off, but for what asks for `tf32`.
    Raises ValueError when the named device is not on this machine: a run asked to use a GPU never falls back.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if float64 and name.partition(":")[0] == "mps":
        raise ValueError(f"device {name!r} computes no float64, which is needed here; choose cpu")
    here["mps"] &= not float64
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device(next(kind for kind, there in here.items() if there))
    kind, _, index = name.partition(":")
    is_here = here.get(kind, False)
    if is_here and index:
        is_here = index.isdecimal() and int(index) < (torch.cuda.device_count() if kind == "cuda" else 1)
    if not is_here:
        choices = ", ".join(kind for kind, there in here.items() if there)
        raise ValueError(f"device {name!r} is not on this machine; choose from auto, {choices}")
    return torch.device(name)


def keep_memory() -> None:
    """From here on the memory of freed tensors stays with the process, for the next ones.

    By default glibc gives large blocks back at once, and the kernel must clear every page again: a forward pass on a
    CPU takes a quarter to a third longer for it.  With another C library nothing changes.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(option, value)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values of the host on a device, which is not waited for."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def device_label(device: torch.device) -> str:
    """The card's name for a GPU, the processor's for a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor_name()


def fast_dtype(device: torch.device | str) -> str:
    """The number format that trains fastest on `device`: "bfloat16" where it is computed in hardware, or "float32".

    bfloat16 is taken on CUDA that has it, and on CPUs whose Linux lists AVX512-BF16 or AMX; on other CPUs it would be
    emulated, ten times slower than float32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        flags = set(" ".join(_cpuinfo("flags")[:1]).split())
        fast = device.type == "cpu" and bool(flags & {"avx512_bf16", "amx_bf16"})
    return "bfloat16" if fast else "float32"


def check_dtype(dtype: str, device: torch.device | str) -> None:
    """Raise ValueError for "tf32" on what is no CUDA card of compute capability 8 or more."""
    device = torch.device(device)
    if dtype == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8):
        needs = "a CUDA card of compute capability 8 or more"
        raise ValueError(f"dtype 'tf32' needs {needs}, not {device_label(device)}; choose float32, bfloat16 or auto")


@contextmanager
def tf32(dtype: str) -> Iterator[None]:
    """In the block, and where dtype is "tf32", float32 matrix products and convolutions on CUDA round to ten bits."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        if dtype == "tf32":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


def _processor_name() -> str:
    names = _cpuinfo("model name")
    return names[0] if names else platform.processor() or platform.machine()


def _cpuinfo(entry: str) -> list[str]:
    """What Linux says of each core under this entry; nothing on other systems."""
    if not CPUINFO.exists():
        return []
    return [
        line.split(":", 1)[1].strip()
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith(entry)
    ]


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git, or a downloaded archive
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def provenance(device: torch.device | str = "cpu") -> dict:
    """What a reader needs to know where a number comes from: time, commit, machine, threads and versions."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "device": device_label(torch.device(device)),
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
        "cpus": os.cpu_count(),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in RECORDED_PACKAGES},
    }
