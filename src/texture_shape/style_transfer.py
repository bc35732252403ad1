"""The style of one image given to another, by the Gram matrices of the features of a network, the painter.

A network's own answers to the images that it painted are not like another network's: `painters` has those that belong
to no network compared.
"""

import copy
import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.models.access import INPUT, hooked
from src.texture_shape.checks import check_pairs, check_range, in_float64, is_grey

Pixels = Float[Tensor, "n c s s"]

LAYERS = ("net.act1", "net.layer1", "net.layer2", "net.layer3")  # of a ResNet, as the study's `cnn`
_CONTENT_SHARE = 0.1  # weight of the content beside the style's 1, of losses that are both relative


def transfer_style(
    content: Pixels,
    style: Pixels,
    model: nn.Module,
    *,
    level: float = 1.0,
    steps: int = 100,
    step_size: float = 0.02,
    layers: Sequence[str] = (),
    content_layer: str = "",
) -> Pixels:
    """The content images, repainted until their features have the channel correlations of the style images.

    content, style: pixels in [0, 1], one style for each content.  level: weight of the style, from 0, which gives the
    content back bit for bit, to 1.  steps, step_size: of Adam on the pixels, from the content, cut to [0, 1] each time.
    layers, content_layer: names of sub-modules of `model`, with output [n, channels, h, w] or tokens [n, places,
    channels]: the style is asked of all `layers`, the content of `content_layer`, by default of the last of them.
    Without names they are those of `style_layers`.  Both losses are relative, so no network needs weights of its own.
    A grey image painted in a grey style stays grey.  The model is left as it was.  Works in double precision: the batch
    that an image comes in changes it by 1e-6 at most.
    Raises ValueError for images that do not match, a level outside [0, 1], and layers that the model does not have or
    that give other shapes.  Source: Gatys, Ecker & Bethge 2016, equations 1 to 7.
    """
    check_pairs(content, style)
    check_range(level, 1, what="the weight of the style")
    if not layers:
        layers, content_layer = style_layers(model)
    content_layer = content_layer or layers[-1]
    if level == 0 or steps == 0 or not len(content):
        return content.clone()
    x, target_style = in_float64(content).clone(), in_float64(style)
    network = copy.deepcopy(model).to(x.device, torch.float64).requires_grad_(False)
    _check_layers(network, layers)
    grey = is_grey(x) & is_grey(target_style)
    features: dict[str, Tensor] = {}

    def keep(layer: str, output: Tensor) -> None:
        features[layer] = _over_places(output, layer).clone()  # the next layer may work in place

    with hooked(network, dict.fromkeys([*layers, content_layer]), keep):
        with torch.no_grad():
            network(target_style)
            grams = [gram_matrix(features[layer]) for layer in layers]
            network(x)
            kept = features[content_layer].clone()
        optimiser = torch.optim.Adam([x.requires_grad_()], lr=step_size)
        for _ in range(steps):
            network(x)
            losses = [_relative(gram_matrix(features[layer]), gram) for layer, gram in zip(layers, grams, strict=True)]
            loss = level * sum(losses) / len(layers) + _CONTENT_SHARE * _relative(features[content_layer], kept)
            (gradient,) = torch.autograd.grad(loss.sum(), x)
            x.grad = torch.where(grey, gradient.mean(1, keepdim=True), gradient)
            optimiser.step()
            x.data.clamp_(0, 1)
    return torch.where(grey, x[:, :1], x).detach().to(content)


def style_layers(model: nn.Module) -> tuple[tuple[str, ...], str]:
    """The layers of a painter that carry the style, and the one that carries the content.

    Of a ResNet LAYERS, of a transformer four blocks evenly over the depth; their content is that of the last.  Of
    random filters the responses of each size, and the pixels.  Raises ValueError for a network of other names; one
    whose features have no places, such as an MLP's, is refused when they come.
    """
    modules = dict(model.named_modules())
    if filters := tuple(name for name in modules if re.fullmatch(r"net\.filters\.\d+", name)):
        return filters, f"net{INPUT}"
    if all(layer in modules for layer in LAYERS):
        return LAYERS, LAYERS[-1]
    blocks = [name for name in modules if re.fullmatch(r"net\.(blocks|stages)\.\d+", name)]
    if not blocks:
        raise ValueError(
            "the network has no layers to take style from: known are a ResNet's act1 and layer1 to layer3, and the "
            "blocks or stages of a network over places"
        )
    chosen = [blocks[i] for i in np.unique(np.linspace(0, len(blocks) - 1, 4).round().astype(int))]
    return tuple(chosen), chosen[-1]


def gram_matrix(features: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k k"]:
    """Correlations of the channels over the places of a layer, without regard to where: mean of f_i f_j."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def _over_places(output: Tensor, layer: str) -> Float[Tensor, "n k h w"]:
    """A layer's output as channels over places, tokens along one axis of length 1."""
    if isinstance(output, Tensor) and output.ndim == 3:
        return output.mT[:, :, None]
    if not isinstance(output, Tensor) or output.ndim != 4:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"layer {layer} gives {shape}; style is what channels have in common over places")
    return output


def _relative(values: Tensor, target: Tensor) -> Float[Tensor, " n"]:
    """Squared distance of each row from its target, over the target's squared length."""
    lengths = target.flatten(1).square().sum(1).clamp(min=1e-12)
    return (values - target).flatten(1).square().sum(1) / lengths


def _check_layers(network: nn.Module, layers: Sequence[str]) -> None:
    modules = dict(network.named_modules())
    missing = [layer for layer in layers if layer not in modules]
    if missing or not layers:
        usable = [name for name, module in modules.items() if name and isinstance(module, nn.Conv2d | nn.Sequential)]
        raise ValueError(
            f"the model has no layer {', '.join(missing) or 'to take style from'}; choose from {', '.join(usable)}"
        )
