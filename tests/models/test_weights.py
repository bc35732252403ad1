import contextlib
import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from src.files import fingerprint
from src.models import build_model, weights
from src.models.pixel_model import classifier_name
from src.models.weights import find_weights, load_state, read_card, read_weights, save_head, save_weights
from src.names import ModelName, parse_model


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    net(torch.randn(20, 7))  # running statistics, and an integer counter
    return net


@pytest.fixture
def saved(net, tmp_path):
    path = tmp_path / "toys" / "toy_cifar10.safetensors"
    save_weights(net, path, {"size": "small"})
    return path


def test_weights_come_back_bit_by_bit_with_their_card(net, saved):
    state = read_weights(saved)
    assert set(state) == set(net.state_dict())
    for key, value in net.state_dict().items():
        assert torch.equal(state[key], value) and state[key].dtype == value.dtype
    card = read_card(saved)
    assert card["size"] == "small" and card["file"] == "toy_cifar10.safetensors" and card["storage"] == "float32"
    assert card["n_parameters"] == 7 * 5 + 5 + 2 * 5 + 5 * 3 + 3
    assert sorted(file.name for file in saved.parent.iterdir()) == ["toy_cifar10.json", "toy_cifar10.safetensors"]
    assert saved.stat().st_mode & 0o777 == 0o644


def test_half_precision_halves_the_file_and_keeps_eleven_bits(net, saved, tmp_path):
    half = tmp_path / "half.safetensors"
    save_weights(net, half, {}, half=True)
    for key, value in net.state_dict().items():
        found = read_weights(half)[key]
        assert found.dtype == value.dtype
        np.testing.assert_allclose(found.numpy(), value.numpy(), rtol=2**-11, atol=2**-24)
    assert read_weights(half)["1.num_batches_tracked"] == 1
    assert read_card(half)["storage"] == "float16"
    n = sum(value.numel() for value in net.state_dict().values() if value.is_floating_point())
    assert saved.stat().st_size - half.stat().st_size > n


@pytest.mark.parametrize("half, value", [(True, 1e6), (False, float("nan")), (False, float("inf"))])
def test_weights_that_would_not_come_back_are_not_written(net, tmp_path, half, value):
    net[2].bias.data[1] = value
    with pytest.raises(ValueError, match=r"2\.bias would hold values that are not finite"):
        save_weights(net, tmp_path / "w.safetensors", {}, half=half)
    assert not list(tmp_path.iterdir())


def test_tied_layers_and_masks_come_back(tmp_path):
    tied = nn.Linear(7, 7)
    net = nn.Sequential(tied, nn.ReLU(), tied)
    net.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    save_weights(net, tmp_path / "w.safetensors", {})
    again = copy.deepcopy(net)
    nn.init.zeros_(again[0].weight)
    load_state(again, read_weights(tmp_path / "w.safetensors"), source="w")
    assert torch.equal(again[2].weight, tied.weight) and torch.equal(again.mask, net.mask)
    net.mask[0, 0] = torch.nan
    with pytest.raises(ValueError, match="mask would hold values that are not finite"):
        save_weights(net, tmp_path / "w.safetensors", {})


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "net.", "module._orig_mod."])
def test_what_wrappers_put_before_all_keys_is_taken_off(net, wrapper):
    again = copy.deepcopy(net)
    nn.init.zeros_(again[0].weight)
    warned = pytest.warns(UserWarning, match="x is the state of a PixelModel, which has not its mean and std")
    with warned if wrapper == "net." else contextlib.nullcontext():
        load_state(again, {wrapper + key: value for key, value in net.state_dict().items()}, source="x")
    assert torch.equal(again[0].weight, net[0].weight)
    own = nn.ModuleDict({"module": nn.Linear(2, 2)})  # a part's name is no wrapper
    load_state(own, own.state_dict(), source="x")


