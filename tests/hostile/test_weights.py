"""Weights, cards and checkpoints that are damaged, foreign or hostile: named, not unpickled, and nothing is touched."""

import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from refusals import first_line
from safetensors.torch import save_file
from torch import nn

from src.files import sha256
from src.models import build_model
from src.models.weights import load_state, read_card, read_state_dict, read_weights, save_weights
from src.training import checkpoints


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


class Hostile:
    """Touches a file when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch F",)


CARDS = [  # what the card holds, or changes in a right one; how the error goes on after the card's name
    ("", " is damaged (Expecting value"),
    ("{", " is damaged (Expecting property name"),
    ("[]", " is damaged (a list and no object)"),
    ("null", " is damaged (a NoneType and no object)"),
    ("3", " is damaged (a int and no object)"),
    ("[" * 100_000, " is damaged ("),
    (b"\xff\xfe{}", " is damaged ('utf-8' codec can't decode"),
    ("{}", " is damaged (without a right sha256)"),
    (dict(sha256=5), " is damaged (without a right sha256)"),
    (dict(sha256=None), " is damaged (without a right sha256)"),
    (dict(model=["mlp"]), " is damaged (without a right model)"),
    (dict(dataset=10), " is damaged (without a right dataset)"),
    (dict(size=3), " is damaged (without a right size)"),
    (dict(side="32"), " is damaged (without a right side)"),
    (dict(side=0), " is damaged (std is above 0, side from 1 to 4096)"),
    (dict(side=10**9), " is damaged (std is above 0, side from 1 to 4096)"),
    (dict(mean=0.5), " is damaged (without a right mean)"),
    (dict(mean=[0.5]), " is damaged (mean and std are three numbers each)"),
    (dict(mean=["a", "b", "c"]), " is damaged (mean and std are three numbers each)"),
    (dict(mean=[0, 0, float("nan")]), " is damaged (mean and std are three numbers each)"),
    (dict(std=[0.2, 0.2, 0.0]), " is damaged (std is above 0"),
    (dict(backbone="vit.safetensors"), " is damaged (without a right backbone)"),
]


@pytest.mark.parametrize(("card", "says"), CARDS, ids=lambda value: str(value)[:40])
def test_a_card_that_says_what_cannot_be_is_refused_by_name(card, says, net, tmp_path):
    right = save_weights(net, tmp_path / "w.safetensors", {"model": "mlp", "dataset": "cifar10", "mean": [0.5] * 3})
    card = json.dumps(right | card) if isinstance(card, dict) else card
    (tmp_path / "w.json").write_bytes(card if isinstance(card, bytes) else card.encode())
    said = first_line(lambda: read_card(tmp_path / "w.safetensors"), tmp_path)
    assert said.startswith(f"~/w.json{says}") and len(said) < 200


SAFETENSORS = [
    b"",
    b"not safetensors",
    struct.pack("<Q", 2**63) + b"{}",
    struct.pack("<Q", 10**15) + b"{}",
    struct.pack("<Q", 2) + b"[]",
    struct.pack("<Q", 2) + b"\xff\xff",
    struct.pack("<Q", 68) + b'{"weight":{"dtype":"F32","shape":[9999999],"data_offsets":[0,4]}}   ' + bytes(4),
    struct.pack("<Q", 64) + b'{"weight":{"dtype":"PY","shape":[1],"data_offsets":[0,4]}}      ' + bytes(4),
]


@pytest.mark.parametrize("content", SAFETENSORS, ids=lambda content: repr(content[:20]))
def test_a_file_whose_card_was_made_to_fit_is_refused_all_the_same(content, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps({"sha256": sha256(path)}))
    said = first_line(lambda: read_weights(path), tmp_path)
    assert said.startswith("~/w.safetensors is not a whole safetensors file: ")


STATES = [
    ("pickle", "~/w.pt is damaged, or holds more than tensors"),
    (
        "module",
        "~/w.pt is damaged, or holds more than tensors (it names torch.nn.modules.linear.Linear) and is refused",
    ),
    ("hostile", "~/w.pt is damaged, or holds more than tensors"),
    ("cut", "~/w.pt is damaged, or holds more than tensors and is refused; save the state dict alone"),
    ("text", "~/w.pt is damaged, or holds more than tensors"),
    ("empty", "~/w.pt is damaged, or holds more than tensors"),
    ("zip", "~/w.pt is damaged, or holds more than tensors"),
    ("folder", "~/w.pt is damaged, or holds more than tensors"),
    ([1, 2], "~/w.pt holds no state dict of tensors; save the state dict alone"),
    ("a text", "~/w.pt holds no state dict of tensors"),
    ({"weight": 3.0}, "~/w.pt holds no state dict of tensors"),
    ({"state_dict": {"model": None}}, "~/w.pt holds no state dict of tensors"),
    ({1: torch.zeros(3)}, "~/w.pt holds no state dict of tensors"),
    ({}, "~/w.pt holds no state dict of tensors"),
]


@pytest.mark.parametrize(("content", "says"), STATES, ids=lambda value: str(value)[:40])
def test_a_state_dict_of_a_stranger_is_refused_and_runs_nothing(content, says, net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pt"
    torch.save(net if content == "module" else Hostile() if content == "hostile" else content, path)
    if content == "pickle":
        path.write_bytes(pickle.dumps({"weight": Hostile()}))
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif content in ("text", "empty"):
        path.write_text("<html>not found</html>" if content == "text" else "")
    elif content == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("data.pkl", pickle.dumps(Hostile()))
    elif content == "folder":
        path.unlink()
        path.mkdir()
    assert first_line(lambda: read_state_dict(path, str(path)), tmp_path).startswith(says)


OTHERS = [
    (
        {"weight": torch.zeros(3, 4).to(torch.int8), "bias": torch.zeros(3)},
        "x does not fit the model: weight is int8, not",
    ),
    (
        {"weight": torch.zeros(3, 4, dtype=torch.complex64), "bias": torch.zeros(3)},
        "x does not fit the model: weight is c",
    ),
    ({"weight": torch.zeros(3, 4), "bias": torch.zeros(3, dtype=torch.bool)}, "x does not fit the model: bias is bool"),
    ({"weight": torch.zeros(4, 3), "bias": torch.zeros(3)}, "x does not fit the model: Error(s) in loading state_dict"),
    ({"weight": torch.zeros(3, 4)}, "x does not fit the model: Error(s) in loading state_dict"),
    (
        {"weight": torch.full((3, 4), torch.nan), "bias": torch.zeros(3)},
        "x holds values that are not finite, in weight",
    ),
    ({"weight": torch.zeros(3, 4), "bias": torch.full((3,), torch.inf)}, "x holds values that are not finite, in bias"),
]


@pytest.mark.parametrize(("state", "says"), OTHERS, ids=lambda value: str(value)[:40])
def test_a_state_that_is_another_network_s_leaves_the_network_as_it_was(state, says, net, tmp_path):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert first_line(lambda: load_state(net, state, source="x"), tmp_path).startswith(says)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


NAMES = [
    ("cnn@seed99", "no weights cnn_fashion_mnist_seed99.safetensors for model 'cnn' on 'fashion_mnist'; in "),
    ("cnn@none.pt", "no weights none.pt for model 'cnn'; beside it are: "),
    (
        "cnn@~/none.safetensors",
        "no weights ~/none.safetensors for model 'cnn'; beside it are: bare.safetensors, w.s",
    ),
    ("cnn@~", "~ is no file of weights; they end in one of .safetensors, .pt, .pth"),
    ("cnn@~/w.json", "~/w.json is no file of weights"),
    ("cnn@~/pipe.pt", "no weights ~/pipe.pt"),
    ("cnn@../../etc", "../../etc is no file of weights"),
    ("cnn@a\0b.pt", "no weights a\0b.pt"),
    ("cnn@~/w.safetensors", "~/w.safetensors holds weights of mlp on cifar10, not of cnn on fashion_mnist"),
    ("mlp@~/w.safetensors", "~/w.safetensors holds weights of mlp on cifar10, not of mlp on fashion_mnist"),
    ("cnn@~/bare.safetensors", "~/bare.safetensors has no card bare.json beside it; it cannot be told what these"),
    ("cnnn", "unknown model 'cnnn' (did you mean 'cnn'?); choose from mlp, cnn, vit"),
    ("CNN", "unknown model 'CNN'"),
    ("timm:", "unknown model 'timm:'"),
    ("timm:resnet1888", "timm has no model 'resnet1888'; near names: "),
    ("hub:owner/name", "unknown model 'hub:owner/name'"),
    ("~/none.py:build", "model '~/none.py:build': there is no file ~/none.py, seen from "),
    ("os.py:system", "model 'os.py:system': there is no file os.py"),
]


@pytest.mark.parametrize(("name", "says"), NAMES)
def test_weights_and_models_that_a_name_does_not_mean_are_told(name, says, net, tmp_path):
    save_weights(net, tmp_path / "w.safetensors", {"model": "mlp", "dataset": "cifar10"})
    save_file(net.state_dict(), tmp_path / "bare.safetensors")
    os.mkfifo(tmp_path / "pipe.pt")
    said = first_line(lambda: build_model(name.replace("~", str(tmp_path)), "fashion_mnist"), tmp_path)
    assert said.startswith(says)


CHECKPOINTS = [b"", b"no checkpoint", {}, [], {"progress": {}}, {"progress": {"epoch": 1, "pace": 2}}, "cut"]


@pytest.mark.parametrize("content", CHECKPOINTS, ids=str)
def test_a_checkpoint_that_is_not_whole_is_refused_by_name(content, net, tmp_path):
    path = tmp_path / "run.pt"
    checkpoints.save(path, checkpoints.Progress(), model=net)
    if isinstance(content, bytes) or content == "cut":
        path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:-100])
    else:
        torch.save(content, path)
    said = first_line(lambda: checkpoints.restore(path, model=net), tmp_path)
    assert said == "~/run.pt is not a whole checkpoint; delete it to start that run again"
