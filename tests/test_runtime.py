import json
import platform
import random
import subprocess
import sys
from contextlib import nullcontext
from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch import nn

from src.attacks import pgd
from src.paths import ROOT
from src.runtime import device_label, fast_dtype, pick_device, provenance, seed_everything, tf32
from src.training import Recipe


def draw(generator: torch.Generator) -> list[float]:
    shared = [random.random(), np.random.rand(), torch.rand(()).item()]
    return [*shared, torch.rand((), generator=generator).item()]


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5])
def test_the_same_seed_gives_the_same_numbers_everywhere(seed):
    first = draw(seed_everything(seed))
    assert draw(seed_everything(seed)) == first
    assert all(a != b for a, b in zip(first, draw(seed_everything(seed + 1)), strict=True))


def test_pick_device():
    assert pick_device("cpu") == torch.device("cpu")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device().type == pick_device("auto").type == best


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cpu:x", "tpu:0"])
def test_a_device_that_is_not_here_is_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=f"device '{name}' is not on this machine; choose from auto, .*cpu"):
        pick_device(name)


def test_what_needs_float64_leaves_mps_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == pick_device("mps").type == "mps"
    assert pick_device("auto", float64=True).type == "cpu"
    with pytest.raises(ValueError, match="device 'mps' computes no float64, which is needed here; choose cpu"):
        pick_device("mps", float64=True)


def test_float32_is_no_tf32_and_a_table_says_so(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as torch has it
    assert provenance()["tf32"] is True
    pick_device()
    assert provenance()["tf32"] is False


def switches() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_tf32_is_on_for_what_asks_for_it_and_no_longer(monkeypatch):
    seen = {}

    class Spy(nn.Linear):
        def forward(self, pixels):
            seen[torch.is_grad_enabled()] = switches()
            return super().forward(pixels.flatten(1))

    monkeypatch.setattr("src.attacks.engine.check_dtype", lambda *_: None)  # a CPU does not have it
    pick_device()
    torch.manual_seed(0)
    pgd(Spy(48, 10), torch.rand(4, 3, 4, 4), torch.arange(4), eps=0.1, dtype="tf32", early_stop=False)
    assert seen == {True: (True, True), False: (False, False)} and switches() == (False, False)
    with pytest.raises(RuntimeError), tf32("tf32"):
        raise RuntimeError
    assert switches() == (False, False)


def test_tf32_is_refused_where_there_is_none(monkeypatch):
    words = "dtype 'tf32' needs a CUDA card of compute capability 8 or more, not .*; choose float32, bfloat16 or auto"
    pixels, labels = torch.rand(4, 3, 4, 4), torch.arange(4)
    for ask in (
        lambda: Recipe(dtype="tf32").on("cpu"),
        lambda: pgd(nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), pixels, labels, eps=0.1, dtype="tf32"),
    ):
        with pytest.raises(ValueError, match=words):
            ask()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old")
    for capability in ((7, 5), (8, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        with pytest.raises(ValueError, match=words) if capability < (8, 0) else nullcontext():
            assert Recipe(dtype="tf32").on("cuda").dtype == "tf32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_run_that_asks_for_a_gpu_never_falls_back():
    with pytest.raises(ValueError, match="device 'cuda' is not on this machine"):
        pick_device("cuda")


@pytest.mark.parametrize(
    "flags, expected",
    [
        ("fpu avx2 avx512f avx512_bf16", "bfloat16"),
        ("fpu avx512f amx_bf16 amx_tile", "bfloat16"),
        ("fpu avx2 avx512f", "float32"),
        (None, "float32"),  # no Linux
    ],
)
def test_bfloat16_is_fast_only_where_the_processor_has_it(monkeypatch, tmp_path, flags, expected):
    file = tmp_path / "cpuinfo"
    if flags:
        file.write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    monkeypatch.setattr("src.runtime.CPUINFO", file)
    assert fast_dtype("cpu") == fast_dtype(torch.device("cpu")) == expected
    assert fast_dtype("mps") == "float32"
    if flags:
        assert device_label(torch.device("cpu")) == "Some CPU"


@pytest.mark.parametrize("there, expected", [(True, "bfloat16"), (False, "float32")])
def test_bfloat16_on_a_gpu_that_has_it(monkeypatch, there, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: there)
    assert fast_dtype("cuda") == expected


def test_provenance_says_where_a_number_comes_from():
    facts = provenance()
    assert json.loads(json.dumps(facts)) == facts
    expected = {"time", "commit", "device", "threads", "cpus", "platform", "python", "packages", "tf32"}
    assert set(facts) == expected
    assert facts["packages"]["torch"] == version("torch") and facts["packages"]["numpy"] == np.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert facts["device"] == device_label(torch.device("cpu")) != ""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if head.returncode == 0:
        assert facts["commit"] == head.stdout.strip()


def test_provenance_outside_a_repository_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr("src.runtime.ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    facts = provenance()
    assert facts["commit"] is None


FAULTS = """
import resource, sys, torch
from src.runtime import keep_memory
if sys.argv[1:]:
    keep_memory()
for turn in range(30):
    if turn == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_used_again():
    """Pages that the kernel hands out while 64 MiB are made and freed ten times, after the first twenty."""
    command = [sys.executable, "-c", FAULTS]
    plain, kept = (
        int(subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        for more in ([], ["keep"])
    )
    assert kept < plain / 10
