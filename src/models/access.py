"""Access to models: by name, frozen for a time, input and logits checked, input gradients, layers by name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.mlp import BottleneckMLP

INPUT = ":input"  # after a layer's name: what goes into it
# the stem and the residual blocks, by the names that the study's CNNs and transformers give them
BLOCKS = ("*blocks.[0-9]", "*blocks.[0-9][0-9]", "*layer[0-9].[0-9]", "conv1", "net.conv1", "*patch_embed")


Zoo = dict[tuple[str, int], nn.Module]  # (name, training seed) -> model


def as_zoo(models: Mapping[str | tuple[str, int], nn.Module], *, kind: type | tuple[type, ...] = nn.Module) -> Zoo:
    """The networks by (name, training seed); of a name alone the seed is 0.

    kind: what a value must be.  Raises ValueError for anything but a mapping of names to modules, and an empty one.

    >>> as_zoo({"cnn": nn.Identity(), ("mlp", 1): nn.Identity()})
    {('cnn', 0): Identity(), ('mlp', 1): Identity()}
    """
    expected = 'networks are given as {"name": module} or {("name", training seed): module}, one or more'
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"{expected}, not as {type(models).__name__}{'' if models else ' without any'}")
    zoo = {}
    for key, model in models.items():
        name, seed = key if isinstance(key, tuple) and len(key) == 2 else (key, 0)
        if not isinstance(name, str) or not isinstance(seed, int):
            raise ValueError(f"{expected}, not under the key {key!r}")
        if not isinstance(model, kind):
            raise ValueError(f"{expected}; {key!r} is {type(model).__name__}, not a module")
        if (name, seed) in zoo:
            raise ValueError(f"{expected}; {name!r} with the seed {seed} is there twice")
        zoo[name, seed] = model
    return zoo


def device_of(*models: nn.Module) -> torch.device:
    """Where the first parameter of the models is; the CPU where there is none."""
    return next((parameter.device for model in models for parameter in model.parameters()), torch.device("cpu"))


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode with gradients for no parameter; afterwards every module's mode and flag are as before."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        model.requires_grad_(False)
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def hooked(model: nn.Module, layers: Iterable[str], note: Callable[[str, object], None]) -> Iterator[nn.Module]:
    """The frozen model, which calls `note(layer, value)` with what each layer gives, or, with ":input", is given."""
    with frozen(model), ExitStack() as hooks:
        for name in layers:
            module = model.get_submodule(name.removesuffix(INPUT))
            if name.endswith(INPUT):
                before = lambda _, given, name=name: note(name, given[0] if given else None)  # noqa: E731
                hooks.enter_context(module.register_forward_pre_hook(before))
            else:
                hooks.enter_context(module.register_forward_hook(lambda _, __, out, name=name: note(name, out)))
        yield model


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
    low, high = torch.stack(pixels.detach().aminmax()).tolist() if len(pixels) else (0, 1)  # one wait for the device
    if not (0 <= low and high <= 1):  # also catches NaN
        advice = "divide by 255" if low >= 0 and 2 < high <= 255 else "normalisation belongs into the model"
        raise ValueError(f"pixels must lie in [0, 1], not [{low:.3g}, {high:.3g}]; {advice}")


def forward(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """The model's logits in float32; their values are left to `check_logits`.

    Raises ValueError for an output that is not one tensor [n, k], and, but under autocast, for half precision.
    """
    logits, kind = model(pixels), type(model).__name__
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"{kind} gives {type(logits).__name__}, not a tensor of logits [n, k]; wrap it in a module that does"
        )
    if logits.ndim != 2 or len(logits) != len(pixels):
        raise ValueError(
            f"{kind} gives {tuple(logits.shape)} for {len(pixels)} images, expected logits ({len(pixels)}, classes)"
        )
    full = logits.dtype in (torch.float32, torch.float64)
    if not full and not torch.is_autocast_enabled(logits.device.type):
        raise ValueError(f"{kind} gives logits of {logits.dtype}, too coarse to rank classes by; take model.float()")
    return logits.float()


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
    if bool((finite & in_range).all()):
        return
    if not bool(finite.all()):
        first = int(sample_ids[~finite][0])
        raise ValueError(f"the model gave a logit that is not finite, first for sample_id {first}")
    raise ValueError(f"label {int(labels[~in_range][0])} is out of range for a model of {logits.shape[1]} classes")


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


def input_gradient(
    model: nn.Module, pixels: Float[Tensor, "n c h w"], loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, losses and d loss / d pixels of each image: one forward and one backward pass, weights left out of it.

    loss: logits [n, k] -> [n].  Raises ValueError when the model cuts its logits off from its pixels.
    """
    with torch.enable_grad():
        pixels = pixels.detach().requires_grad_()
        logits = forward(model, pixels)
        if not logits.requires_grad:
            raise ValueError("the logits have no gradient at the pixels; use a gradient-free attack, such as square")
        losses = loss(logits)
        (gradient,) = torch.autograd.grad(losses.sum(), pixels, allow_unused=True, materialize_grads=True)
    return logits.detach(), losses.detach(), gradient


