"""A set that stays in its file gives what the same set in memory gives."""

import numpy as np
import pytest
import torch
from torch import nn

from src.data import load as data
from src.data import load_images
from src.data.augment import Augmentation
from src.data.batches import DiskLoader, MemoryLoader
from src.data.beton import write_beton
from src.data.loaders import make_loader
from src.data.on_disk import MappedImages
from src.models import PixelModel, build_model
from src.models.predict import predict
from src.training import Recipe, fine_tune, train


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The same beton twice: in memory, and with the limit set below its size."""
    rng = np.random.default_rng(0)
    path = tmp_path / "train.beton"
    images, labels = rng.integers(0, 256, (3000, 32, 32, 3), np.uint8), rng.integers(0, 4, 3000)
    write_beton(path, images, labels, classes=list("abcd"), page_size=2 << 20)  # several pages, with gaps between
    whole = load_images(f"beton:{path}", "train")
    monkeypatch.setattr(data, "IN_MEMORY_BYTES", images.nbytes - 1)
    return whole, load_images(f"beton:{path}", "train")


def test_it_is_read_when_it_is_asked_for_and_equals_the_array(both):
    whole, mapped = both
    assert isinstance(whole.images, np.ndarray) and isinstance(mapped.images, MappedImages)
    assert mapped.images.shape == whole.images.shape and mapped.images.nbytes == whole.images.nbytes
    assert (np.asarray(mapped.images) == whole.images).all() and mapped.classes == whole.classes
    assert (mapped.images[7] == whole.images[7]).all() and (mapped.images[np.int64(-1)] == whole.images[-1]).all()
    some = mapped.subset(50, seed=3)
    assert isinstance(some.images, MappedImages) and len(some.images) == 50
    assert (np.asarray(some.images) == whole.subset(50, seed=3).images).all()
    assert [picture.shape for picture in some.images[:2]] == [(32, 32, 3)] * 2
    with pytest.raises(IndexError):
        mapped.images[3000]
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(mapped.images, copy=False)


def test_the_limit_is_on_bytes_of_pixels(both, monkeypatch):
    whole, mapped = both
    monkeypatch.setattr(data, "IN_MEMORY_BYTES", whole.images.nbytes)
    assert isinstance(load_images(f"beton:{mapped.images.path}", "train").images, np.ndarray)


@pytest.mark.parametrize("augment", [False, True, Augmentation(mixup=0.4), Augmentation(scale=(1, 1), pad=4)])
def test_batches_are_those_from_memory(both, augment):
    options = dict(batch_size=700, augment=augment, shuffle=True, seed=5)
    loaders = [make_loader(images, **options) for images in both]
    assert type(loaders[0]) is MemoryLoader and type(loaders[1]) is DiskLoader
    for one, other in zip(*loaders, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def tiny() -> PixelModel:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU(), nn.Linear(8, 4))
    return PixelModel(net, mean=(0.5,) * 3, std=(0.3,) * 3, name="tiny")


def test_training_and_evaluation_are_those_from_memory(both, tmp_path):
    weights, tables = [], []
    for images in both:
        model = tiny()
        train(model, images, Recipe(epochs=1), checkpoint_folder=tmp_path / "checkpoints", progress=False)
        weights.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
        tables.append(predict(model, make_loader(images.subset(200, seed=0), batch_size=64)))
    assert torch.equal(*weights) and tables[0].equals(tables[1])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2  # the one is not gone on with for the other


def test_a_linear_classifier_on_frozen_features(both):
    found = []
    for images in both:
        torch.manual_seed(0)
        model = build_model("mlp", images, weights=None)
        fine_tune(model, images, Recipe(epochs=1, crop_scale=1.0), mode="linear", progress=False)
        found.append(model.classifier.weight.detach())
    assert torch.equal(*found)
