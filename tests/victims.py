"""What the attacks are tested on: a small network trained in seconds, models whose optimum is known, and spies."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.data import load_images
from src.data.batches import Batch
from src.data.loaders import make_loader


@cache
def trained_conv() -> nn.Module:
    """Two convolutions and a linear layer, trained for three epochs: about 84 % of the test images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 8 * 8, 10),
        )
    return fitted(model, epochs=3, lr=2e-3)


def fitted(model: nn.Module, *, epochs: int, lr: float) -> nn.Module:
    """The model after some epochs of Adam on the embedded training images, in eval mode."""
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    loader = make_loader(load_images("fashion_mnist", "train"), batch_size=100, shuffle=True)
    for loader.epoch in range(epochs):
        for pixels, labels, _ in loader:
            optimiser.zero_grad()
            F.cross_entropy(model(pixels), labels).backward()
            optimiser.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


@cache
def some_images(n: int) -> Batch:
    """n embedded test images, as many of each class."""
    return next(iter(make_loader(load_images("fashion_mnist", "test").subset(n, seed=0), batch_size=n)))


def in_batches(images: Batch, size: int) -> list[Batch]:
    return [Batch(*part) for part in zip(*(values.split(size) for values in images), strict=True)]


def rows_of(images: Batch, positions) -> Batch:
    return Batch(*(values[positions] for values in images))


def distances(a: Tensor, b: Tensor, norm: str) -> np.ndarray:
    """Distance of each pair of images, in numpy and twice the precision."""
    difference = (a.double().numpy() - b.double().numpy()).reshape(len(a), -1)
    return np.linalg.norm(difference, ord=np.inf if norm == "Linf" else 2, axis=1)


def wrong(model: nn.Module, pixels: Tensor, labels: Tensor) -> np.ndarray:
    with torch.no_grad():
        return (model(pixels).argmax(1) != labels).numpy()


def robust_accuracy(curve) -> float:
    return float((curve["label_rank"] < 1).mean())


class Linear(nn.Module):
    """Logits w·x + b of images with `n_values` values."""

    def __init__(self, n_values: int, n_classes: int, seed: int = 0):
        super().__init__()
        self.layer = nn.Linear(n_values, n_classes)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.layer.weight, std=0.1, generator=generator)
        nn.init.zeros_(self.layer.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layer(pixels.flatten(1))


class Spy(nn.Module):
    """Passes everything on; counts the images that go forward and backward, and keeps them if asked to."""

    def __init__(self, inner: nn.Module, *, keep: bool = False):
        super().__init__()
        self.inner, self.keep = inner, keep
        self.n_forward = self.n_backward = 0
        self.seen: list[Tensor] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.n_forward += len(pixels)
        if self.keep:
            self.seen.append(pixels.detach().clone())
        logits = self.inner(pixels)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.n_backward += len(gradient)
