"""Images as users have them: what `as_batches` makes of it, and what it refuses."""

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SubsetRandomSampler, TensorDataset

from src.data.batches import Batch
from src.data.inputs import as_batches
from src.data.loaders import make_loader

PIXELS = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1])
IDS = torch.tensor([9, 7, 5, 3, 1])


def ids_of(batches) -> list[list[int]]:
    return [batch.sample_ids.tolist() for batch in batches]


def test_a_loader_of_ours_stays_as_it_is(few_clothes):
    loader = make_loader(few_clothes, batch_size=50)
    assert as_batches(loader) is loader and as_batches(batches := as_batches([(PIXELS, LABELS)])) is batches
    made = as_batches(few_clothes, batch_size=50)
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(made, loader, strict=True)) and made.n_classes == 10


def test_sample_ids_count_on_from_batch_to_batch_unless_they_are_given():
    parts = list(zip(PIXELS.split(2), LABELS.split(2), strict=True))
    assert ids_of(as_batches(parts)) == ids_of(as_batches((PIXELS, LABELS), batch_size=2)) == [[0, 1], [2, 3], [4]]
    loader = DataLoader(TensorDataset(PIXELS, LABELS, IDS), batch_size=3, shuffle=True)
    assert sorted(sum(ids_of(as_batches(loader)), [])) == sorted(IDS.tolist())
    assert ids_of(as_batches((PIXELS, LABELS, IDS), batch_size=3)) == [[9, 7, 5], [3, 1]]
    assert ids_of(as_batches([Batch(PIXELS, LABELS, IDS)])) == [IDS.tolist()]


def test_pixels_become_float32_and_labels_whole_numbers_of_64_bits():
    for pixels in (PIXELS.double(), PIXELS.half(), PIXELS.numpy()):
        (batch,) = as_batches((pixels, LABELS.int()))
        assert batch.pixels.dtype == torch.float32 and batch.labels.dtype == batch.sample_ids.dtype == torch.int64
        assert torch.equal(batch.pixels, torch.as_tensor(pixels).float())


def test_a_generator_is_kept_only_where_it_is_needed_again():
    once = as_batches(pair for pair in [(PIXELS, LABELS)])
    assert len(list(once)) == 1
    with pytest.raises(ValueError, match="empty, or a generator that is used up"):
        list(once)
    again = as_batches((pair for pair in [(PIXELS, LABELS)]), again=True)
    assert ids_of(again) == ids_of(again) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    "given, message",
    [
        ((PIXELS.mul(255).byte(), LABELS), r"not torch.uint8 .*; take pixels.float\(\) / 255"),
        ((PIXELS * 255, LABELS), r"must lie in \[0, 1\], not \[.*\]; divide by 255"),
        ((PIXELS * 4 - 2, LABELS), r"must lie in \[0, 1\], not .*; normalisation belongs into the model"),
        ((PIXELS * float("nan"), LABELS), r"must lie in \[0, 1\], not \[nan, nan\]"),
        ((PIXELS.permute(0, 2, 3, 1), LABELS), r"not \(5, 8, 8, 3\); take pixels.permute\(0, 3, 1, 2\)"),
        ((PIXELS[0], LABELS), r"expected pixels \[n, c, h, w\] with labels \[n\]"),
        ((PIXELS, LABELS[:4]), r"expected .* with labels \[n\].*int64 \(4,\)"),
        ((PIXELS, LABELS / 2), r"with labels \[n\], floats and whole numbers, not .*float32 \(5,\)"),
        ((PIXELS, LABELS, IDS[:4]), r"with sample_ids \[n\]"),
        ([{"image": PIXELS, "label": LABELS}], r"a batch is \(pixels, labels\) or .*, not dict"),
        ([PIXELS], r"a batch is \(pixels, labels\) or .*, not Tensor"),
        (PIXELS, r"a batch is \(pixels, labels\) or .*, not Tensor"),
        ("cifar10", r"a batch is \(pixels, labels\) or .*, not str"),
        (7, "expected a loader, batches of .*, not int"),
        ([], "there are no images"),
        ((PIXELS[:0], LABELS[:0]), "there are no images"),
        (DataLoader(TensorDataset(PIXELS, LABELS), shuffle=True), "shuffles: take shuffle=False, or give sample_ids"),
        (DataLoader(TensorDataset(PIXELS, LABELS), sampler=SubsetRandomSampler([1, 2])), "this DataLoader shuffles"),
        (
            DataLoader(
                TensorDataset(PIXELS, LABELS),
                batch_sampler=BatchSampler(SubsetRandomSampler([1, 2]), 2, drop_last=False),
            ),
            "this DataLoader shuffles",
        ),
    ],
)
def test_what_are_no_images_in_batches_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        list(as_batches(given))


def test_batches_come_to_the_device():
    for given in ((PIXELS, LABELS), [(PIXELS, LABELS)], DataLoader(TensorDataset(PIXELS, LABELS), batch_size=5)):
        (batch,) = as_batches(given, device="meta")
        assert {values.device.type for values in batch} == {"meta"}


def test_arrays_and_lists_will_do():
    (batch,) = as_batches((np.zeros((2, 1, 4, 4), np.float32), [1, 0]))
    assert batch.labels.tolist() == [1, 0] and batch.pixels.shape == (2, 1, 4, 4)
