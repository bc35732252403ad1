"""What is said of an input that is refused, and that nothing else came of it."""

from collections.abc import Callable
from pathlib import Path

import pytest


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes; None for what is no file."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def first_line(act: Callable[[], object], folder: Path) -> str:
    """The first line of the error that `act` ends in, the folder in it as ~; all below the folder must be as before."""
    before = contents(folder)
    with pytest.raises((ValueError, OSError, RuntimeError, SystemExit)) as refused:
        act()
    assert contents(folder) == before
    return str(refused.value).splitlines()[0].replace(str(folder), "~")
