"""Access to models: by name, frozen for a time, hooked, input gradients, short memory."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
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


def first_seeds(models: Mapping) -> Zoo:
    """Of each name the model that comes first."""
    first = {}
    for (name, seed), model in as_zoo(models).items():
        first.setdefault(name, (seed, model))
    return {(name, seed): model for name, (seed, model) in first.items()}


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


def forward(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """The model's logits in float32; their values are left to `check_logits`.

    Raises ValueError for an output that is not one tensor [n, k], for half precision, but under autocast, for weights
    of another precision than the pixels, and for a model that writes over its pixels, which others are still to see.
    """
    counted, kind = not pixels.is_inference(), type(model).__name__  # such a tensor has no count of its changes
    before = pixels._version if counted else 0
    try:
        logits = model(pixels)
    except RuntimeError as error:
        others = {weight.dtype for weight in model.parameters() if weight.is_floating_point()} - {pixels.dtype}
        if not others or torch.is_autocast_enabled(pixels.device.type):
            raise
        raise ValueError(
            f"{kind} has weights of {' and '.join(sorted(map(str, others)))} and cannot take pixels of {pixels.dtype}; "
            "take model.float()"
        ) from error
    if counted and pixels._version != before:
        raise ValueError(f"{kind} changes its input in place; let it begin with a copy, pixels.clone()")
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