@pytest.mark.parametrize("damage", ["cut", "altered", "longer", "another", "empty"])
def test_a_damaged_file_is_refused_by_name(saved, net, damage):
    whole = saved.read_bytes()
    if damage == "another":
        net[0].weight.data += 1
        save_weights(net, saved.with_name("other.safetensors"), {})
        changed = saved.with_name("other.safetensors").read_bytes()
    else:
        middle = len(whole) - 10
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        changed = {"cut": whole[:middle], "altered": flipped, "longer": whole + b"\0", "empty": b""}[damage]
    saved.write_bytes(changed)
    with pytest.raises(ValueError, match=r"toy_cifar10\.safetensors is not the file its card describes"):
        read_weights(saved)


def test_a_card_that_fits_a_file_which_is_no_safetensors_does_not_help(saved):
    saved.write_bytes(b"not safetensors")
    card = read_card(saved) | {"sha256": weights.sha256(saved)}
    saved.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"toy_cifar10\.safetensors is not a whole safetensors file"):
        read_weights(saved)


def test_weights_without_a_card_are_refused(saved):
    saved.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"toy_cifar10\.safetensors has no card toy_cifar10\.json"):
        read_weights(saved)


def test_weights_that_are_not_there_are_named_with_those_that_are(saved, monkeypatch):
    toy = ModelName("toy", "toy", "seed1")
    monkeypatch.setattr(weights, "ROOT", saved.parent)
    with pytest.raises(FileNotFoundError, match="no weights toy_cifar10_seed1.safetensors.*there are none"):
        find_weights("none", toy, ["cifar10"])
    (saved.parent / "toy_models").mkdir()
    saved.rename(saved.parent / "toy_models" / saved.name)
    with pytest.raises(FileNotFoundError, match="in .*toy_models there are: toy_cifar10.safetensors. "):
        find_weights("toy", replace(toy, weights="default"), ["cifar100"])
    assert find_weights("toy", replace(toy, weights="default"), ["other", "cifar10"]).name == saved.name
    with pytest.raises(FileNotFoundError, match="no weights .*x.safetensors for model 'toy'; beside it are: none"):
        find_weights("toy", replace(toy, weights=str(saved.parent / "x.safetensors")), ["cifar10"])


def test_a_runs_own_weights_come_before_the_shipped_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    own = tmp_path / "runs" / "mine" / "weights"
    for file in ("toy_models/toy_set.safetensors", "runs/mine/weights/toy_set_w8.safetensors"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()

    def found(name: str, dataset: str = "set") -> str:
        return find_weights("toy", parse_model(name), [dataset], folder=own).relative_to(tmp_path).as_posix()

    assert found("toy") == found("a=toy") == "toy_models/toy_set.safetensors"
    assert found("toy@w8") == found("a=toy@w8") == "runs/mine/weights/toy_set_w8.safetensors"
    (own / "toy_set.safetensors").touch()
    assert found("toy") == found("a=toy") == "runs/mine/weights/toy_set.safetensors"
    (own / "a_set.safetensors").touch()
    assert found("a=toy") == "runs/mine/weights/a_set.safetensors"
    (own / "mine.py-build_my-set.safetensors").touch()
    assert found("mine.py:build", "my set") == "runs/mine/weights/mine.py-build_my-set.safetensors"
    with pytest.raises(FileNotFoundError) as refusal:
        found("a=toy@w9")
    for part in (
        "no weights a_set_w9.safetensors for model 'toy' on 'set'",
        "in .*runs/mine/weights there are: a_set.*, mine.py-b.*, toy_set.*; in .*toy_models there are: toy_set.s",
        r'`make train MODEL=a=toy DATASET=set ARGS="--label w9 --run mine"` trains them',
        "toy@untrained .*is the network untrained",
    ):
        assert re.search(part, str(refusal.value))
    with pytest.raises(ValueError, match="w.bin is no file of weights; they end in one of .safetensors, .pt, .pth"):
        found("toy@runs/w.bin")


@pytest.mark.parametrize("moment", ["state", "half a state", "card", "rename"])
@pytest.mark.parametrize("old", [True, False])
def test_when_saving_fails_the_old_files_stay_and_nothing_else(net, tmp_path, monkeypatch, moment, old):
    path = tmp_path / "w.safetensors"
    if old:
        save_weights(net, path, {"age": "old"})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*arguments, **_):
        if moment == "half a state":
            arguments[1].write_bytes(b"half")
        raise OSError("disk full")

    target = {"card": "src.models.weights.json.dumps", "rename": "src.files.os.replace"}.get(
        moment, "src.models.weights.save_file"
    )
    monkeypatch.setattr(target, fail)
    net[0].weight.data += 1
    with pytest.raises(OSError, match="disk full"):
        save_weights(net, path, {"age": "new"})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_difference_in_keys_or_shapes_is_listed_and_nothing_is_loaded(net):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    state["2.weight"] = torch.zeros(10, 5)
    state["3.weight"] = state.pop("0.bias")
    with pytest.raises(ValueError) as refusal:
        load_state(net, state, source="somewhere")
    for part in (
        "somewhere does not fit the model",
        'Missing key(s) in state_dict: "0.bias"',
        'Unexpected key(s) in state_dict: "3.weight"',
        "2.weight: copying a param with shape torch.Size([10, 5]) from checkpoint, the shape in current model is "
        "torch.Size([3, 5])",
    ):
        assert part in str(refusal.value)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_long_list_of_differences_is_cut():
    deep = nn.Sequential(*(nn.Linear(2, 2) for _ in range(200)))
    with pytest.raises(ValueError, match='somewhere does not fit the model: .*Missing key.*"0.weight".* …$') as refusal:
        load_state(deep, {}, source="somewhere")
    assert len(str(refusal.value)) < 1000


