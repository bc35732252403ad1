"""What the tests share: small sets of real images, one thread, and the place of CIFAR if it is here."""

import json
import os
import shutil
import time

import matplotlib as mpl
import pytest
import torch
from filelock import FileLock
from graph import finish, make_copy
from matplotlib import pyplot as plt

from src.data import ImageSet, load_images
from src.paths import ROOT
from src.runtime import keep_memory

SHARED = ROOT.parent / "shared" / "data"
if "ZOOM_DATA" not in os.environ and SHARED.is_dir():
    os.environ["ZOOM_DATA"] = str(SHARED)

# what begins first where several processes share the tests, file by file, as it takes longest
LONGEST = ("test_interruption", "test_notebooks", "test_cluster", "test_readme", "test_workflow")

# what `make test FAST=1` does not even collect: what trains, attacks or optimises for long, runs notebooks, graphs or
# processes of its own, or counts all published tables
SLOW = "efficiency finetuning gpu models training workflow test_imports test_measuring test_shards test_study".split()
SLOW += [
    f"attacks/test_{name}"
    for name in "attacks curves drawn ensemble excess figures peers shapes transfer_audit".split()
]
SLOW += [f"data/test_{name}" for name in "beton download encoded load loaders loaders_ffcv mapped pictures".split()]
SLOW += [f"feature_vis/test_{name}" for name in "feature_vis measures record shapes".split()]
SLOW += [f"hostile/test_{name}" for name in "code configs data machine weights".split()]
SLOW += [f"tables/test_{name}" for name in "claims compare profile statistics".split()]
SLOW += [f"texture_shape/test_{name}" for name in "corrupted cutouts painters plotting shapes texture_shape".split()]
SLOW += ["calibration/test_shapes", "cka/test_choices", "cka/test_networks", "cka/test_shapes"]

mpl.use("Agg")
torch.set_num_threads(1)  # sums differ in the last bit with the number of threads
keep_memory()


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_cifar: skipped where CIFAR-10 and CIFAR-100 are not in $ZOOM_DATA")
    if gone := [name for name in SLOW if not list((ROOT / "tests").glob(f"{name}*"))]:
        raise pytest.UsageError(f"SLOW of tests/conftest.py names what is not there: {', '.join(gone)}")


def pytest_ignore_collect(collection_path):
    """Leave out what is SLOW where the variable FAST is set."""
    place = collection_path.relative_to(ROOT / "tests").with_suffix("").as_posix()
    return True if os.environ.get("FAST") and place in SLOW else None


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    place = os.environ.get("ZOOM_DATA")
    if place and all(os.path.isdir(os.path.join(place, name)) for name in ("cifar10", "cifar100")):
        return
    where = f"ZOOM_DATA={place} holds not both" if place else f"ZOOM_DATA is not set and {SHARED} is not there: no"
    skip = pytest.mark.skip(reason=f"{where} cifar10/ and cifar100/")
    for item in items:
        if item.get_closest_marker("needs_cifar"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def clothes() -> ImageSet:
    """500 embedded training images, 50 a class, 32 pixels a side."""
    return load_images("fashion_mnist", "train").subset(500, seed=0)


@pytest.fixture(scope="session")
def few_clothes(clothes) -> ImageSet:
    """100 of the 500, 10 a class."""
    return clothes.subset(100, seed=1)


@pytest.fixture
def noise() -> torch.Tensor:
    """Colour noise, 40 images [3, 24, 32] in [0, 1]: every pixel differs, and height and width too."""
    return torch.rand(40, 3, 24, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The folder of a small graph that ran to its end on this machine, and the seconds that it took.

    It runs once for all processes that share the tests.  What changes something starts from `finished`, a copy.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, took = root / "undisturbed", root / "undisturbed.json"
    with FileLock(root / "undisturbed.lock"):
        if not took.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed here
            began = time.monotonic()
            finish(make_copy(folder))
            took.write_text(json.dumps(time.monotonic() - began))
    return folder, json.loads(took.read_text())


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A copy of the folder of `undisturbed`, to begin from: a copy is as up to date as the original."""
    return shutil.copytree(undisturbed[0], tmp_path / "copy", symlinks=True)
