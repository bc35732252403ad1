import os

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

if not os.environ.get("REQUIRE_FFCV"):
    pytest.importorskip("ffcv", reason="FFCV is optional: `make ffcv` installs it")

from src.data import load_images, loaders_ffcv
from src.data.augment import Augmentation
from src.data.loaders import make_loader
from src.files import fingerprint
from src.models import build_model
from src.models.predict import predict

SETTINGS = {
    "in order": {},
    "shuffled": dict(shuffle=True, seed=3),
    "augmented": dict(shuffle=True, augment=Augmentation(scale=(0.5, 1.0)), seed=3),
}


@pytest.fixture(scope="module")
def image_set(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders_ffcv, "DATA", tmp_path_factory.mktemp("data"))
        yield load_images("fashion_mnist", "test").subset(230, seed=0)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_both_backends_give_the_same_batches(image_set, settings):
    memory = make_loader(image_set, batch_size=50, **settings)
    ffcv = make_loader(image_set, batch_size=50, backend="ffcv", **settings)
    for epoch in (0, 4):
        memory.epoch = ffcv.epoch = epoch
        kept = list(ffcv)  # all batches at once: a reused buffer would show
        assert len(kept) == len(memory) == 5
        for ours, theirs in zip(memory, kept, strict=True):
            assert torch.equal(theirs.pixels, ours.pixels)
            assert torch.equal(theirs.labels, ours.labels) and torch.equal(theirs.sample_ids, ours.sample_ids)


def test_a_pass_can_start_in_the_middle(image_set):
    ffcv = make_loader(image_set, batch_size=50, shuffle=True, backend="ffcv")
    for whole, rest in zip(list(ffcv)[3:], ffcv.batches(skip=3), strict=True):
        assert torch.equal(whole.pixels, rest.pixels)


def test_mixup_and_several_processes_are_refused(image_set):
    with pytest.raises(ValueError, match='processes cannot share batches that FFCV reads; use backend="memory"'):
        make_loader(image_set, batch_size=50, backend="ffcv").share_with(0, 2)
    with pytest.raises(ValueError, match='mixup needs images out of turn; use backend="memory"'):
        make_loader(image_set, batch_size=50, augment=Augmentation(mixup=0.2), backend="ffcv")


def test_pictures_that_stay_encoded_are_the_same_through_ffcv(image_set, tmp_path):
    for i, image in enumerate(image_set.images[:40]):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "ab"[i % 2] / f"{i:02}.png")
    pictures = load_images(f"pictures=folder:{tmp_path}@20", "train")
    memory, ffcv = (make_loader(pictures, batch_size=10, backend=backend) for backend in ("memory", "ffcv"))
    for ours, theirs in zip(memory, ffcv, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_a_table_is_the_same_from_both_and_so_is_the_identity_for_checkpoints(image_set):
    model = build_model("mlp", "fashion_mnist")
    memory, ffcv = (make_loader(image_set, batch_size=64, backend=backend) for backend in ("memory", "ffcv"))
    pd.testing.assert_frame_equal(predict(model, ffcv), predict(model, memory), check_exact=True)
    assert fingerprint(*memory.identity()) == fingerprint(*ffcv.identity())


def test_a_kept_file_that_has_changed_is_refused(image_set):
    path = loaders_ffcv.cached_beton(image_set.subset(20, seed=1))
    whole = np.fromfile(path, np.uint8)
    whole[len(whole) // 2] ^= 1
    whole.tofile(path)
    with pytest.raises(ValueError, match=r"is not the file that .*\.beton\.json was written for"):
        make_loader(image_set.subset(20, seed=1), batch_size=10, backend="ffcv")
