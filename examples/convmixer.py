"""A ConvMixer (Trockman & Kolter 2023) as a network of one's own: a function of the number of classes and the side.

    make train MODEL=mixer=examples/convmixer.py:build DATASET=pictures=folder:runs/pictures@32 ARGS="--run mine"

It takes pixels in [0, 1] as they are; the first layer's normalisation is learnt.
"""

from torch import nn


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def build(n_classes: int, side: int, width: int = 64, depth: int = 4, patch: int = 4) -> nn.Module:
    """ConvMixer-64/4 on patches of 4 pixels, 0.05 M parameters, for images of any side that 4 divides."""
    if side % patch:
        raise ValueError(f"this ConvMixer cuts images into patches of {patch} pixels; {side} pixels a side do not fit")

    def layer(conv: nn.Conv2d) -> list[nn.Module]:
        return [conv, nn.GELU(), nn.BatchNorm2d(conv.out_channels)]

    blocks = [
        nn.Sequential(
            Residual(*layer(nn.Conv2d(width, width, kernel_size=5, padding="same", groups=width))),
            *layer(nn.Conv2d(width, width, kernel_size=1)),
        )
        for _ in range(depth)
    ]
    stem = layer(nn.Conv2d(3, width, kernel_size=patch, stride=patch))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes))
