import sys

import numpy as np
import pytest
import torch

from src.data.augment import Augmentation
from src.data.loaders import make_loader
from src.seeding import Stream, uniform

CROPS = Augmentation(scale=(0.3, 0.9))


def gather(loader, *, epoch=0, skip=0) -> dict[str, torch.Tensor]:
    """One pass of a loader as whole tensors."""
    loader.epoch = epoch
    columns = zip(*loader.batches(skip=skip), strict=True)
    return dict(zip(("pixels", "labels", "sample_ids"), (torch.cat(column) for column in columns), strict=True))


def by_sample(passed: dict[str, torch.Tensor], column: str = "pixels") -> torch.Tensor:
    return passed[column][passed["sample_ids"].argsort()]


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_plain_batches_are_the_images_exactly_and_in_order(few_clothes, batch_size):
    loader = make_loader(few_clothes, batch_size=batch_size)
    batches = list(loader)
    assert len(batches) == len(loader) == int(np.ceil(100 / batch_size))
    assert {len(batch.labels) for batch in batches[:-1]} <= {batch_size}
    passed = gather(loader)
    expected = few_clothes.images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    assert passed["pixels"].dtype == torch.float32
    np.testing.assert_array_equal(passed["pixels"].numpy(), expected)
    np.testing.assert_array_equal(passed["labels"].numpy(), few_clothes.labels)
    np.testing.assert_array_equal(passed["sample_ids"].numpy(), few_clothes.sample_ids)


def test_batches_are_copies_that_later_batches_and_callers_do_not_change(few_clothes):
    loader = make_loader(few_clothes, batch_size=10)
    kept = list(loader)
    for batch in kept:
        batch.pixels.zero_()
    assert gather(loader)["pixels"].max() > 0.5
    assert few_clothes.images.max() > 128


def test_shuffling_is_a_permutation_of_its_own_for_each_epoch_and_seed(few_clothes):
    orders = {}
    for seed in (0, 1):
        loader = make_loader(few_clothes, batch_size=32, shuffle=True, seed=seed)
        for epoch in (0, 1):
            passed = gather(loader, epoch=epoch)
            orders[seed, epoch] = passed["sample_ids"].tolist()
            position = {int(i): k for k, i in enumerate(few_clothes.sample_ids)}
            places = [position[i] for i in orders[seed, epoch]]
            assert sorted(places) == list(range(100))
            np.testing.assert_array_equal(passed["labels"].numpy(), few_clothes.labels[places])
            assert abs(np.corrcoef(places, range(100))[0, 1]) < 0.3
    assert len({tuple(order) for order in orders.values()}) == 4


def test_shuffled_order_is_the_same_for_any_batch_size_and_repeats(few_clothes):
    orders = [
        gather(make_loader(few_clothes, batch_size=size, shuffle=True, seed=5), epoch=3)["sample_ids"].tolist()
        for size in (1, 13, 100, 13)
    ]
    assert orders[0] == orders[1] == orders[2] == orders[3]


@pytest.mark.parametrize("stream", [Stream.CROP, Stream.ATTACK_START, Stream.OCCLUSION])
def test_the_order_meets_no_number_of_another_stream(few_clothes, stream):
    """Without a stream of its own, the order of epoch 21 was drawn from the numbers of stream 21."""
    loader = make_loader(few_clothes, batch_size=100, shuffle=True, seed=3)
    loader.epoch = int(stream)
    others = uniform(loader.sample_ids, 3, stream, draws=1)[:, 0]
    assert not torch.equal(loader.order(), others.argsort())
    assert abs(np.corrcoef(others[loader.order()].numpy(), range(100))[0, 1]) < 0.3


