"""Activations of the layers of networks, minibatch by minibatch, looked at inside the forward pass."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from src.cka.direct import about, as_matrix
from src.data.inputs import Batches, bar
from src.models.access import hooked, memory_for
from src.models.layers import choose_layers

# name -> activations -> what is compared in their place: another measure, and named so in the table
POOLS = {
    "spatial mean": lambda x: x.flatten(2).mean(2) if x.ndim == 4 else x,
    "token mean": lambda x: x.mean(1) if x.ndim == 3 else x,
    "class token": lambda x: x[:, 0] if x.ndim == 3 else x,
}


def looked_at(
    networks: Mapping[tuple, nn.Module],
    batches: Batches,
    layers: Mapping[str, object] | None,
    look: Callable[[Tensor], object],
    *,
    pool: str | None = None,
    progress: bool = True,
    least: int = 4,
) -> Iterator[tuple[object, dict[tuple, dict[str, object]]]]:
    """Each minibatch with {network: {layer: `look` of its activations}}, layers in the order in which they run.

    networks: (name, …) -> model.  batches: of pixels, which may also be a dictionary of what each name sees.
    layers: name -> choice (see `choose_layers`).  least: a smaller last minibatch is passed over.
    progress: whether to show a bar, of each image and network; what the caller does with a minibatch counts to its last
    network.  Raises ValueError as `look_at` does.
    """
    chosen, names = {}, list(dict.fromkeys(key[0] for key in networks))
    if unknown := [name for name in layers or {} if name not in names]:
        raise ValueError(f"layers names {', '.join(map(str, unknown))}, not among the networks {', '.join(names)}")
    with bar("activations", batches, progress, times=len(networks)) as shown:
        for batch in batches:
            if chosen and len(batch.labels) < least:
                shown.update(len(batch.labels) * len(networks))
                continue
            seen = {}
            for key, model in networks.items():
                shown.update(len(batch.labels) if seen else 0)
                pixels = batch.pixels if isinstance(batch.pixels, Tensor) else batch.pixels[key[0]]
                if key not in chosen:
                    with about(key[0]):
                        chosen[key] = choose_layers(model, pixels[:2], (layers or {}).get(key[0]))
                seen[key] = look_at(model, pixels, chosen[key], look, pool=pool)
            yield batch, seen
            shown.update(len(batch.labels))


@torch.no_grad()
def look_at(
    model: nn.Module, pixels: Tensor, layers: list[str], look: Callable[[Tensor], object], *, pool: str | None = None
) -> dict[str, object]:
    """layer -> `look` of its activations [n, p], taken in the hooks: activations are freed at once, and no later
    operation in place can spoil them.  Of a layer that runs again the first run counts.

    Raises ValueError for a layer that gives no tensor, and fewer than 4 images, by name.
    """
    seen: dict[str, object] = {}
    last: tuple[Tensor, int, object] | None = None

    def note(name: str, value: object) -> None:
        nonlocal last
        if name in seen or not isinstance(value, Tensor):
            return
        # an Identity, or the block around a layer, passes on the tensor that was looked at a moment ago; an operation
        # in place gives the same tensor back too, with another version
        if last is None or last[0] is not value or last[1] != value._version:
            with about(f"layer {name}"):
                last = value, value._version, look(as_matrix(POOLS[pool](value) if pool else value))
        seen[name] = last[2]

    with hooked(model, layers, note), memory_for(len(pixels)):
        model(pixels)
    for name in layers:
        if name not in seen:
            raise ValueError(f"layer {name} gave no tensor in this pass")
    return {name: seen[name] for name in layers}