def test_the_fingerprint_follows_every_value():
    tensors = [torch.zeros(3, 2), torch.tensor(4)]
    first = fingerprint(*tensors)
    assert fingerprint(*(tensor.clone() for tensor in tensors)) == first
    tensors[0][2, 1] = 1e-30
    assert fingerprint(*tensors) != first
    assert fingerprint(torch.zeros(3, 2).T.contiguous().T, torch.tensor(4)) == first  # other strides, same values


@pytest.fixture
def head_on_backbone(tmp_path):
    """A vit of ten classes whose backbone was saved with another head, and the two files."""
    torch.manual_seed(0)
    backbone = build_model("vit", "cifar10", weights=None, size="small")
    about = {"size": "small", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    card = save_weights(backbone.net, tmp_path / "vit_cifar100_small.safetensors", about)
    new = nn.Linear(128, 10)
    head = tmp_path / "vit_fashion_mnist_linear.safetensors"
    save_head(new, "head", head, about | {"backbone": {"vit_cifar100_small.safetensors": card["sha256"]}})
    return backbone, new, head


def test_a_head_file_is_put_on_its_backbone(head_on_backbone):
    backbone, new, head = head_on_backbone
    model = build_model("vit", "fashion_mnist", weights=head)
    assert model.size == "small"
    torch.testing.assert_close(model.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    for key, value in model.net.state_dict().items():
        expected = (
            new.state_dict()[key.removeprefix("head.")] if key.startswith("head.") else backbone.net.state_dict()[key]
        )
        assert torch.equal(value, expected)
    files = {head.name: weights.sha256(head)} | read_card(head)["backbone"]
    assert model.source == files and len(files) == 2
    assert head.stat().st_size < 10_000
    assert classifier_name(model.net) == "head"


def test_a_head_whose_backbone_was_trained_again_is_refused(head_on_backbone):
    backbone, _, head = head_on_backbone
    backbone.net.head.bias.data += 1
    card = read_card(head.with_name("vit_cifar100_small.safetensors"))
    save_weights(backbone.net, head.with_name("vit_cifar100_small.safetensors"), card)
    with pytest.raises(
        ValueError, match="linear.safetensors was trained on another backbone than .*small.safetensors is"
    ):
        build_model("vit", "fashion_mnist", weights=head)
