import os

import pytest
import torch

if not os.environ.get("REQUIRE_FFCV"):
    pytest.importorskip("ffcv", reason="FFCV is optional: `make ffcv` installs it")

from src.data import load_images, loaders_ffcv
from src.data.augment import Augmentation
from src.data.loaders import make_loader

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
            torch.testing.assert_close(theirs.pixels, ours.pixels, rtol=0, atol=1e-6)
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
