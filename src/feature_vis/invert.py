"""Feature inversion: images rebuilt from the response of one layer to them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.data.inputs import bar
from src.feature_vis.layers import respond
from src.feature_vis.measures import feature_distance
from src.feature_vis.optimise import Pictures, optimise
from src.feature_vis.parameterisations import ImageStatistics, parameterise
from src.models.access import device_of, frozen
from src.models.checks import check_images


def invert_features(
    model: nn.Module,
    layer: str,
    images: Float[Tensor, "n 3 h w"],
    *,
    parameterisation: str = "fourier",
    statistics: ImageStatistics | None = None,
    steps: int = 200,
    lr: float | None = None,
    alpha_norm: float = 0.0,
    alpha: float = 6.0,
    tv: float = 0.0,
    beta: float = 2.0,
    stop_at: float | None = None,
    seed: int | Int[Tensor, " n"] = 0,
    sample_ids: Int[Tensor, " n"] | None = None,
    progress: bool | tqdm = True,
) -> Pictures:
    """A picture for each image, from noise, whose response in `layer` (see `respond`) comes as close as it can.

    Minimises |Φ(x) - Φ(x0)|² / |Φ(x0)|² + alpha_norm · mean |2 (x - 1/2)|^alpha + tv · mean (dx² + dy²)^(beta / 2),
    means over pixels, pixels in [0, 1] throughout.  parameterisation, statistics, lr, seed, sample_ids and progress as
    in `maximise_activation`.  stop_at: relative distance at which a picture is done.  History: relative distances.
    The model is left as it was.  Raises ValueError for an unknown layer (near names are listed), for an image to which
    the layer does not respond at all, and for what is not finite.
    Source: Mahendran & Vedaldi 2015, equations 1 to 4; the parameterisations are later than that.
    """
    check_images(images, colour=True)
    if not len(images):
        raise ValueError("there are no images to invert")
    if min(alpha_norm, tv) < 0 or min(alpha, beta) <= 0:
        raise ValueError(f"alpha_norm and tv cannot be negative, alpha and beta not 0: {alpha_norm, tv, alpha, beta}")
    device = device_of(model)
    images = images.to(device).float()
    ids = torch.arange(len(images), device=device) if sample_ids is None else sample_ids.to(device)
    seed, size = seed.to(device) if isinstance(seed, Tensor) else seed, tuple(images.shape[-2:])
    how = parameterise(parameterisation, ids, seed=seed, start=None, statistics=statistics, size=size)
    with frozen(model):
        with torch.no_grad():
            wanted = respond(model, images, layer).float().clone()
        silent = wanted.flatten(1).square().sum(1) == 0
        if bool(silent.any()):
            raise ValueError(f"layer {layer!r} gives 0 for sample_id {int(ids[silent][0])}; there is nothing to invert")

        def objective(pixels: Tensor, rows: Tensor, places: list[int], step: int) -> tuple[Tensor, Tensor, Tensor]:
            distance = feature_distance(respond(model, pixels, layer).float(), wanted[rows])
            penalty = torch.zeros_like(distance)
            if alpha_norm:
                penalty = penalty + alpha_norm * (2 * pixels - 1).abs().pow(alpha).flatten(1).mean(1)
            if tv:
                penalty = penalty + tv * _roughness(pixels, beta)
            return distance, distance, penalty

        reached = None if stop_at is None else lambda value: value <= stop_at
        names = [f"{layer} of sample_id {i}" for i in ids.tolist()]
        with bar("inversion", steps, progress, unit="step") as shown:
            how_long = dict(steps=steps, lr=lr, reached=reached)
            return optimise(how, objective, names=names, advance=shown.update, **how_long)


def _roughness(pixels: Tensor, beta: float) -> Float[Tensor, " n"]:
    """mean (dx² + dy²)^(beta / 2) over pixels that have a neighbour right and below."""
    across = pixels[:, :, :-1, 1:] - pixels[:, :, :-1, :-1]
    down = pixels[:, :, 1:, :-1] - pixels[:, :, :-1, :-1]
    return (across.square() + down.square() + 1e-12).pow(beta / 2).flatten(1).mean(1)
