"""Notebooks that run side by side on several GPUs have one each."""

import os

import pytest

from workflow import gpus


@pytest.fixture
def three(tmp_path, monkeypatch):
    """A machine with three GPUs, and what else /dev holds of them."""
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.setattr(gpus, "LOCKS", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def test_the_gpus_are_those_of_the_machine_or_those_that_are_named(three):
    assert gpus.visible_gpus() == ["0", "1", "10"]
    three.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-5a")
    assert gpus.visible_gpus() == ["1", "GPU-5a"]
    three.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.visible_gpus() == []


def test_each_takes_one_that_is_free(three):
    held = []
    for expected in ("0", "1", "10"):
        three.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # of the next process
        held.append(gpus.take_gpu())
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
    three.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus.take_gpu() is None and "CUDA_VISIBLE_DEVICES" not in os.environ  # all are taken
    os.close(held.pop(1))
    assert gpus.take_gpu() is not None and os.environ["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize("named", ["", "1"])
def test_with_fewer_than_two_nothing_changes(three, named):
    three.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus.take_gpu() is None and os.environ["CUDA_VISIBLE_DEVICES"] == named
