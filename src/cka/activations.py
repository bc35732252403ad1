"""What the layers of a network say of a batch, looked at inside the forward pass, where activations still are."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.cka.direct import KERNELS, Pieces, as_matrix, named
from src.models.access import hooked

# name -> activations -> what is compared in their place: another measure, and named so in the table
POOLS = {
    "spatial mean": lambda x: x.flatten(2).mean(2) if x.ndim == 4 else x,
    "token mean": lambda x: x.mean(1) if x.ndim == 3 else x,
    "class token": lambda x: x[:, 0] if x.ndim == 3 else x,
}


def pieces_of(model: nn.Module, pixels: Tensor, layers: list[str], *, kernel: str, pool: str | None) -> Pieces:
    """The kernels of every layer, in the order of `layers`."""
    found = look_at(model, pixels, layers, lambda x: Pieces.of(KERNELS[kernel](x)), pool=pool)
    return Pieces.stack([found[name] for name in layers])


@torch.no_grad()
def look_at(
    model: nn.Module, pixels: Tensor, layers: list[str], look: Callable[[Tensor], object], *, pool: str | None = None
) -> dict[str, object]:
    """layer -> `look` of its activations [n, p], taken in the hooks: they die at once, and no later operation in place
    can spoil them.  A layer that runs again counts when it first ran.

    Raises ValueError for a layer that gives no tensor, fewer than 4 images, and values that are not finite, by name.
    """
    found: dict[str, object] = {}
    last: tuple[Tensor, int, object] | None = None

    def note(name: str, value: object) -> None:
        nonlocal last
        if name in found or not isinstance(value, Tensor):
            return
        # what an Identity, or the block around a layer, passes on as it is was looked at a moment ago; an operation in
        # place gives the same tensor back too, with another version
        if last is None or last[0] is not value or last[1] != value._version:
            x = as_matrix(POOLS[pool](value) if pool else value, f"layer {name}")
            last = value, value._version, named(look, f"layer {name}")(x)
        found[name] = last[2]

    with hooked(model, layers, note):
        model(pixels)
    missing = [name for name in layers if name not in found]
    if missing:
        raise ValueError(f"layer {missing[0]} gave no tensor in this pass")
    return found
