"""Networks of a user's own: `mine.py:build`, a function of (n_classes, side) or a module class in a file they name.

The file is run. It is the only code outside `src/` that ever is.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from src.files import sha256

_RUN: dict[tuple[Path, str], ModuleType] = {}  # by file and checksum


def build_own(reference: str, n_classes: int, side: int) -> tuple[nn.Module, dict[str, str]]:
    """The network that FILE.py:CALLABLE makes of (n_classes, side), checked, and the file's name -> sha256.

    It takes pixels in [0, 1] as they are; what it wants normalised, it normalises.  Raises FileNotFoundError without
    the file, ValueError without the callable or where its result gives no logits, RuntimeError where its code fails.
    """
    build, code = run_own(reference)
    try:
        net = build(n_classes, side)
    except Exception as error:
        raise RuntimeError(f"{reference}({n_classes}, {side}) fails: {_in_words(error)}") from error
    _check(net, n_classes, side, reference)
    return net, code


def run_own(reference: str) -> tuple[Callable[[int, int], nn.Module], dict[str, str]]:
    """The callable that FILE.py:CALLABLE names, and the file's name -> sha256; raises as `build_own` does."""
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"model {reference!r}: there is no file {file}, seen from {Path.cwd()}")
    checksum = sha256(path)
    module = _run(path.resolve(), file, checksum)
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise ValueError(f"model {reference!r}: the file has no function or class {name!r}; it has {', '.join(own)}")
    return found, {path.name: checksum}


def _run(path: Path, file: str, checksum: str) -> ModuleType:
    """The module of a file, which is run once for each state that it is in."""
    if (path, checksum) not in _RUN:
        print(f"running {file}", flush=True)
        name = f"own_{path.stem}_{checksum[:8]}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look for themselves there
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise RuntimeError(f"{file} fails when it is run: {_in_words(error)}") from error
        _RUN[path, checksum] = module
    return _RUN[path, checksum]


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@torch.no_grad()
def _check(net: object, n_classes: int, side: int, reference: str) -> None:
    """ValueError unless `net` is a module that gives finite logits for two images; notes which layer gives them."""
    if not isinstance(net, nn.Module):
        raise ValueError(f"{reference} must make an nn.Module, not {type(net).__name__}")
    outputs: dict[str, object] = {}
    linears = [(name, part) for name, part in net.named_modules() if name and isinstance(part, nn.Linear)]
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out})) for name, part in linears
    ]
    try:
        logits = net.eval()(torch.full((2, 3, side, side), 0.5))
    except Exception as error:
        raise ValueError(f"{reference} fails on two images of {side}x{side} pixels: {_in_words(error)}") from error
    finally:
        for hook in hooks:
            hook.remove()
    expected = f"{reference} must give finite logits, floats [2, {n_classes}], for two images of {side}x{side} pixels"
    if not isinstance(logits, Tensor):
        raise ValueError(f"{expected}, not {type(logits).__name__}")
    if logits.shape != (2, n_classes) or not logits.is_floating_point() or not logits.isfinite().all():
        raise ValueError(f"{expected}, not {logits.dtype} {tuple(logits.shape)}: {logits.flatten()[:3].tolist()}, …")
    last = [name for name, out in outputs.items() if out is logits]
    net.default_cfg = {"classifier": last[0] if last else None}  # as timm's networks have it, see `classifier_name`
