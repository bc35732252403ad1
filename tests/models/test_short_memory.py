"""A device with memory for few images at once: the same numbers in halves, or one clear error."""

import warnings

import pandas as pd
import pytest
import torch
from torch import nn

from src import attacks, cka
from src.data.loaders import make_loader
from src.models.access import in_halves
from src.models.predict import predict
from src.training import Recipe, train


class Short(nn.Module):
    """A model that runs out of memory above so many images at once, as CUDA does."""

    def __init__(self, inner: nn.Module, most: int):
        super().__init__()
        self.inner, self.most, self.refused = inner, most, 0

    def forward(self, pixels):
        if len(pixels) > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.inner(pixels)


@pytest.fixture
def inner() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 4))


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(22, 3, 4, 4, generator=generator), torch.randint(0, 4, (22,), generator=generator)


def measures(model, images) -> dict[str, pd.DataFrame]:
    curve = dict(eps_grid=(0.02, 0.1), progress=False, batch_size=22)
    return {
        "predict": predict(model, images, progress=False),
        "fgsm": attacks.attack_curve(model, images, attack="fgsm", **curve),
        "pgd": attacks.attack_curve(model, images, attack="pgd", steps=3, **curve),
        "pgd, bfloat16": attacks.attack_curve(model, images, attack="pgd", steps=3, dtype="bfloat16", **curve),
        "apgd-t": attacks.attack_curve(model, images, attack="apgd-t", steps=4, n_targets=2, **curve),
        "square": attacks.attack_curve(model, images, attack="square", queries=20, **curve),
    }


@pytest.mark.filterwarnings("ignore:no memory for")
@pytest.mark.parametrize("most", [1, 5, 21])
def test_halves_give_the_same_numbers(inner, images, most):
    model = Short(inner, most)
    found, expected = measures(model, images), measures(inner, images)
    assert model.refused
    for name, table in expected.items():
        near = 1e-2 if "bfloat16" in name else 1e-5  # another number of rows is summed in another order
        whole = ["sample_id", "label"]
        pd.testing.assert_frame_equal(found[name][whole], table[whole])
        apart = (found[name] - table).abs().max()
        assert apart["confidence"] < near and (found[name]["prediction"] != table["prediction"]).mean() < 0.05, name


def test_the_user_is_told_what_to_take(inner, images):
    with pytest.warns(UserWarning, match="^no memory for 22 images at once; take a smaller batch_size; goes on"):
        predict(Short(inner, 11), images, progress=False)
    with pytest.raises(torch.OutOfMemoryError, match="^no memory for 1 images at once"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predict(Short(inner, 0), images, progress=False)


def test_what_depends_on_the_batch_ends_with_the_way_out(inner, images):
    message = "^no memory for 22 images at once; take a smaller batch_size$"
    with pytest.raises(torch.OutOfMemoryError, match=message):
        cka.hsic_table({"short": Short(inner, 5), "whole": inner}, images, progress=False)


def test_training_ends_with_the_way_out(few_clothes):
    model = Short(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), 5)
    (batch,) = make_loader(few_clothes.at_most(6, 0), batch_size=6)
    model.inner(batch.pixels)
    with pytest.raises(torch.OutOfMemoryError, match="^no memory for 6 images at once; take a smaller batch_size$"):
        train(model, few_clothes.at_most(6, 0), Recipe(epochs=1, batch_size=6), progress=False)


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        in_halves(lambda rows: 1 / 0, 4)
