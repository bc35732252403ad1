"""A model whose BatchNorm is folded away says the same; one of which it would not is left alone, and all come back."""

from contextlib import nullcontext

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from src.attacks import attack_curve, engine
from src.data.loaders import make_loader
from src.models import build_model
from src.models.access import frozen, input_gradient
from src.models.folding import folded
from src.tables.statistics import hits


class Net(nn.Module):
    """A chain of convolution and BatchNorm, twice; a test changes what it does with them."""

    def __init__(self, conv=nn.Conv2d, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1, self.norm1 = conv(3, 4, 3, padding=1, bias=False), norm(4)
        self.conv2, self.norm2 = conv(4, 4, 3, padding=1), norm(4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.read(self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())))

    def read(self, x):
        return self.head(x.relu().mean((2, 3)))


class UsedElsewhere(Net):
    def forward(self, x):
        made = self.conv1(x)
        return self.read(self.norm1(made) + 0.5 * made)


class RunTwice(Net):
    def forward(self, x):
        x = self.norm1(self.conv1(x))
        return self.read(self.norm2(self.conv2(self.norm2(self.conv2(x)))))


class SharedConvolution(Net):
    def forward(self, x):
        return self.read(self.norm1(self.conv1(x)) + self.norm2(self.conv1(x.flip(3))))


class WeightsReadElsewhere(Net):
    def forward(self, x):
        return self.read(self.norm1(self.conv1(x)) * self.conv1.weight.abs().mean())


class NormReadElsewhere(Net):
    def forward(self, x):
        return super().forward(x) * self.norm1.weight.abs().mean()


def shaken(net: nn.Module) -> nn.Module:
    """With statistics and scales of BatchNorm as after a training, in float64."""
    generator = torch.Generator().manual_seed(0)
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            values.data = torch.rand(values.shape, generator=generator) + 0.3
    return net.double().eval()


@pytest.fixture
def pixels():
    return torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(1)).double()


def n_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def answers(model: nn.Module, pixels) -> tuple:
    return input_gradient(model, pixels, lambda logits: logits.softmax(1)[:, 0])


KINDS = {
    "a chain": (Net, 0),
    "an output used elsewhere": (UsedElsewhere, 2),
    "run twice": (RunTwice, 1),
    "one convolution for two": (SharedConvolution, 2),
    "weights read elsewhere": (WeightsReadElsewhere, 2),
    "a BatchNorm read elsewhere": (NormReadElsewhere, 2),
    "a convolution of computed weights": (
        lambda: Net(conv=lambda *args, **more: weight_norm(nn.Conv2d(*args, **more))),
        2,
    ),
    "BatchNorm that does more": (lambda: Net(norm=BatchNormAct2d), 2),
    "statistics of the batch": (lambda: Net(norm=lambda n: nn.BatchNorm2d(n, track_running_stats=False)), 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_the_same_and_the_model_comes_back(kind, pixels):
    make, left = KINDS[kind]
    torch.manual_seed(0)
    model = shaken(make()) if kind != "statistics of the batch" else make().double().eval()
    before, parts = {name: values.clone() for name, values in model.state_dict().items()}, list(model.modules())
    plain = answers(model, pixels)
    with pytest.raises(RuntimeError, match="in the middle"), frozen(model), folded(model):
        for ours, theirs in zip(answers(model, pixels), plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        assert n_norms(model) == left
        raise RuntimeError("in the middle")
    assert list(model.modules()) == parts and all(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], values) for name, values in before.items())
    assert not any(module._forward_pre_hooks for module in parts)


def test_a_model_of_two_outputs_is_refused_in_words(pixels):
    class Two(Net):
        def read(self, x):
            return super().read(x), x

    with pytest.raises(ValueError, match="Two gives tuple, not a tensor of logits"), folded(shaken(Two())) as model:
        model(pixels)


def test_a_model_first_called_for_predictions_gives_gradients_later(pixels):
    torch.manual_seed(0)
    model = shaken(Net())
    with frozen(model), folded(model):
        with torch.inference_mode():
            model(pixels)
        assert n_norms(model) == 0
        logits, _, gradient = answers(model, pixels)
    assert gradient.abs().max() > 0


def test_attacks_find_what_they_find_without(few_clothes, monkeypatch):
    model, loader = build_model("cnn", "fashion_mnist"), make_loader(few_clothes.subset(40, seed=0), batch_size=40)
    folds, seen = [], []
    options = dict(attack="apgd", eps_grid=(0.01, 0.02, 0.04), steps=10, progress=False)

    def watched(model):
        folds.append(model)
        return folded(model)

    for manager in (watched, nullcontext):
        monkeypatch.setattr(engine, "folded", manager)
        seen.append(hits(attack_curve(model, loader, **options)))
    assert folds == [model] and 0.2 < seen[0].mean() < 0.8
    assert (seen[0] != seen[1]).mean() <= 0.02  # a tie that rounding decides
