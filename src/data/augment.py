"""Training augmentation on whole batches: random crop (resized or padded), flip and mixup, each seeded per image.

A bilinear crop-and-resize is a linear map of an image's rows, then one of its columns: two calls for a whole batch on
any device, and torchvision's pixels to rounding.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy import special
from torch import Tensor

from src.seeding import Stream, uniform


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the training augmentation; ValueError for those that mean nothing.

    scale: smallest and largest share of the area that a crop keeps.  ratio: smallest and largest width / height.
    pad: above 0, crops of the image's own size, shifted by up to so many pixels and continued by reflection, instead.
    flip: probability of a horizontal flip.  mixup: alpha of Zhang et al. 2018's Beta(alpha, alpha), 0 for none.
    """

    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    pad: int = 0
    flip: float = 0.5
    mixup: float = 0.0

    def __post_init__(self):
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be an increasing pair in (0, 1], not {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be an increasing pair above 0, not {self.ratio}")
        if not 0 <= self.flip <= 1 or self.mixup < 0:
            raise ValueError(f"flip must be in [0, 1] and mixup at least 0, not {self.flip} and {self.mixup}")
        if self.pad < 0 or (self.pad and self.scale != (1, 1)):
            raise ValueError(f"pad must be at least 0, and scale (1, 1) beside it, not {self.pad} and {self.scale}")


def augment_pixels(
    pixels: Float[Tensor, "n c h w"],
    sample_ids: Int[Tensor, " n"],
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
) -> Float[Tensor, "n c h w"]:
    """Pixels in [0, 1], cropped and flipped by numbers drawn from (seed, epoch, sample id).

    Raises ValueError for padding as wide as the image, which has no more to reflect.
    """
    height, width = pixels.shape[-2:]
    draws = uniform(sample_ids, seed, epoch, Stream.CROP, draws=5)
    flipped = draws[:, 4] < augmentation.flip
    if augmentation.pad:
        if augmentation.pad >= min(height, width):
            raise ValueError(f"pad must be below the size of the image, not {augmentation.pad} for {height}×{width}")
        shifts = (draws[:, 2:4] * (2 * augmentation.pad + 1)).floor().long() - augmentation.pad
        return shifted(pixels, shifts, flipped=flipped)
    boxes = random_boxes(draws[:, :4], height, width, augmentation)
    return resized_crop(pixels, boxes, flipped=flipped)


def shifted(
    pixels: Float[Tensor, "n c h w"], shifts: Int[Tensor, "n 2"], *, flipped: Bool[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Images moved by `shifts` (down, right) pixels, continued by their reflection; flipped where `flipped`.

    Equal to a crop of the reflect-padded image, without the padded copy.
    """
    height, width = pixels.shape[-2:]
    rows = _reflect(torch.arange(height, device=pixels.device) + shifts[:, :1], height)
    columns = _reflect(torch.arange(width, device=pixels.device) + shifts[:, 1:], width)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    images = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    return pixels.movedim(1, -1)[images, rows[:, :, None], columns[:, None]].movedim(-1, 1).contiguous()


def _reflect(index: Int[Tensor, "n size"], size: int) -> Int[Tensor, "n size"]:
    """Indices beyond the ends, mirrored about the first and the last pixel."""
    return size - 1 - (size - 1 - index.abs()).abs()


def random_boxes(
    draws: Float[Tensor, "n 4"], height: int, width: int, augmentation: Augmentation
) -> Int[Tensor, "n 4"]:
    """Crop boxes (top, left, height, width) in whole pixels inside the image.

    Area uniform in `scale`, aspect ratio log-uniform in `ratio`, position uniform (Szegedy et al. 2015). A box larger
    than the image is cut to it, not drawn again, so that every image uses four numbers.
    """
    low, high = augmentation.scale
    area = (low + draws[:, 0] * (high - low)) * height * width
    log_low, log_high = torch.log(torch.tensor(augmentation.ratio)).tolist()
    ratio = torch.exp(log_low + draws[:, 1] * (log_high - log_low))
    box_height = (area / ratio).sqrt().round().clamp(1, height)
    box_width = (area * ratio).sqrt().round().clamp(1, width)
    top = (draws[:, 2] * (height - box_height + 1)).floor()
    left = (draws[:, 3] * (width - box_width + 1)).floor()
    return torch.stack([top, left, box_height, box_width], dim=1).long()


def resized_crop(
    pixels: Float[Tensor, "n c h w"], boxes: Int[Tensor, "n 4"], *, flipped: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, "n c h w"]:
    """Each image's box (top, left, height, width), resized to the whole bilinearly; flipped where `flipped`."""
    n, c, h, w = pixels.shape
    top, left, box_height, box_width = boxes.unbind(1)
    # Rows: a weighted sum of two rows of the input, as of an embedding bag, 3 times faster on a CPU than a product.
    centres = _pixel_centres(top, box_height, h)
    above = centres.floor()
    below_share = centres - above
    below = torch.minimum(above + 1, (top + box_height - 1)[:, None])
    taps = torch.stack([above, below], dim=2).long()[:, None]  # n, 1, h, 2: the same in each channel
    taps = taps + torch.arange(0, n * c * h, h, device=pixels.device).view(n, c, 1, 1)
    shares = torch.stack([1 - below_share, below_share], dim=2)[:, None].expand(n, c, h, 2)
    rows = F.embedding_bag(
        taps.view(-1, 2), pixels.reshape(-1, w), per_sample_weights=shares.reshape(-1, 2), mode="sum"
    )
    # Columns lie apart in memory: here a product is faster.
    centres = _pixel_centres(left, box_width, w)
    if flipped is not None:
        centres = torch.where(flipped[:, None], centres.flip(1), centres)
    inputs = torch.arange(w, device=pixels.device, dtype=pixels.dtype)[:, None]
    columns = (inputs - centres[:, None]).abs_().neg_().add_(1).clamp_(min=0)  # n, input column, output column
    return torch.bmm(rows.view(n, c * h, w), columns).view(n, c, h, w)


def _pixel_centres(start: Tensor, length: Tensor, size: int) -> Float[Tensor, "n size"]:
    """Positions in the input of the `size` output pixels that `length` pixels from `start` are resized to."""
    outputs = torch.arange(size, device=start.device, dtype=torch.float32)
    centres = (outputs + 0.5) * (length[:, None] / size) - 0.5  # as in align_corners=False
    return centres.clamp_(min=0).minimum(length[:, None] - 1.0) + start[:, None]


def mix_partners(
    sample_ids: Int[Tensor, " n"], set_size: int, alpha: float, seed: int, epoch: int
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Positions of the images that these are mixed with, and their own shares, from Beta(alpha, alpha)."""
    draws = uniform(sample_ids, seed, epoch, Stream.MIXUP, draws=2)
    partners = (draws[:, 0] * set_size).long().clamp(max=set_size - 1)
    return partners, _beta_quantiles(alpha, draws.device)[(draws[:, 1] * 1024).long()]


@lru_cache
def _beta_quantiles(alpha: float, device: torch.device) -> Float[Tensor, " 1024"]:
    """Mid-quantiles of Beta(alpha, alpha), of which a uniform number picks one."""
    levels = (torch.arange(1024, dtype=torch.float64) + 0.5) / 1024
    return torch.from_numpy(special.betaincinv(alpha, alpha, levels.numpy())).float().to(device)
