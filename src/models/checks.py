"""Checks of what goes into models and of what comes out: images, labels and logits; ValueError for what is wrong."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.access import device_of, forward, frozen

AT_ONCE = 64  # checks that wait for one another; each may hold the logits of a batch
_waiting: ContextVar[list | None] = ContextVar("_waiting", default=None)  # (whether all is well, what says what is not)


@contextmanager
def checked_together() -> Iterator[None]:
    """In the block, checks of what lies on a GPU wait for each other; read at once, they hold it up once, not each.

    The error of the first that fails comes at the end of the block at the latest, with what else it led to behind it.
    Of blocks within each other the outermost counts; on a CPU a check never waits.
    """
    if _waiting.get() is not None:
        yield
        return
    waiting: list = []
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(token)
        _settle(waiting)


def _require(well: Tensor, explain: Callable[[], None]) -> None:
    """Call `explain`, which raises, unless all is well: at once, or as `checked_together` has it."""
    waiting = _waiting.get()
    if waiting is None or well.device.type == "cpu":
        _settle([(well, explain)])
        return
    waiting.append((well, explain))
    if len(waiting) == AT_ONCE:
        _settle(waiting)


def _settle(waiting: list) -> None:
    taken, waiting[:] = waiting[:], []
    wells = torch.stack([well for well, _ in taken]).tolist() if taken else []
    for well, (_, explain) in zip(wells, taken, strict=True):
        if not well:
            explain()


def check_images(
    pixels: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"] | None = None,
    *,
    what: str = "labels",
    square: bool = False,
    colour: bool = False,
) -> None:
    """Raise ValueError unless these are float images in [0, 1], with one whole number each where labels are given.

    what: the labels' name in the message.  square, colour: also refuse images that are not, or have not 3 channels.
    """
    ids = () if labels is None else (labels,)
    for each in (pixels, *ids):
        if not isinstance(each, Tensor):
            raise ValueError(f"expected tensors, not {type(each).__name__}; torch.as_tensor makes one")
    fits = pixels.ndim == 4 and pixels.is_floating_point()
    if not fits or any(each.shape != pixels.shape[:1] or each.is_floating_point() for each in ids):
        expected = "pixels [n, c, h, w]" + (f" with {what} [n]" if ids else "")
        given = " and ".join(f"{each.dtype} {tuple(each.shape)}" for each in (pixels, *ids))
        advice = "; take pixels.float() / 255" if pixels.dtype == torch.uint8 else ""
        raise ValueError(f"expected {expected}, floats and whole numbers, not {given}{advice}")
    if colour and pixels.shape[1] != 3:
        raise ValueError(f"expected 3 channels, red, green and blue, not {pixels.shape[1]}")
    height, width = pixels.shape[2:]
    if square and height != width:
        raise ValueError(f"images of {width}x{height} pixels are not square; cut or resize them to one side")
    if not len(pixels):
        return
    low, high = pixels.detach().aminmax()

    def explain() -> None:
        least, most = low.item(), high.item()
        advice = "divide by 255" if least >= 0 and 2 < most <= 255 else "normalisation belongs into the model"
        raise ValueError(f"pixels must lie in [0, 1], not [{least:.3g}, {most:.3g}]; {advice}")

    _require((low >= 0) & (high <= 1), explain)  # NaN is neither


def check_logits(
    logits: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    sample_ids: Int[Tensor, " n"],
    n_classes: int | None = None,
) -> None:
    """Raise ValueError for logits that are not finite, and for labels that are mixed or have no class in the model.

    n_classes: of the data set, where it is known; there must be as many logits.
    """
    if labels.ndim != 1:
        raise ValueError("mixed labels cannot be judged; load the images without mixup")
    if n_classes not in (None, logits.shape[1]):
        raise ValueError(
            f"the model gives {logits.shape[1]} logits, and the images have {n_classes} classes; build it with as many"
        )
    finite = logits.isfinite().all(1)
    in_range = (labels >= 0) & (labels < logits.shape[1])

    def explain() -> None:
        if not bool(finite.all()):
            first = int(sample_ids[~finite][0])
            raise ValueError(f"the model gave a logit that is not finite, first for sample_id {first}")
        label = int(labels[~in_range][0])
        raise ValueError(f"label {label} is out of range for a model of {logits.shape[1]} classes")

    _require((finite & in_range).all(), explain)


def check_gradient(gradient: Float[Tensor, "n c h w"], logits: Float[Tensor, "n k"]) -> None:
    """Raise ValueError where logits are finite and the gradient at the pixels is not: an attack would stand still."""

    def explain() -> None:
        wrong = ~gradient.isfinite().flatten(1).all(1) & logits.isfinite().all(1)  # else `check_logits` says it
        if bool(wrong.any()):
            raise ValueError(
                f"the gradient at the pixels is not finite for {int(wrong.sum())} of {len(wrong)} images, though the "
                "logits are; look in the model for sqrt, norm or log at 0, or use square, which needs no gradient"
            )

    # three kernels a step, where isfinite of each value takes four times that
    _require(gradient.sum() * 0 == 0, explain)


@torch.no_grad()
def check_classifiers(
    models: Mapping[object, nn.Module],
    pixels: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    sample_ids: Int[Tensor, " n"],
    n_classes: int | None,
) -> None:
    """Raise ValueError, as `forward` and `check_logits` do, for a model that gives no logits of these images."""
    for model in models.values():
        with frozen(model):
            logits = forward(model, pixels.to(device_of(model))).cpu()
        check_logits(logits, labels, sample_ids, n_classes)
