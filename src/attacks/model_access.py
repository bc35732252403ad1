"""How attacks touch a model: frozen for the time of an attack, its logits checked, its input gradients alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode with gradients for no parameter; afterwards every module's mode and flag are as before."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def check_images(pixels: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> None:
    """Raise ValueError unless these are images in [0, 1] with one class index each."""
    if pixels.ndim != 4 or len(pixels) != len(labels) or labels.ndim != 1:
        raise ValueError(
            f"expected pixels [n, c, h, w] with labels [n], not {tuple(pixels.shape)} and {tuple(labels.shape)}"
        )
    if len(pixels) and not (0 <= pixels.min() and pixels.max() <= 1):  # also catches NaN
        raise ValueError(
            f"pixels must lie in [0, 1], not [{pixels.min():.3g}, {pixels.max():.3g}]; "
            "attacks work on pixels, normalisation belongs into the model"
        )


def check_logits(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], sample_ids: Int[Tensor, " n"]) -> None:
    """Raise ValueError for logits that are not finite, or labels the model has no class for."""
    finite = logits.isfinite().all(1)
    in_range = (labels >= 0) & (labels < logits.shape[1])
    if bool((finite & in_range).all()):
        return
    if not bool(finite.all()):
        first = int(sample_ids[~finite][0])
        raise ValueError(f"the model gave a logit that is not finite, first for sample_id {first}")
    raise ValueError(f"label {int(labels[~in_range][0])} is out of range for a model of {logits.shape[1]} classes")


def input_gradient(
    model: nn.Module, pixels: Float[Tensor, "n c h w"], loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, losses and d loss / d pixels of each image: one forward and one backward pass, weights left out of it.

    loss: logits [n, k] -> [n].  Raises ValueError when the model cuts its logits off from its pixels.
    """
    with torch.enable_grad():
        pixels = pixels.detach().requires_grad_()
        logits = model(pixels).float()
        if not logits.requires_grad:
            raise ValueError(
                "the model's logits do not depend on its pixels in a way that can be differentiated; "
                "use a gradient-free attack, such as square"
            )
        losses = loss(logits)
        (gradient,) = torch.autograd.grad(losses.sum(), pixels, allow_unused=True, materialize_grads=True)
    return logits.detach(), losses.detach(), gradient
