"""Activation maximisation: pictures that make a class, a unit, a channel or a token respond as strongly as they can."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.data.inputs import bar
from src.feature_vis.layers import LOGITS, log_odds, pick_response, respond
from src.feature_vis.measures import total_variation
from src.feature_vis.optimise import Pictures, optimise
from src.feature_vis.parameterisations import ImageStatistics, parameterise
from src.models.access import device_of, frozen
from src.seeding import Stream, uniform

HOLD = 5  # views in a row that must be good enough: one alone may be by chance


def maximise_activation(
    model: nn.Module,
    targets: Sequence[int | tuple[int | None, ...]] | Tensor | np.ndarray,
    *,
    layer: str = LOGITS,
    parameterisation: str = "fourier",
    start: Float[Tensor, "n 3 h w"] | None = None,
    statistics: ImageStatistics | None = None,
    size: tuple[int, int] | None = None,
    steps: int = 250,
    lr: float | None = None,
    jitter: int = 3,
    rotate: float = 5.0,
    scale: float = 0.05,
    tv: float = 0.0,
    stop_at: float | None = None,
    seed: int | Int[Tensor, " n"] = 0,
    sample_ids: Int[Tensor, " n"] | None = None,
    progress: bool | tqdm = True,
) -> Pictures:
    """One picture for each target, all in one batch.

    targets: for "logits" a class index each, whose log-odds log p / (1 - p) are raised; for another `layer` (see
    `respond`) an index or tuple each, see `pick_response`.  parameterisation: "pixels" (the 2023 report's way),
    "fourier" or "maco", from noise or from the images `start`.  statistics: of the data set, for its colours and
    spectrum (`image_statistics`).  size: height and width, if neither start nor statistics tell.
    jitter (pixels), rotate (degrees), scale: random views, a new one at every step; 0 for none.  tv: weight of the
    total variation, in log-odds or units of the response per unit of `total_variation`.
    stop_at: a probability, or a response of the layer; a picture is done when five views in a row have it.  seed: one
    for all or one each; all that is random is drawn from (seed, sample id), sample_ids 0, 1, … by default.
    progress: whether to show a bar of steps, or the bar of a caller.
    History: probabilities, or responses, of the view of each step.  A unit that nothing moves ends with "dead: …".
    The model is left as it was.  Raises ValueError for what does not exist, out of range, or not finite.
    Sources: Erhan et al. 2009; Simonyan et al. 2014; Olah et al. 2017; Fel et al. 2023.
    """
    device = device_of(model)
    targets = targets.tolist() if isinstance(targets, Tensor | np.ndarray) else list(targets)
    if not targets or steps < 1:
        raise ValueError(f"there must be targets and at least 1 step, not {len(targets)} and {steps}")
    if size is None:
        if start is None and statistics is None:
            raise ValueError("how large shall the pictures be? give size=(height, width), statistics or a start")
        size = tuple(start.shape[-2:]) if start is not None else statistics.size
    if min(jitter, rotate, scale, tv) < 0:
        raise ValueError(f"jitter, rotate, scale and tv cannot be negative: {jitter}, {rotate}, {scale}, {tv}")
    if stop_at is not None and layer == LOGITS and not 0 < stop_at < 1:
        raise ValueError(f"stop_at is a probability for classes, between 0 and 1, not {stop_at}")
    ids = torch.arange(len(targets), device=device) if sample_ids is None else sample_ids.to(device)
    seed = seed.to(device) if isinstance(seed, Tensor) else seed
    how = parameterise(parameterisation, ids, seed=seed, start=start, statistics=statistics, size=size)
    views = draw_views(ids, seed, steps)
    with frozen(model):
        with torch.no_grad():
            _check_targets(respond(model, how.draw(how.start[:1]), layer), targets, layer)

        classes = torch.tensor(targets, device=device) if layer == LOGITS else None

        def objective(pixels: Tensor, rows: Tensor, places: list[int], step: int) -> tuple[Tensor, Tensor, Tensor]:
            seen = change_view(pixels, views[rows, step], jitter=jitter, rotate=rotate, scale=scale)
            response = respond(model, seen, layer).float()
            penalty = tv * total_variation(pixels) if tv else torch.zeros(len(rows), device=device)
            if layer == LOGITS:
                odds = log_odds(response, classes[rows])
                return odds.sigmoid(), -odds, penalty
            units = zip(response, (targets[i] for i in places), strict=True)
            values = torch.stack([pick_response(row[None], unit)[0] for row, unit in units])
            return values, -values, penalty

        reached = None if stop_at is None else lambda value: value >= stop_at
        names = [f"{layer} {target}" for target in targets]
        with bar("pictures", steps, progress, unit="step") as shown:
            how_long = dict(steps=steps, lr=lr, reached=reached, hold=HOLD)
            return optimise(how, objective, names=names, advance=shown.update, **how_long)


def _check_targets(response: Tensor, targets: list, layer: str) -> None:
    for target in dict.fromkeys(targets):
        if layer == LOGITS and not (isinstance(target, int) and 0 <= target < response.shape[1]):
            raise ValueError(f"class {target!r} is out of range for a model of {response.shape[1]} classes")
        pick_response(response, target)


def draw_views(sample_ids: Tensor, seed: int | Tensor, steps: int) -> Float[Tensor, "n steps 4"]:
    """Numbers in [-1, 1) for each picture and step: shift right, shift down, turn, growth."""
    return 2 * uniform(sample_ids, seed, Stream.VIEWS, draws=4 * steps).view(-1, steps, 4) - 1


def change_view(
    pixels: Float[Tensor, "n c h w"], view: Float[Tensor, "n 4"], *, jitter: float, rotate: float, scale: float
) -> Float[Tensor, "n c h w"]:
    """Each picture shifted by up to `jitter` whole pixels, turned by up to `rotate` degrees, scaled by up to `scale`.

    view: numbers in [-1, 1], as of `draw_views`.  scale: 0.1 for a size between 1 / 1.1 and 1.1 times.  Beyond the
    border the picture is mirrored.  Shifts alone copy pixels; otherwise they are interpolated bilinearly.
    """
    if jitter == rotate == scale == 0:
        return pixels
    h, w = pixels.shape[-2:]
    shift = (view[:, :2] * (jitter + 0.5)).round().clamp(-jitter, jitter)
    angle, size = view[:, 2] * math.radians(rotate), (1 + scale) ** view[:, 3]
    cos, sin = angle.cos() / size, angle.sin() / size
    # of a pixel in the view, where it stands in the picture; affine_grid counts half sides from the middle
    right = torch.stack([cos, -sin * h / w, -2 * shift[:, 0] / w], 1)
    down = torch.stack([sin * w / h, cos, -2 * shift[:, 1] / h], 1)
    grid = F.affine_grid(torch.stack([right, down], 1), list(pixels.shape), align_corners=False)
    mode = "nearest" if rotate == scale == 0 else "bilinear"
    return F.grid_sample(pixels, grid, mode=mode, padding_mode="reflection", align_corners=False)