def test_every_position_is_equally_likely_for_an_image(few_clothes):
    loader = make_loader(few_clothes, batch_size=100, shuffle=True)
    first = few_clothes.sample_ids[0]
    places = []
    for epoch in range(300):
        loader.epoch = epoch
        places.append(int((loader.sample_ids[loader.order()] == int(first)).nonzero()))
    counts = np.histogram(places, bins=5, range=(0, 100))[0]
    assert counts.min() > 30 and counts.max() < 95  # 60 expected, standard deviation 7


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_augmentation_belongs_to_the_image_not_to_its_batch(few_clothes, mixup):
    augment = Augmentation(scale=(0.3, 0.9), mixup=mixup)
    options = [(100, False), (7, False), (7, True), (64, True)]
    passes = [
        gather(make_loader(few_clothes, batch_size=size, augment=augment, shuffle=shuffle, seed=2), epoch=4)
        for size, shuffle in options
    ]
    for other in passes[1:]:
        assert torch.equal(by_sample(other), by_sample(passes[0]))
        assert torch.equal(by_sample(other, "labels"), by_sample(passes[0], "labels"))


def test_augmentation_of_a_subset_is_that_of_the_whole(few_clothes):
    part = few_clothes.take(np.arange(20, 60))
    whole, of_part = (
        gather(make_loader(images, batch_size=16, augment=CROPS, seed=2), epoch=4) for images in (few_clothes, part)
    )
    assert torch.equal(of_part["pixels"], whole["pixels"][20:60])


def test_augment_true_means_the_default_strengths(few_clothes):
    a, b = (gather(make_loader(few_clothes, batch_size=50, augment=kind)) for kind in (True, Augmentation()))
    plain = gather(make_loader(few_clothes, batch_size=50))
    assert torch.equal(a["pixels"], b["pixels"]) and not torch.equal(a["pixels"], plain["pixels"])


def test_mixed_images_are_weighted_means_of_two_augmented_ones(few_clothes):
    """Which two and how much is read off the labels and found again among the images augmented alone."""
    mixing = Augmentation(scale=(0.3, 0.9), mixup=1.0)
    mixed = gather(make_loader(few_clothes, batch_size=32, augment=mixing, seed=1), epoch=2)
    alone = gather(make_loader(few_clothes, batch_size=32, augment=CROPS, seed=1), epoch=2)
    assert mixed["labels"].shape == (100, 10) and mixed["labels"].dtype == torch.float32
    torch.testing.assert_close(mixed["labels"].sum(1), torch.ones(100))
    assert (mixed["labels"] >= 0).all() and ((mixed["labels"] > 0).sum(1) <= 2).all()
    n_pairs = 0
    for i, label in enumerate(alone["labels"]):
        others = (mixed["labels"][i] > 0).nonzero()[:, 0]
        others = others[others != label]
        if len(others) == 0:  # mixed within its class: the share cannot be read
            continue
        share = mixed["labels"][i, label]
        candidates = alone["pixels"][alone["labels"] == others[0]]
        expected = share * alone["pixels"][i] + (1 - share) * candidates
        assert (expected - mixed["pixels"][i]).abs().amax((1, 2, 3)).min() < 1e-5
        n_pairs += 1
    assert n_pairs > 75


@pytest.mark.parametrize("skip", [0, 1, 3, 7, 8])
def test_skip_drops_the_first_batches(few_clothes, skip):
    augment = Augmentation(mixup=0.2)
    loader = make_loader(few_clothes, batch_size=13, augment=augment, shuffle=True, seed=1)
    loader.epoch = 2
    for kept, whole in zip(loader.batches(skip=skip), list(loader)[skip:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(kept, whole, strict=True))


def test_an_unknown_backend_and_an_empty_batch_are_refused(few_clothes):
    with pytest.raises(ValueError, match="unknown loader backend 'fcv'; choose from memory, ffcv"):
        make_loader(few_clothes, batch_size=10, backend="fcv")
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        make_loader(few_clothes, batch_size=0)


def test_without_ffcv_its_backend_says_what_to_do(few_clothes, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ffcv" or name == "src.data.loaders_ffcv"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ffcv", None)
    with pytest.raises(ImportError, match='backend="ffcv" needs FFCV .*; run `make ffcv` .* or use backend="memory"'):
        make_loader(few_clothes, batch_size=10, backend="ffcv")
