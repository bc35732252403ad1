"""Which layers of a network are chosen by name."""

import pytest
import torch
from timm.models.resnet import BasicBlock as TimmBlock
from timm.models.resnet import ResNet
from torch import nn

from src.models import PixelModel, build_model
from src.models.access import hooked
from src.models.layers import choose_layers


class Mixer(nn.Module):
    """Names of its own: a stem, a list of steps, the last of two parts, and a head."""

    def __init__(self):
        super().__init__()
        self.start, self.end = nn.Conv2d(3, 4, 2, 2), nn.Linear(4, 5)
        self.steps = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())])

    def forward(self, pixels):
        x = self.start(pixels)
        for step in self.steps:
            x = x + step(x)
        return self.end(x.mean((2, 3)))


@pytest.mark.parametrize(
    "net, expected",
    [
        (Mixer(), ["net.start", "net.steps.0", "net.steps.1.0", "net.steps.1.1"]),
        (
            nn.Sequential(nn.Conv2d(3, 4, 2), nn.Sequential(nn.ReLU(), nn.Flatten()), nn.Linear(196, 5)),
            ["0", "1.0", "1.1"],
        ),
    ],
)
def test_the_states_of_a_network_of_other_names_are_its_parts_but_for_the_last(net, expected):
    model = PixelModel(net, mean=(0.0,) * 3, std=(1.0,) * 3) if "net" in expected[0] else net
    pixels = torch.rand(2, 3, 8, 8)
    model(pixels)
    assert choose_layers(model, pixels) == choose_layers(model, pixels, "states") == expected
    with pytest.raises(
        ValueError, match="Sequential has not two parts, one after the other: leave it .*; there are, .* 0"
    ):
        choose_layers(nn.Sequential(nn.Flatten()), pixels)


class BasicBlock(nn.Module):
    """As those of ResNets: the sum goes through a ReLU, in place."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn2, self.act = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn2(self.conv1(x)).add_(x))


class Block(nn.Module):
    """As those of transformers, and it goes on in what it was given."""

    def forward(self, x):
        return x.mul_(2) + 1


class Residual(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1, self.blocks = nn.Conv2d(3, 3, 1), nn.ModuleList(blocks)

    def forward(self, pixels):
        x = self.conv1(pixels)
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3))


def looked_at(model, pixels, choice):
    seen = {}
    names = choose_layers(model, pixels, choice)
    with hooked(model, names, lambda name, value: seen.setdefault(name, value.clone())), torch.no_grad():
        model(pixels)
    return list(seen.values())


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_what_blocks_add_where_states_go_through_a_relu_is_what_goes_into_the_sum():
    torch.manual_seed(0)
    model, pixels = Residual([BasicBlock(), BasicBlock()]).eval(), torch.rand(4, 3, 2, 2)
    with torch.no_grad():
        for block in model.blocks:
            block.bn2.weight.copy_(torch.tensor([-2.0, 0.5, 1.0]))
        states, added = [model.conv1(pixels)], [model.conv1(pixels)]
        for block in model.blocks:
            added.append(block.bn2(block.conv1(states[-1])))
            states.append((states[-1] + added[-1]).relu())
    assert (states[1] - states[0] - added[1]).abs().max() > 0.1  # the difference is another thing
    assert_same(looked_at(model, pixels, "states"), states)
    assert_same(looked_at(model, pixels, "outputs"), states)
    assert_same(looked_at(model, pixels, "added"), added)


def test_long_stages_of_a_resnet_have_all_their_blocks():
    net = ResNet(TimmBlock, [1, 1, 12, 1], num_classes=3)
    expected = ["conv1", "layer1.0", "layer2.0", *(f"layer3.{i}" for i in range(12)), "layer4.0"]
    pixels = torch.rand(2, 3, 32, 32)
    assert choose_layers(net, pixels) == choose_layers(net, pixels, "outputs") == expected
    assert len(choose_layers(net, pixels, "added")) == len(expected)


def test_what_blocks_add_elsewhere_is_output_less_input_though_they_go_on_in_place():
    model, pixels = Residual([Block(), Block()]).eval(), torch.rand(4, 3, 2, 2)
    with torch.no_grad():
        x = model.conv1(pixels)
    assert_same(looked_at(model, pixels, "outputs"), [x, 2 * x + 1, 4 * x + 3])
    assert_same(looked_at(model, pixels, "added"), [x, x + 1, 2 * x + 2])


def test_a_block_of_the_mlp_gives_what_it_adds_and_its_states_are_the_sums():
    model, pixels = build_model("mlp", "fashion_mnist"), torch.rand(4, 3, 32, 32)
    states, outputs, added = (looked_at(model, pixels, choice) for choice in ("states", "outputs", "added"))
    assert_same(outputs, added)
    assert_same(states, list(torch.stack(added).cumsum(0)))


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_modules_of_the_others_give_states_and_the_transformers_sum_up(name):
    model, pixels = build_model(name, "fashion_mnist"), torch.rand(4, 3, 32, 32)
    assert choose_layers(model, pixels, "outputs") == choose_layers(model, pixels, "states")
    states, added = (looked_at(model, pixels, choice) for choice in ("states", "added"))
    assert len(states) == len(added)
    if name == "vit":  # the patches get a class token and positions between the stem and the first block
        assert_same(states[2:], [state + more for state, more in zip(states[1:], added[2:], strict=False)])


def test_a_network_of_other_names_has_the_same_layers_by_every_choice():
    model, pixels = Mixer(), torch.rand(2, 3, 8, 8)
    assert choose_layers(model, pixels, "states") == choose_layers(model, pixels, "added")
    assert choose_layers(model, pixels, ["steps.*:added"]) == [f"steps.{n}:added" for n in ("0", "1.0", "1.1", "1")]
