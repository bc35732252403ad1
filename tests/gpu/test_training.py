"""Training on the pretend GPU: every mode gives the CPU's weights, and a killed run goes on to those of a whole one."""

from dataclasses import replace

import pytest
import torch
from pretend_gpu import pretend_gpu
from torch import nn

from src.data import ImageSet
from src.models import PixelModel, build_model
from src.models.weights import load_state, read_weights
from src.names import parse_model
from src.training import Recipe, fine_tune, train
from src.training import loop as training
from src.training.inputs import Sets
from src.training.saving import save_trained, train_and_save

QUICK = Recipe(epochs=2, batch_size=10, crop_scale=0.7)
RECIPES = {
    "mlp": replace(QUICK, optimiser="muon", mixup=0.3, ema=0.9),
    "cnn": replace(QUICK, optimiser="sgd", lr=0.05, crop_scale=1.0, crop_pad=2, epochs=1, gradient_clip=0),
    "vit": replace(QUICK, eps_255=4, epochs=1, crop_scale=1.0, label_smoothing=0),
}
CLOSE = dict(rtol=1e-2, atol=2e-3)  # Adam turns a gradient of rounding into a whole step, but there are few


@pytest.fixture(scope="module")
def handful(clothes) -> ImageSet:
    return clothes.subset(20, seed=2)


def small(name: str) -> PixelModel:
    torch.manual_seed(0)
    size = {"mlp": "blocks=2,width=16", "cnn": "width=4", "vit": "embed_dim=16,depth=2,num_heads=2"}[name]
    model = build_model(name, "fashion_mnist", weights=None, size=size)
    if name == "mlp":
        model.net.blocks[0].block[1] = nn.Sequential(nn.GELU(), nn.Dropout(0.3))
    return model


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in model.state_dict().items()}


def assert_close(state: dict, expected: dict, **options) -> None:
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        near = torch.isclose(state[name].float(), value.float(), **(options or CLOSE))
        assert near.float().mean() > 0.98, name


@pytest.mark.parametrize("name", RECIPES)
def test_training_gives_the_weights_of_the_cpu(name, handful):
    def run(device: str):
        model = small(name)
        history = train(model, handful, RECIPES[name], val_set=handful, device=device, progress=False)
        return weights_of(model), history[["loss", "val_loss"]].to_numpy().ravel().tolist()

    expected, losses = run("cpu")
    with pretend_gpu() as gpu:
        state, pretended = run("cuda")
    assert gpu.waits and pretended == pytest.approx(losses, rel=1e-3)
    assert_close(state, expected)


def test_training_in_bfloat16_learns_as_in_float32(handful):
    with pretend_gpu():
        losses = [
            train(small("cnn"), handful, replace(QUICK, dtype=dtype, epochs=3), device="cuda", progress=False)["loss"]
            for dtype in ("auto", "float32")
        ]
    assert list(losses[0]) == pytest.approx(list(losses[1]), rel=0.05) and list(losses[0]) != list(losses[1])


@pytest.mark.parametrize("mode", ["linear", "linear, augmented", "full"])
def test_fine_tuning_gives_the_weights_of_the_cpu(mode, handful, tmp_path):
    recipe = replace(QUICK, crop_scale=0.7 if mode == "linear, augmented" else 1.0)

    def run(device: str):
        model = small("mlp")
        model.source = {"mlp.safetensors": "0"}
        mode_ = mode.partition(",")[0]
        history = fine_tune(model, handful, recipe, mode=mode_, val_set=handful, device=device, progress=False)
        table = training.predict(model, _loader(handful, device), progress=False)
        options = dict(mode=mode_, folder=tmp_path / device, data="clothes")
        path = save_trained(model, "mlp", "fashion_mnist", recipe, history, table, **options)
        return weights_of(model), read_weights(path)

    expected = run("cpu")
    with pretend_gpu():
        result = run("cuda")
    for state, wanted in zip(result, expected, strict=True):
        assert_close(state, wanted)


def _loader(images: ImageSet, device: str):
    from src.data.loaders import make_loader

    return make_loader(images, batch_size=10, device=device)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_killed_run_goes_on_to_the_same_weights(step, handful, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    run_step = training._training_step

    def run(folder: str, *, dies_at: int | None = None):
        left = [step if dies_at else 100]

        def mortal(*given):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return run_step(*given)

        monkeypatch.setattr(training, "_training_step", mortal)
        model = small("mlp")
        options = dict(val_set=handful, checkpoint_folder=tmp_path / folder, device="cuda", progress=False)
        history = train(model, handful, RECIPES["mlp"], **options)
        return weights_of(model), history.drop(columns="seconds")

    with pretend_gpu():
        whole, history = run("whole")
    with pretend_gpu(), pytest.raises(KeyboardInterrupt):
        run("killed", dies_at=step)
    with pretend_gpu() as gpu:  # another process, whose generators are elsewhere
        gpu.seed(99)
        resumed, as_before = run("killed")
    assert as_before.equals(history)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_weights_are_saved_with_a_card_and_read_again(handful, tmp_path):
    sets, path = Sets("fashion_mnist", "fashion_mnist", handful, handful, handful), tmp_path / "cnn.safetensors"
    with pretend_gpu():
        network = small("cnn")
        recipe = replace(RECIPES["cnn"], eps_255=4, mixup=0.0)
        options = dict(device="cuda", checkpoint_folder=tmp_path, half=True)
        card = train_and_save(network, parse_model("cnn"), sets, recipe, path, **options)
        assert card["provenance"]["device"] == "Pretend" and card["cores"] is None
        assert 0 <= card["robust"]["accuracy"] <= card["test"]["accuracy"]
        again = small("cnn").to("cuda")
        load_state(again.net, read_weights(path), source=path.name)
        assert next(again.parameters()).is_cuda
        assert_close(weights_of(again), weights_of(network), rtol=0, atol=0)