def choose_layers(model: nn.Module, pixels: Tensor, layers: str | type | list[str] | None = None) -> list[str]:
    """Names of layers that give one tensor when `model` sees `pixels`, in the order in which they first end.

    layers: "blocks" (also None), the states an image goes through in one of the study's networks: what the stem gives
    and what every residual block leaves behind, skip included.  The blocks of the bottleneck MLP give only what they
    add, so its states are what goes into its LayerNorms and its last layer.  In a network that names its blocks in
    another way: what its parts give, sequences of them taken apart, but for the last.  Or "leaves" (modules without
    parts), a glob pattern or a list of them (with ":input" at its end, for what goes into a layer), or a module type
    such as nn.Conv2d.  Raises ValueError, with names there are, when a pattern matches nothing that runs.
    """
    order, modules, kind = _run_order(model, pixels), dict(model.named_modules()), type(model).__name__
    run = [name for name in order if not name.endswith(INPUT)]
    if layers == "leaves":
        return [name for name in run if not any(modules[name].children())]
    if isinstance(layers, type):
        chosen = {f"no {layers.__name__} runs in {kind}": [name for name in run if isinstance(modules[name], layers)]}
    elif layers in (None, "blocks"):
        known = _matching(order, _states_of_mlp(model) or BLOCKS)
        chosen = {f"{kind} has not two parts, one after the other": known or _matching(run, _parts(model))[:-1]}
    else:
        patterns = [layers] if isinstance(layers, str) else layers
        chosen = {f"no layer that runs matches {pattern!r}": _matching(order, [pattern]) for pattern in patterns}
    for problem, names in chosen.items():
        if not names:
            raise ValueError(f"{problem}; there are, among others, {', '.join(run[:8])}")
    return [name for name in order if any(name in names for names in chosen.values())]


layer_names = partial(choose_layers, layers="*")  # of all layers that run


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match a pattern; inputs match only patterns that end in ":input"."""

    def fits(name: str, pattern: str) -> bool:
        return fnmatchcase(name, pattern) and name.endswith(INPUT) == pattern.endswith(INPUT)

    return [name for name in names if any(fits(name, pattern) for pattern in patterns)]


def _states_of_mlp(model: nn.Module) -> list[str]:
    for name, module in model.named_modules():
        if isinstance(module, BottleneckMLP):
            prefix = f"{name}." if name else ""
            return [f"{prefix}{part}{INPUT}" for part in ("layernorms.*", "linear_out")]
    return []


def _parts(model: nn.Module, prefix: str = "") -> list[str]:
    """Names of the parts of a model, where there is but one the parts of that, and of sequences their parts."""
    children, names = dict(model.named_children()), []
    for name, child in children.items():
        apart = any(child.children()) and (len(children) == 1 or isinstance(child, nn.Sequential | nn.ModuleList))
        names += _parts(child, f"{prefix}{name}.") if apart else [prefix + name]
    return names


@torch.no_grad()
def _run_order(model: nn.Module, pixels: Tensor) -> list[str]:
    """Inputs (name and ":input") and outputs of all modules, where they are one tensor, in the order they appear."""
    order: dict[str, None] = {}

    def note(name: str, value: object) -> None:
        if isinstance(value, Tensor) and value.ndim > 1 and len(value) == len(pixels):
            order.setdefault(name)

    names = [name for name, _ in model.named_modules() if name]
    with hooked(model, [place for name in names for place in (name + INPUT, name)], note):
        model(pixels)
    return list(order)
