"""What an import loads: libraries that take a second or more wait in the functions that need them."""

import subprocess
import sys

import pytest

from src.paths import ROOT

SLOW = {
    "IPython",
    "datasets",
    "gdown",
    "jsonschema",
    "kornia",
    "nbformat",
    "papermill",
    "scipy.optimize",
    "scipy.stats",
}
SLOW |= {"seaborn", "sklearn", "statsmodels", "timm", "torch._dynamo", "torchvision"}
NEEDED = {"src.tables": "pandas", "src.tables, src.plotting": "matplotlib.pyplot", "src.attacks": "torch"}


@pytest.mark.parametrize("modules", NEEDED)
def test_slow_libraries_are_not_loaded_by_an_import(modules):
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded, own = set(done.stdout.split()), {"src.attacks": set()}.get(modules, {"torch"})
    assert NEEDED[modules] in loaded and not loaded & (SLOW | own)
