"""Networks from a file of the user's, FILE.py:NAME: the one code that runs because a user has named it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

_RUN: dict[tuple[Path, int], ModuleType] = {}  # file and time of its last change -> what running it gave


def build_own(reference: str, n_classes: int, side: int) -> nn.Module:
    """The network that NAME gives for (n_classes, side): a function that returns a module, or a class of modules.

    Raises FileNotFoundError without the file, and ValueError where the file or NAME fails, or where NAME gives no
    module that turns pixels [n, 3, side, side] into logits [n, n_classes].
    """
    file, _, name = reference.rpartition(":")
    build = getattr(_run(Path(file)), name, None)
    if not callable(build):
        raise ValueError(f"{file} has no function or class {name!r}")
    try:
        net = build(n_classes, side)
        made = _trial(net, side) if isinstance(net, nn.Module) else net
    except Exception as error:  # whatever a user's code raises
        raise ValueError(f"{reference} failed for {n_classes} classes of {side} pixels: {_told(error)}") from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"{reference} must give a torch module, not {type(net).__name__}")
    if not isinstance(made, Tensor) or made.shape != (2, n_classes) or not made.is_floating_point():
        what = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(f"{reference} gives {what} for 2 images, not float logits (2, {n_classes})")
    return net


def _run(file: Path) -> ModuleType:
    """The module of a file, run once in a process as long as it does not change; it is said on the screen."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}, seen from {Path.cwd()}")
    key = (file.resolve(), file.stat().st_mtime_ns)
    if key not in _RUN:
        print(f"running {file}")
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever a user's code raises
            raise ValueError(f"{file} cannot be run: {_told(error)}") from error
        _RUN[key] = module
    return _RUN[key]


@torch.no_grad()
def _trial(net: nn.Module, side: int) -> object:
    return net.eval()(torch.zeros(2, 3, side, side))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
