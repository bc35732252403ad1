"""Which layers of a network are chosen by name."""

import pytest
import torch
from torch import nn

from src.models import PixelModel
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
    assert choose_layers(model, pixels) == choose_layers(model, pixels, "blocks") == expected
    with pytest.raises(ValueError, match="Sequential has not two parts, one after the other; there are, .* 0"):
        choose_layers(nn.Sequential(nn.Flatten()), pixels)
