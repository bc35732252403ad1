"""A model that is looked into comes back as it was; what is no image is refused."""

import pytest
import torch
from torch import nn

from src.models.access import frozen, hooked
from src.models.checks import check_images


@pytest.fixture
def model():
    """Modes and gradients mixed, as a half frozen network in training has them."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2)).train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    return model


def state(model: nn.Module) -> list:
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    return [*hooks, *(module.training for module in model.modules()), *(p.requires_grad for p in model.parameters())]


@pytest.mark.parametrize("fails", [False, True])
def test_a_hooked_model_is_frozen_and_comes_back_as_it_was(model, fails):
    before, x, seen = state(model), torch.rand(5, 4, requires_grad=True), {}

    def note(name, value):
        seen[name] = value
        if fails and name == "2":
            raise RuntimeError("stop")

    try:
        with hooked(model, ["0:input", "0", "2"], note) as same:
            assert same is model and not any(module.training for module in model.modules())
            assert not any(parameter.requires_grad for parameter in model.parameters())
            model(x).sum().backward()  # gradients of the input are there all the same
    except RuntimeError as error:
        assert fails and str(error) == "stop"
    assert state(model) == before and list(seen) == ["0:input", "0", "2"]
    assert seen["0:input"] is x and seen["0"].shape == (5, 3) and (x.grad is None) == fails


def test_a_frozen_model_need_not_give_itself_back_from_train():
    class Silent(nn.Linear):
        def train(self, mode=True):
            super().train(mode)

    with frozen(Silent(2, 2)) as model:
        assert not model.training
    assert model.training


@pytest.mark.parametrize(
    "pixels, options, message",
    [
        (torch.rand(3, 8, 8), {}, r"expected pixels \[n, c, h, w\], floats .* not torch.float32 \(3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {}, "expected pixels .* not torch.uint8"),
        (torch.rand(2, 3, 8, 8), dict(labels=torch.zeros(3).long()), r"with labels \[n\].* and torch.int64 \(3,\)"),
        (torch.rand(2, 3, 8, 8), dict(labels=torch.zeros(2), what="sample_ids"), r"with sample_ids \[n\]"),
        (torch.rand(2, 1, 8, 8), dict(colour=True), "expected 3 channels, red, green and blue, not 1"),
        (torch.rand(2, 3, 8, 6), dict(square=True), "images of 6x8 pixels are not square"),
        (torch.rand(2, 3, 8, 8) + 1, {}, r"pixels must lie in \[0, 1\], not \[1"),
        (torch.full((2, 3, 8, 8), torch.nan), {}, r"pixels must lie in \[0, 1\]"),
    ],
)
def test_what_is_no_image_is_refused(pixels, options, message):
    with pytest.raises(ValueError, match=message):
        check_images(pixels, **options)


def test_images_pass():
    assert check_images(torch.rand(2, 1, 8, 6)) is None
    assert check_images(torch.rand(2, 3, 8, 8), torch.arange(2), square=True, colour=True) is None
    assert check_images(torch.rand(0, 3, 8, 8)) is None
