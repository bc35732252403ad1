"""The style of one image given to another, by the Gram matrices of a network of ours: no outside weights.

The network that lends its features is one of those compared, or was trained as they were. What it says of the images
made with it is not what another network says: where it is compared, name it.
"""

import copy
from collections.abc import Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.texture_shape.checks import check_images, check_range, in_float64, is_grey, same_shape

Pixels = Float[Tensor, "n c s s"]

LAYERS = ("net.act1", "net.layer1", "net.layer2", "net.layer3")  # of the study's `cnn`
_CONTENT_SHARE = 0.1  # weight of the content beside the style's 1, of losses that are both relative


def transfer_style(
    content: Pixels,
    style: Pixels,
    model: nn.Module,
    *,
    level: float = 1.0,
    steps: int = 100,
    step_size: float = 0.02,
    layers: Sequence[str] = LAYERS,
) -> Pixels:
    """The content images, repainted until their features have the channel correlations of the style images.

    content, style: pixels in [0, 1], one style for each content.  level: weight of the style, from 0, which gives the
    content back bit for bit, to 1.  steps, step_size: of Adam on the pixels, from the content, cut to [0, 1] each time.
    layers: names of sub-modules of `model` with output [n, channels, h, w]: the style is asked of all, the
    content of the last.  Both losses are relative, so no network needs weights of its own.  A grey image painted in a
    grey style stays grey.  The model is left as it was.
    Works in double precision: what an image becomes then does not hang on the batch it comes in (to 1e-6).
    Raises ValueError for images that do not match, a level outside [0, 1], and layers that the model does not have or
    that give other shapes.  Source: Gatys, Ecker & Bethge 2016, equations 1 to 7.
    """
    check_images(content)
    check_images(style)
    same_shape(content, style)
    check_range(level, 1, what="the weight of the style")
    if level == 0 or steps == 0 or not len(content):
        return content.clone()
    x, target_style = in_float64(content), in_float64(style)
    network = copy.deepcopy(model).to(x.device, torch.float64).eval().requires_grad_(False)
    grey = is_grey(x) & is_grey(target_style)
    with _outputs_of(network, layers) as outputs:
        with torch.no_grad():
            network(target_style)
            grams = [gram_matrix(outputs[layer]) for layer in layers]
            network(x)
            kept = outputs[layers[-1]].clone()
        mean, square = torch.zeros_like(x), torch.zeros_like(x)  # Adam, Kingma & Ba 2015
        for step in range(1, steps + 1):
            x = x.detach().requires_grad_()
            network(x)
            losses = level * sum(
                _relative(gram_matrix(outputs[layer]), gram) for layer, gram in zip(layers, grams, strict=True)
            ) / len(layers) + _CONTENT_SHARE * _relative(outputs[layers[-1]], kept)
            (gradient,) = torch.autograd.grad(losses.sum(), x)
            gradient = torch.where(grey, gradient.mean(1, keepdim=True), gradient)
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
            direction = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            x = (x.detach() - step_size * direction).clamp(0, 1)
    return torch.where(grey, x[:, :1], x).to(content)


def gram_matrix(features: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k k"]:
    """Correlations of the channels over the places of a layer, without regard to where: mean of f_i f_j."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def _relative(found: Tensor, wanted: Tensor) -> Float[Tensor, " n"]:
    """Squared distance of each row over the squared length of what is wanted."""
    lengths = wanted.flatten(1).square().sum(1).clamp(min=1e-12)
    return (found - wanted).flatten(1).square().sum(1) / lengths


@contextmanager
def _outputs_of(network: nn.Module, layers: Sequence[str]):
    """A dict that holds, after each forward pass, what the layers gave."""
    modules = dict(network.named_modules())
    missing = [layer for layer in layers if layer not in modules]
    if missing or not layers:
        with_maps = [name for name, module in modules.items() if name and isinstance(module, nn.Conv2d | nn.Sequential)]
        raise ValueError(
            f"the model has no layer {', '.join(missing) or 'to take style from'}; choose from {', '.join(with_maps)}"
        )
    outputs: dict[str, Tensor] = {}

    def keep(layer: str):
        def hook(_module, _inputs, output):
            if output.ndim != 4:
                raise ValueError(f"layer {layer} gives {tuple(output.shape)}; style needs channels over two axes")
            outputs[layer] = output

        return hook

    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
