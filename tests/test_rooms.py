"""The rule of the house: what counts and what draws needs no torch."""

import subprocess
import sys

import pytest

from src.paths import ROOT

BLOCKED = """
import importlib, sys

class NoTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ImportError("torch is blocked here")

sys.meta_path.insert(0, NoTorch())
importlib.import_module(sys.argv[1])
"""


def modules_of(*rooms: str) -> list[str]:
    files = [path for room in rooms for path in sorted((ROOT / "src" / room).rglob("*.py"))]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]


@pytest.mark.parametrize("module", [*modules_of("tables", "plotting"), "src.data", "src.results"])
def test_tables_and_figures_need_no_torch(module):
    done = subprocess.run([sys.executable, "-c", BLOCKED, module], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
