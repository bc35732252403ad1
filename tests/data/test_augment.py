import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from src.data.augment import Augmentation, augment_pixels, mix_partners, random_boxes, resized_crop, shifted
from src.seeding import uniform

IDS = torch.arange(20_000)


def some_boxes(n: int, height: int, width: int) -> torch.Tensor:
    """Boxes of every size from one pixel to the whole image."""
    rng = np.random.default_rng(0)
    box_height, box_width = rng.integers(1, height + 1, n), rng.integers(1, width + 1, n)
    boxes = np.stack(
        [rng.integers(0, height - box_height + 1), rng.integers(0, width - box_width + 1), box_height, box_width], 1
    )
    boxes[0] = [0, 0, height, width]
    boxes[1] = [height - 1, width - 1, 1, 1]
    return torch.from_numpy(boxes)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("flip", [None, True, False])
def test_resized_crop_equals_torchvision(noise, antialias, flip):
    boxes = some_boxes(len(noise), *noise.shape[-2:])
    flipped = None if flip is None else torch.arange(len(noise)) % 2 == int(flip)
    found = resized_crop(noise, boxes, flipped=flipped)
    for i, box in enumerate(boxes.tolist()):
        expected = tv.resized_crop(noise[i], *box, size=list(noise.shape[-2:]), antialias=antialias)
        if flipped is not None and flipped[i]:
            expected = tv.horizontal_flip(expected)
        torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=0)


def test_a_shift_is_a_crop_of_the_reflect_padded_image(noise):
    shifts = torch.from_numpy(np.random.default_rng(0).integers(-4, 5, (len(noise), 2)))
    shifts[0], shifts[1] = torch.tensor([-4, 4]), torch.tensor([4, -4])
    flipped = torch.arange(len(noise)) % 2 == 1
    found = shifted(noise, shifts, flipped=flipped)
    padded = tv.pad(noise, [4, 4], padding_mode="reflect")
    for i, (down, right) in enumerate(shifts.tolist()):
        expected = tv.crop(padded[i], 4 + down, 4 + right, *noise.shape[-2:])
        assert torch.equal(found[i], tv.horizontal_flip(expected) if flipped[i] else expected)


def test_padded_crops_take_every_place_equally_often():
    dot = torch.zeros(5000, 1, 9, 9)
    dot[:, :, 4, 4] = 1
    only_pad = Augmentation(scale=(1, 1), pad=2, flip=0.0)
    places = augment_pixels(dot, IDS[:5000], only_pad, seed=0, epoch=0).flatten(1).argmax(1)
    counts = torch.bincount(places, minlength=81).view(9, 9)[2:7, 2:7]
    assert counts.sum() == 5000
    assert stats.chisquare(counts.flatten().numpy()).pvalue > 1e-3
    part = augment_pixels(dot[7:9], IDS[7:9], only_pad, seed=0, epoch=0)
    assert torch.equal(part.flatten(1).argmax(1), places[7:9])
    with pytest.raises(ValueError, match="pad must be below"):
        augment_pixels(dot[:2, :, :2], IDS[:2], only_pad, seed=0, epoch=0)


def test_the_whole_image_comes_back_bit_by_bit(noise):
    whole = torch.tensor([[0, 0, 24, 32]]).repeat(len(noise), 1)
    assert torch.equal(resized_crop(noise, whole), noise)
    assert torch.equal(resized_crop(noise, whole, flipped=torch.ones(40, dtype=torch.bool)), noise.flip(-1))


def test_white_stays_white_to_the_last_bit():
    white = torch.ones(2000, 3, 32, 32)
    assert torch.equal(augment_pixels(white, IDS[:2000], Augmentation(), seed=0, epoch=0), white)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (5, 3), (1, 1)])
@pytest.mark.parametrize(
    "scale, ratio", [((0.01, 1.0), (0.2, 5.0)), ((1.0, 1.0), (0.75, 4 / 3)), ((0.35, 1.0), (1, 1))]
)
def test_boxes_lie_inside_the_image(size, scale, ratio):
    highest = 1 - 2**-24  # the largest number that `uniform` gives
    draws = torch.cat([uniform(IDS[:5000], draws=4), torch.full((1, 4), highest), torch.zeros(1, 4)])
    top, left, height, width = random_boxes(draws, *size, Augmentation(scale, ratio)).unbind(1)
    assert (height >= 1).all() and (width >= 1).all() and (top >= 0).all() and (left >= 0).all()
    assert (top + height <= size[0]).all() and (left + width <= size[1]).all()


