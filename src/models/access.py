"""Access to models: by name, frozen for a time, hooked, input and logits checked, input gradients, short memory."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

INPUT, ADDED = ":input", ":added"  # after a layer's name: what goes into it; what comes out less what goes in
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
    """The frozen model, which calls `note(layer, value)` with what each layer gives.

    layers: names; with ":input" behind, what the layer is given is noted, and with ":added", what it gives less what it
    is given (None where the two are not tensors of one shape).
    """
    with frozen(model), ExitStack() as hooks:
        for name in layers:
            path, _, side = name.partition(":")
            module, given = model.get_submodule(path), []

            def before(_, args, name=name, side=side, given=given):
                value = args[0] if args else None
                if f":{side}" == INPUT:
                    note(name, value)
                else:  # a copy: the layer may go on in place
                    given[:] = [value.clone() if isinstance(value, Tensor) else None]

            def after(_, __, out, name=name, side=side, given=given):
                note(name, _difference(out, *given) if side else out)

            if side:
                hooks.enter_context(module.register_forward_pre_hook(before))
            if f":{side}" != INPUT:
                hooks.enter_context(module.register_forward_hook(after))
        yield model


def _difference(out: object, given: object) -> Tensor | None:
    both = isinstance(out, Tensor) and isinstance(given, Tensor)
    return out - given if both and out.shape == given.shape else None


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


@contextmanager
def memory_for(n: int) -> Iterator[None]:
    """Names the way out where the device has no memory for n images at once, in torch's OutOfMemoryError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(f"no memory for {n} images at once; take a smaller batch_size") from error


def in_halves(run: Callable[[slice], tuple[Tensor | None, ...]], n: int) -> tuple[Tensor | None, ...]:
    """What `run` gives of rows 0 to n: tensors [n, …], or None; where memory runs out, of each half on its own.

    run: must give of a row the same whatever others are with it.  Raises OutOfMemoryError where one row is too many.

    >>> in_halves(lambda rows: (torch.arange(4)[rows], None), 4)
    (tensor([0, 1, 2, 3]), None)
    """
    return _in_halves(run, 0, n)


def part_of(values: Tensor, rows: slice) -> Tensor:
    """The rows of a tensor; all of them are the tensor itself."""
    return values if rows == slice(0, len(values)) else values[rows]


def _in_halves(run: Callable, start: int, stop: int) -> tuple[Tensor | None, ...]:
    n, middle = stop - start, (start + stop) // 2
    try:
        with memory_for(n):
            return run(slice(start, stop))
    except torch.OutOfMemoryError as error:
        if n < 2:
            raise
        warnings.warn(f"{error}; goes on with {(n + 1) // 2}", stacklevel=4)
    torch.cuda.empty_cache()  # only now: the error held on to what the pass had made
    parts = [_in_halves(run, start, middle), _in_halves(run, middle, stop)]
    return tuple(None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True))


def forward_in_parts(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """`forward` of a model in eval mode, in halves where the memory of the device is too short."""
    (logits,) = in_halves(lambda rows: (forward(model, part_of(pixels, rows)),), len(pixels))
    return logits


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
