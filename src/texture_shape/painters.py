"""Painters: networks whose features carry the style of stylised images, and random filters that belong to nobody.

A painter that is compared itself is an insider: what it painted has a row of its own, and no headline counts it.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from src.data.records import DATASETS, WEIGHTS_OF
from src.files import fingerprint
from src.models.access import device_of
from src.models.build import describe_task
from src.models.pixel_model import PixelModel
from src.names import COMPARED, RANDOM_FILTERS, is_outsider, parse_painter
from src.seeding import Stream, uniform
from src.texture_shape.style_transfer import transfer_style

SIZES = (1, 3, 5, 7, 11, 15, 23, 37, 55)  # pixels; from 3 on as in the paper, those up to half of the image
N_FILTERS = 32  # of each size


class RandomFilters(nn.Module):
    """The rectified responses [n, 32, s, s] of untrained filters of one size; borders are mirrored.

    Filters sum to 0 in each channel, but those of one pixel, which carry the colours; their length is 1.  They are
    drawn for (seed, size, number), whatever the machine: `checksum` is of the drawn numbers, before any rounding.
    """

    def __init__(self, size: int, seed: int):
        super().__init__()
        drawn = uniform(torch.arange(N_FILTERS), seed, Stream.FILTERS, size, draws=3 * size * size)
        self.checksum = fingerprint(drawn)
        filters = (drawn.double() - 0.5).view(N_FILTERS, 3, size, size)
        if size > 1:
            filters = filters - filters.mean((2, 3), keepdim=True)
        length = filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        self.filters = nn.Parameter((filters / length).float(), requires_grad=False)

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n k s s"]:
        padded = F.pad(x, (self.filters.shape[-1] // 2,) * 4, mode="reflect")
        return F.conv2d(padded, self.filters.to(x)).relu()


class Scales(nn.Module):
    """One layer of filters of several sizes beside each other."""

    def __init__(self, side: int, seed: int):
        super().__init__()
        self.filters = nn.ModuleList(RandomFilters(size, seed) for size in SIZES if size <= max(side // 2, 3))

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n k s s"]:
        return torch.cat([each(x) for each in self.filters], dim=1)


def random_filters(side: int, seed: int) -> PixelModel:
    """A painter that belongs to no network: one layer of random filters of several sizes, behind pixels in [0, 1].

    side: of the images.  Source: the multi-scale model of Ustyuzhaninov et al. 2017, "What does it take to generate
    natural textures?"; that filters sum to 0, and that each size has a loss of its own, is this study's: at 32 pixels
    the mean brightness would else be all that counts.

    >>> random_filters(32, seed=0)(torch.rand(2, 3, 32, 32)).shape  # 32 filters of each of six sizes
    torch.Size([2, 192, 32, 32])
    """
    painter = PixelModel(Scales(side, seed), mean=(0.5,) * 3, std=(0.5,) * 3, name=RANDOM_FILTERS)
    checksum = "-".join(each.checksum for each in painter.net.filters)
    painter.trained, painter.source = True, {RANDOM_FILTERS: checksum}
    return painter.eval()


def load_painters(
    names: Sequence[str],
    zoo: Mapping[tuple[str, int], PixelModel],
    build: Callable[..., PixelModel],
    *,
    dataset: str,
    side: int,
    seed: int,
) -> dict[str, PixelModel]:
    """Label -> painter: those outside the comparison, then the compared ones, in the order of the names.

    names: "random filters"; "NAME on DATASET", the study's weights of another data set; the label of a compared
    network; or "compared", every compared network that can paint: trained, with layers to take style from.
    zoo: (label, training seed) -> compared network; the first seed of each paints.  build: makes a network of a name
    and a `task`, as `Study.model`.  dataset: of the study.  side: of its images.  seed: of the filters.
    Raises ValueError for any other name, for weights of the study's own data set (they are a compared network's), and
    for a network that cannot paint.
    """
    compared: dict[str, PixelModel] = {}
    for (label, _), model in zoo.items():
        compared.setdefault(label, model)
    wanted = dict.fromkeys(name for name in names if name != COMPARED)
    if COMPARED in names:
        wanted |= dict.fromkeys(label for label, model in compared.items() if not _obstacle(model, side))
    painters = {}
    for name in sorted(wanted, key=is_outsider, reverse=True):
        if name == RANDOM_FILTERS:
            painters[name] = random_filters(side, seed).to(device_of(*zoo.values()))
        elif is_outsider(name):
            painters[name] = _from_elsewhere(name, build, dataset)
        elif name in compared:
            painters[name] = compared[name]
        else:
            raise ValueError(
                f"unknown painter {name!r}; choose from {RANDOM_FILTERS!r}, a network with weights of another data "
                f"set, such as 'cnn on cifar100', {', '.join(map(repr, compared))}, which are compared, or "
                f"{COMPARED!r} for all of these that can paint"
            )
        if obstacle := _obstacle(painters[name], side):
            raise ValueError(f"{name!r} cannot paint: {obstacle}")
    if not painters:
        raise ValueError(f"none of {', '.join(compared)} can paint; add the painter {RANDOM_FILTERS!r}")
    return painters


def _from_elsewhere(name: str, build: Callable[..., PixelModel], dataset: str) -> PixelModel:
    model, other = parse_painter(name)
    if other not in DATASETS:
        raise ValueError(f"painter {name!r} is of no data set that goes by name; choose from {', '.join(DATASETS)}")
    if WEIGHTS_OF.get(other, other) == WEIGHTS_OF.get(dataset, dataset):
        raise ValueError(
            f"painter {name!r} was trained on the data set of this study, so it is no outsider; name another data set, "
            f"or {model!r} alone where it is compared"
        )
    return build(model, task=describe_task(other))


def _obstacle(painter: PixelModel, side: int) -> str:
    """Why a network cannot paint, by a try of one step; empty where it can."""
    if not painter.trained:
        return "it has no trained weights"
    image = torch.full((1, 3, side, side), 0.5, device=device_of(painter))
    try:
        transfer_style(image, image, painter, steps=1)
    except ValueError as error:
        return str(error)
    return ""