def test_boxes_are_distributed_as_torchvisions():
    """At sizes where neither side has to cut or redraw a box, which is where the two differ."""
    scale, ratio = (0.2, 0.5), (3 / 4, 4 / 3)
    ours = random_boxes(uniform(IDS[:4000], draws=4), 1000, 1000, Augmentation(scale, ratio)).numpy()
    torch.manual_seed(0)
    image = torch.empty(3, 1000, 1000)
    theirs = np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(4000)])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    top, left, height, width = ours.T
    area, log_ratio = height * width / 1e6, np.log(width / height)
    assert stats.kstest(area, stats.uniform(0.2, 0.3).cdf).pvalue > 1e-3
    assert stats.kstest(log_ratio, stats.uniform(np.log(ratio[0]), np.log(ratio[1] / ratio[0])).cdf).pvalue > 1e-3
    for start, length in ((top, height), (left, width)):
        assert stats.kstest((start + 0.5) / (1000 - length + 1), "uniform").pvalue > 1e-3


def test_every_place_in_the_image_is_equally_likely():
    three_quarters = Augmentation(scale=(36 / 64, 36 / 64), ratio=(1, 1))  # 6 of 8 pixels a side: 3 × 3 places
    top, left, height, width = random_boxes(uniform(IDS, draws=4), 8, 8, three_quarters).unbind(1)
    assert (height == 6).all() and (width == 6).all()
    assert stats.chisquare(np.bincount(3 * top + left, minlength=9)).pvalue > 1e-3


def test_as_many_images_are_flipped_as_asked():
    rising = torch.linspace(0, 1, 8).expand(5000, 1, 8, 8)
    only_flip = Augmentation(scale=(1, 1), ratio=(1, 1), flip=0.3)
    flipped = augment_pixels(rising, IDS[:5000], only_flip, seed=0, epoch=0)[:, 0, 0, 0] > 0.5
    assert stats.binomtest(int(flipped.sum()), 5000, 0.3).pvalue > 1e-3


def test_an_image_is_augmented_alike_in_any_batch(noise):
    ids = torch.arange(100, 140)
    settings = dict(augmentation=Augmentation(), seed=3, epoch=2)
    whole = augment_pixels(noise, ids, **settings)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment_pixels(noise[order], ids[order], **settings), whole[order])
    parts = [augment_pixels(noise[i : i + 7], ids[i : i + 7], **settings) for i in range(0, 40, 7)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(augment_pixels(noise[:1], ids[:1], **settings), whole[:1])
    assert 0 <= whole.min() and whole.max() <= 1


@pytest.mark.parametrize("change", [dict(seed=4), dict(epoch=3), dict(sample_ids=torch.arange(40))])
def test_another_seed_epoch_or_sample_is_augmented_otherwise(noise, change):
    settings = dict(sample_ids=torch.arange(100, 140), augmentation=Augmentation(), seed=3, epoch=2)
    a, b = (augment_pixels(noise, **options) for options in (settings, settings | change))
    assert ((a - b).abs().amax((1, 2, 3)) > 0.01).float().mean() > 0.9


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_shares_follow_the_beta_distribution(alpha):
    _, shares = mix_partners(IDS, 1000, alpha, seed=0, epoch=0)
    expected = stats.beta(alpha, alpha).rvs(200_000, random_state=0).astype(np.float32)  # float32 rounds many to 1
    assert stats.ks_2samp(shares.numpy(), expected).pvalue > 1e-3


def test_mixup_partners_are_uniform_and_independent_of_the_share():
    partners, shares = mix_partners(IDS, 50, 0.4, seed=0, epoch=0)
    assert stats.chisquare(np.bincount(partners, minlength=50)).pvalue > 1e-3
    assert abs(stats.spearmanr(partners, shares).statistic) < 0.03
    again, _ = mix_partners(IDS.flip(0), 50, 0.4, seed=0, epoch=0)
    assert torch.equal(again.flip(0), partners)
    other, _ = mix_partners(IDS, 50, 0.4, seed=0, epoch=1)
    assert (other == partners).float().mean() < 0.05


@pytest.mark.parametrize(
    "strength, named",
    [
        (dict(scale=(0.5, 0.4)), "scale"),
        (dict(scale=(0.0, 1.0)), "scale"),
        (dict(scale=(0.5, 1.1)), "scale"),
        (dict(ratio=(0.0, 1.0)), "ratio"),
        (dict(ratio=(2.0, 1.0)), "ratio"),
        (dict(pad=-1), "pad"),
        (dict(pad=4), "scale"),
        (dict(flip=1.1), "flip"),
        (dict(mixup=-0.1), "mixup"),
    ],
)
def test_a_strength_that_means_nothing_is_refused(strength, named):
    with pytest.raises(ValueError, match=named):
        Augmentation(**strength)
