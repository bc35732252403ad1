"""Compiled steps train to the same weights, under the same names, and are refused where they cannot be."""

import os
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from src.models import build_model
from src.training import Recipe, compiled, loop, train
from src.training import distributed as processes

QUICK = Recipe(epochs=2, batch_size=25, crop_scale=1.0, lr=1e-2, ema=0.5)


@pytest.fixture
def graphs(monkeypatch):
    """The sizes of the batches for which a pass was compiled; what compiles takes the graph as it is."""
    sizes = []

    def as_it_is(graph, inputs):
        sizes.extend(len(x) for x in inputs if isinstance(x, torch.Tensor) and x.shape[1:] == (3, 32, 32))
        return graph.forward

    monkeypatch.setattr(compiled, "BACKEND", as_it_is)
    torch._dynamo.reset()
    yield sizes
    torch._dynamo.reset()


def untrained(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, "fashion_mnist", weights=None, size="small")


@pytest.mark.parametrize("name, changes", [("mlp", {}), ("cnn", {}), ("cnn", {"eps_255": 4.0})])
def test_compiled_steps_train_to_the_same_weights(few_clothes, graphs, name, changes):
    some, recipe = few_clothes.subset(40, seed=0), replace(QUICK, **changes)
    plain, other = untrained(name), untrained(name)
    history = train(plain, some, recipe, val_set=some, progress=False)
    assert not graphs
    again = train(other, some, replace(recipe, compile=1), val_set=some, progress=False)
    assert set(graphs) == {25, 15}  # the last batch too
    assert list(other.state_dict()) == list(plain.state_dict())
    for column in ("loss", "val_loss"):
        assert again[column].to_numpy() == pytest.approx(history[column].to_numpy(), rel=1e-3)
    for ours, theirs in zip(other.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_a_compiled_run_that_is_interrupted_goes_on(few_clothes, graphs, monkeypatch, tmp_path):
    some, recipe = few_clothes.subset(40, seed=0), replace(QUICK, compile=1)
    whole, parted = untrained("mlp"), untrained("mlp")
    train(whole, some, recipe, progress=False)
    step, taken = loop._training_step, []

    def three(*given):
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(given)
        return step(*given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "_training_step", three)
        train(parted, some, recipe, checkpoint_folder=tmp_path, progress=False)
    parted = untrained("mlp")
    train(parted, some, recipe, checkpoint_folder=tmp_path, progress=False)
    for ours, theirs in zip(parted.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not any(map(shutil.which, compiled.COMPILERS)), reason="no compiler of C++")
@pytest.mark.skipif("ATEN_CPU_CAPABILITY" in os.environ, reason="torch compiles for this CPU, not for an older one")
def test_torch_compiles_a_step(few_clothes):
    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU(), nn.Linear(8, 10))

    some, plain, other = few_clothes.subset(20, seed=0), net(), net()
    recipe = replace(QUICK, batch_size=20)
    history = train(plain, some, recipe, progress=False)
    again = train(other, some, replace(recipe, compile=1), progress=False)
    assert again["loss"].to_numpy() == pytest.approx(history["loss"].to_numpy(), rel=1e-3)


def test_what_cannot_be_compiled_is_refused(few_clothes, monkeypatch):
    some, recipe = few_clothes.subset(20, seed=0), replace(QUICK, compile=1)
    with pytest.raises(ValueError, match="compile must be 0 or 1, not 2"):
        replace(QUICK, compile=2)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"compile=1 needs a compiler of C\+\+, and there is no g\+\+ or clang\+\+"):
        train(untrained("mlp"), some, recipe, progress=False)
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="compile=1 is for one process"):
        compiled.compiled(nn.Linear(1, 1))
