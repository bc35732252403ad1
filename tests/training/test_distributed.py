"""Training on two processes is training on one: the same loss curve, one card, and it can be killed and go on."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import several
import torch

from src.data.loaders import make_loader
from src.models.weights import read_weights
from src.paths import ROOT
from src.training import checkpoints, distributed


def torchrun(*arguments, ends_well: bool = True) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, ROOT / "tests" / "several.py", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode == 0) == ends_well, done.stderr[-3000:]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder, and what each of two processes came to."""
    folder = tmp_path_factory.mktemp("several")
    torchrun(folder, "all")
    return folder, [torch.load(folder / f"all_{number}.pt", weights_only=False) for number in (0, 1)]


@pytest.mark.parametrize("name", [*several.CURVES, "tuned"])
def test_two_processes_have_the_loss_curve_of_one(together, name):
    alone = several.tuned() if name == "tuned" else several.curve(name)
    for found in together[1]:
        expected, history = (pd.DataFrame(one["history"]) for one in (alone, found[name]))
        pd.testing.assert_frame_equal(history, expected, check_exact=False, rtol=1e-4, atol=1e-5)
        for key, value in alone["weights"].items():
            # single weights of tiny gradients may differ more: Adam divides by the gradient's size
            assert (found[name]["weights"][key] - value).norm() <= 1e-3 * value.norm() + 1e-6, key
    first, second = (found[name]["weights"] for found in together[1])
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_several_processes_cannot_train_is_said(together):
    for found in together[1]:
        batch_norm, linear, batches = found["said"]
        assert "BatchNorm cannot be trained on 2 CPU processes" in batch_norm and "or GPUs" in batch_norm
        assert "trained by one process; start it without torchrun" in linear
        assert "71 images in batches of 10 leave one of 1, which cannot be shared by 2 processes" in batches


def test_one_card_is_written(together):
    folder, (first, second) = together
    assert second["card"] is None and first["card"]["file"] == "mlp.safetensors"
    assert sorted(path.name for path in folder.glob("mlp.*")) == ["mlp.json", "mlp.safetensors"]
    assert json.loads((folder / "mlp.json").read_text()) == first["card"]
    assert read_weights(folder / "mlp.safetensors")
    assert len(list((folder / "checkpoints").iterdir())) == 1


def test_a_killed_run_of_two_goes_on_to_the_same_weights(tmp_path):
    """With dropout, whose numbers each process draws from a generator of its own, kept in the checkpoint."""
    torchrun(tmp_path, "undisturbed")
    torchrun(tmp_path, "killed", 7, ends_well=False)
    assert len(list((tmp_path / "killed").glob("*.pt"))) == 1 and not list(tmp_path.glob("killed_*.pt"))
    torchrun(tmp_path, "killed")
    for number in (0, 1):
        expected, found = (torch.load(tmp_path / f"{case}_{number}.pt") for case in ("undisturbed", "killed"))
        assert found["history"] == expected["history"]
        assert all(torch.equal(found["weights"][key], expected["weights"][key]) for key in expected["weights"])
        assert torch.equal(found["next_random"], expected["next_random"])
    others = torch.load(tmp_path / "killed_0.pt")
    assert not torch.equal(found["next_random"], others["next_random"])  # each draws its own


@pytest.mark.parametrize("device, gpus", [("cuda", 1), ("mps", 0)])
def test_each_process_needs_a_gpu_of_its_own(monkeypatch, device, gpus):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=f"2 processes on {device} need a CUDA device each, and there are {gpus}"):
        distributed.join(device)


def test_a_cluster_that_sets_the_number_of_processes_for_itself_changes_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert (distributed.world_size(), distributed.rank(), distributed.join("cpu")) == (1, 0, torch.device("cpu"))


def test_every_batch_is_shared(few_clothes):
    """20 images in batches of 8, the last of 4, among three."""
    some = few_clothes.subset(20, seed=0)
    whole = make_loader(some, batch_size=8, shuffle=True, seed=3)
    shares = [make_loader(some, batch_size=8, shuffle=True, seed=3) for _ in range(3)]
    for number, loader in enumerate(shares):
        loader.share_with(number, 3)
    sizes = []
    for batch, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([part.sample_ids for part in parts]), batch.sample_ids)
        assert torch.equal(torch.cat([part.pixels for part in parts]), batch.pixels)
        sizes.append([len(part.labels) for part in parts])
    assert sizes == [[3, 3, 2], [3, 3, 2], [2, 1, 1]]


def test_a_process_that_the_run_did_not_have_keeps_its_generator(tmp_path, monkeypatch):
    checkpoints.save(tmp_path / "c.pt", checkpoints.Progress(epoch=1))
    saved = torch.get_rng_state()
    torch.manual_seed(5)
    own = torch.get_rng_state()
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert checkpoints.restore(tmp_path / "c.pt").epoch == 1 and torch.equal(torch.get_rng_state(), own)
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    checkpoints.restore(tmp_path / "c.pt")
    assert torch.equal(torch.get_rng_state(), saved) and not torch.equal(saved, own)
