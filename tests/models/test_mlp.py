import numpy as np
import pytest
import torch
from scipy.special import erf

from src.models.mlp import BottleneckMLP

# as they stand in Bachmann et al.'s files of B_12-Wi_1024 (SOURCES: "State-dict keys")
PUBLISHED_KEYS = (
    ["linear_in.weight", "linear_in.bias", "linear_out.weight", "linear_out.bias"]
    + [f"layernorms.{i}.{kind}" for i in range(12) for kind in ("weight", "bias")]
    + [f"blocks.{i}.block.0.{kind}" for i in range(12) for kind in ("weight", "bias")]
    + [f"blocks.{i}.block.2.{kind}" for i in range(12) for kind in ("weight", "bias")]
)


def n_parameters(blocks: int, width: int, side: int, n_classes: int) -> int:
    embedding = 3 * side**2 * width + width
    block = 2 * width + (4 * width * width + 4 * width) + (4 * width * width + width)
    return embedding + blocks * block + width * n_classes + n_classes


@pytest.mark.parametrize("n_classes", [10, 100])
def test_the_published_network_has_the_published_keys_shapes_and_size(n_classes):
    with torch.device("meta"):
        net = BottleneckMLP(blocks=12, width=1024, n_classes=n_classes, side=64)
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert sorted(shapes) == sorted(PUBLISHED_KEYS)
    assert shapes["linear_in.weight"] == (1024, 12288)
    assert shapes["blocks.11.block.0.weight"] == (4096, 1024) and shapes["blocks.0.block.2.weight"] == (1024, 4096)
    assert shapes["layernorms.3.bias"] == (1024,) and shapes["linear_out.weight"] == (n_classes, 1024)
    assert sum(p.numel() for p in net.parameters()) == n_parameters(12, 1024, 64, n_classes)


@pytest.mark.parametrize("blocks, width", [(6, 512), (6, 1024), (12, 512), (1, 8)])
def test_any_depth_and_width_has_its_size(blocks, width):
    with torch.device("meta"):
        net = BottleneckMLP(blocks=blocks, width=width, n_classes=7, side=16)
    assert sum(p.numel() for p in net.parameters()) == n_parameters(blocks, width, 16, 7)


def forward_in_numpy(state: dict[str, np.ndarray], images: np.ndarray, blocks: int) -> np.ndarray:
    x = images.reshape(len(images), -1) @ state["linear_in.weight"].T + state["linear_in.bias"]
    for i in range(blocks):
        centred = x - x.mean(1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        normed = normed * state[f"layernorms.{i}.weight"] + state[f"layernorms.{i}.bias"]
        hidden = normed @ state[f"blocks.{i}.block.0.weight"].T + state[f"blocks.{i}.block.0.bias"]
        hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
        x = x + hidden @ state[f"blocks.{i}.block.2.weight"].T + state[f"blocks.{i}.block.2.bias"]
    return x @ state["linear_out.weight"].T + state["linear_out.bias"]


def test_forward_equals_numpy():
    generator = torch.Generator().manual_seed(0)
    net = BottleneckMLP(blocks=3, width=20, n_classes=5, side=8)
    for parameter in net.parameters():  # norms too, so that forgetting their scale or shift shows
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    images = torch.randn(6, 3, 8, 8, generator=generator)
    state = {key: value.double().numpy() for key, value in net.state_dict().items()}
    expected = forward_in_numpy(state, images.double().numpy(), blocks=3)
    np.testing.assert_allclose(net(images).detach().numpy(), expected, rtol=1e-4, atol=1e-4)
