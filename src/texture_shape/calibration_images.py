"""Drawn images that measure the measure: classes drawn in code by outline alone, texture alone, or both at odds.

Five outlines and five textures are paired into five classes. `draw` makes images where outline and texture are those of
any two classes, or where one of them is missing. `follow_shape` and `follow_texture` are decision rules that look
at one cue and cannot see the other. A measure of shape bias is right if it gives them 1 and 0.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from src.seeding import Stream, uniform
from src.tables.texture_shape import CUTOFFS
from src.texture_shape.cutouts import cutout
from src.texture_shape.frequency import frequency_hybrid, phase_amplitude

OUTLINES = ("disc", "square", "triangle", "cross", "bar")
TEXTURES = ("rows", "columns", "rising", "falling", "checks")
N_CLASSES = len(OUTLINES)
NONE = -1  # instead of a class: no outline (texture from border to border), or no texture (an even fill)

_GROUND, _DARK, _LIGHT, _EVEN = 0.5, 0.1, 0.9, 0.9
_PERIOD = 4  # pixels, of every texture along its axes


def draw(
    shapes: Int[Tensor, " n"], textures: Int[Tensor, " n"], sample_ids: Int[Tensor, " n"], *, seed: int, side: int = 32
) -> Float[Tensor, "n 3 s s"]:
    """Grey images of figures on a ground of 0.5; place, size and the texture's phase are drawn for (seed, sample id).

    shapes, textures: class indices 0 to 4, or NONE.  side: at least 24 pixels, a multiple of 4.
    """
    for what, classes in (("shapes", shapes), ("textures", textures)):
        if len(classes) and not (NONE <= classes.min() and classes.max() < N_CLASSES):
            raise ValueError(f"{what} must be from 0 to {N_CLASSES - 1}, or {NONE} for none, not {classes.tolist()}")
    if side < 24 or side % _PERIOD:
        raise ValueError(f"the side must be a multiple of {_PERIOD} and at least 24 pixels, not {side}")
    draws = uniform(sample_ids, seed, Stream.DRAWING, draws=5).double()
    places = torch.arange(side, dtype=torch.float64, device=draws.device)
    y = (places[:, None] - (side - 1) / 2) - 4 * (draws[:, 0, None, None] - 0.5)
    x = (places[None, :] - (side - 1) / 2) - 4 * (draws[:, 1, None, None] - 0.5)
    radius = side * (0.28 + 0.08 * draws[:, 2, None, None])
    inside = _inside(x, y, radius)
    everywhere = torch.ones_like(inside[0])
    figure = torch.stack([*inside, everywhere])[shapes, torch.arange(len(shapes))]  # NONE is the last
    shift = (draws[:, 3:, None, None] * _PERIOD).floor()
    patterns = _patterns(places[:, None] + shift[:, 0], places[None, :] + shift[:, 1])
    even = torch.full_like(patterns[0], _EVEN)
    fill = torch.stack([*patterns, even])[textures, torch.arange(len(textures))]
    return torch.where(figure, fill, _GROUND).float()[:, None].repeat(1, 3, 1, 1)


def follow_shape(pixels: Float[Tensor, "n 3 s s"]) -> Int[Tensor, " n"]:
    """The class whose outline overlaps best with what stands out from the ground, over places and sizes.

    What fills the outline does not matter: a pixel counts as figure by how far it is from the ground, either way.
    """
    grey = pixels.mean(1, keepdim=True)
    figure = ((grey - _GROUND).abs() > 0.15).float()
    templates, labels = _templates(pixels.shape[-1])
    templates = templates.to(figure)
    shared = F.conv2d(figure, templates[:, None], padding=3)  # of each template, at 7 × 7 places
    union = figure.sum((1, 2, 3)).view(-1, 1, 1, 1) + templates.sum((1, 2)).view(-1, 1, 1) - shared
    best = (shared / union.clamp(min=1)).amax((2, 3))
    return labels.to(best.device)[best.argmax(1)]


def follow_texture(pixels: Float[Tensor, "n 3 s s"]) -> Int[Tensor, " n"]:
    """The class whose frequencies the amplitude spectrum holds most alike; where anything is does not matter."""
    side = pixels.shape[-1]
    grey = pixels.mean(1)
    power = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs().square()
    power = F.avg_pool2d(F.pad(power[:, None], (1, 1, 1, 1), mode="circular"), 3, stride=1)[:, 0]
    f = side // _PERIOD
    energy = torch.stack([power[:, f, 0], power[:, 0, f], power[:, f, f], power[:, f, -f]], dim=1)
    kinds = energy.new_tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0.5**0.5, 0.5**0.5]])
    return (F.normalize(energy, dim=1) @ kinds.T).argmax(1)


def calibrate(
    rules: Mapping[str, Callable[[Tensor], Tensor]],
    *,
    n: int = 400,
    seed: int = 0,
    cutoffs: Sequence[float] = CUTOFFS,
    side: int = 32,
) -> pd.DataFrame:
    """What decision rules say of drawn cue conflicts; a table as of `predict_conflicts`, with the rules as models.

    rules: name -> pixels to classes.  Conditions: "figures", an outline filled with the texture of another class; then
    "phase", "cutout" and "hybrid" of two figures, each with the outline and the texture of its own class.  The n pairs
    go round the ordered pairs of the five classes.
    """
    ids = torch.arange(n)
    shapes = ids % N_CLASSES
    textures = (shapes + 1 + ids // N_CLASSES % (N_CLASSES - 1)) % N_CLASSES
    a, b = draw(shapes, shapes, ids, seed=seed, side=side), draw(textures, textures, n + ids, seed=seed, side=side)
    conflicts = {
        ("figures", 1.0): draw(shapes, textures, ids, seed=seed, side=side),
        ("phase", 1.0): phase_amplitude(a, b),
        ("cutout", 1.0): cutout(a, b),
    }
    conflicts |= {("hybrid", float(cutoff)): frequency_hybrid(a, b, cutoff) for cutoff in cutoffs}
    pairs = pd.DataFrame({"pair": ids, "shape_label": shapes, "texture_label": textures})
    return pd.concat(
        [
            pairs.assign(model=name, model_seed=0, condition=condition, level=level, prediction=rule(pixels).numpy())
            for (condition, level), pixels in conflicts.items()
            for name, rule in rules.items()
        ],
        ignore_index=True,
    )


def _inside(x: Tensor, y: Tensor, r: Tensor) -> list[Bool[Tensor, "n s s"]]:
    """Of each outline the pixels within; r is the radius of the disc, and the others have about its size."""
    half = 0.5 * (y + r)  # the triangle's half-width at a height
    return [
        x.square() + y.square() <= r.square(),
        (x.abs() <= 0.85 * r) & (y.abs() <= 0.85 * r),
        (y.abs() <= r) & (x.abs() <= half),
        ((x.abs() <= 0.33 * r) & (y.abs() <= r)) | ((y.abs() <= 0.33 * r) & (x.abs() <= r)),
        (x.abs() <= r) & (y.abs() <= 0.4 * r),
    ]


def _patterns(rows: Tensor, columns: Tensor) -> list[Float[Tensor, "n s s"]]:
    """Of each texture the whole field; rows [n, s, 1] and columns [n, 1, s] in pixels."""
    rows, columns = torch.broadcast_tensors(rows, columns)

    def stripes(place: Tensor) -> Tensor:
        return (place.remainder(_PERIOD) < _PERIOD / 2).double()

    checks = (stripes(rows) == stripes(columns)).double()
    fields = [stripes(rows), stripes(columns), stripes(rows + columns), stripes(rows - columns), checks]
    return [_DARK + (_LIGHT - _DARK) * field for field in fields]


@lru_cache
def _templates(side: int) -> tuple[Float[Tensor, "t s s"], Int[Tensor, " t"]]:
    """Each outline at five sizes in the middle, and its class."""
    middle = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    radii = side * torch.linspace(0.28, 0.36, 5, dtype=torch.float64).view(-1, 1, 1)
    inside = _inside(middle[None, None, :], middle[None, :, None], radii)
    return torch.cat(inside).float(), torch.arange(N_CLASSES).repeat_interleave(5)
