"""Data sets of other shapes than the study's, random pictures, and two small networks for each."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.data import ImageSet
from src.models.build import PixelModel

# name -> classes, side, images, grey; of the last a class has one or two images
SHAPES = {
    "2 classes": (2, 24, 24, False),
    "3 classes, grey": (3, 26, 24, True),
    "96 pixels": (5, 96, 15, False),
    "200 classes": (200, 16, 210, False),
}


class Conv(nn.Module):
    """A stem and three blocks by the names that a ResNet's have, for style and for layers."""

    def __init__(self, n_classes: int):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()
        self.layer1, self.layer2, self.layer3 = (nn.Sequential(nn.Conv2d(8, 8, 3, padding=1)) for _ in range(3))
        self.head = nn.Linear(8, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer3(self.layer2(self.layer1(self.act1(self.conv1(x))))).relu().mean((2, 3)))


class Patches(nn.Module):
    """Four patches, flattened, and two blocks."""

    def __init__(self, n_classes: int, side: int):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, side // 2, stride=side // 2)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.GELU()) for _ in range(2)))
        self.head = nn.Linear(16, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).flatten(1)))


@cache
def images_of(shape: str) -> ImageSet:
    """Noise around a colour of each class."""
    n_classes, side, n, grey = SHAPES[shape]
    rng = np.random.default_rng(0)
    labels, colours = np.arange(n) % n_classes, rng.integers(40, 216, (n_classes, 1, 1, 3))
    images = np.clip(colours[labels] + rng.integers(-40, 41, (n, side, side, 3)), 0, 255).astype(np.uint8)
    images = np.repeat(images[..., :1], 3, axis=3) if grey else images
    names = tuple(f"class {k}" for k in range(n_classes))
    return ImageSet("pictures", "test", images, labels, names, 1000 + np.arange(n))


@cache
def zoo_of(shape: str) -> dict[tuple[str, int], PixelModel]:
    """Two networks that are right for most of the images of few classes, by 40 steps on them."""
    n_classes, side, _, _ = SHAPES[shape]
    images, zoo = images_of(shape), {}
    pixels, labels = torch.from_numpy(images.images).permute(0, 3, 1, 2) / 255, torch.from_numpy(images.labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, net in (("own conv", Conv(n_classes)), ("own patches", Patches(n_classes, side))):
            model = PixelModel(net, mean=(0.5,) * 3, std=(0.25,) * 3, name=f"mine.py:{name.split()[1]}")
            optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
            for _ in range(40):
                optimiser.zero_grad()
                F.cross_entropy(model(pixels), labels).backward()
                optimiser.step()
            model.zero_grad()
            model.source = {f"{name}.safetensors": "0" * 64}
            zoo[name, 0] = model.eval()
    return zoo
