"""Manipulations against scipy, numpy and torchvision, and against what they claim: exact shares, no patch in place."""

import numpy as np
import pytest
import scipy.fft
import torch
from scipy import ndimage, stats
from torchvision.transforms.v2.functional import rgb_to_grayscale
from victims import some_images

from src.tables.texture_shape import LEVELS, TRANSFORMATIONS, UNITS
from src.texture_shape import MANIPULATIONS, manipulate
from src.texture_shape.frequency import cue_conflict, frequency_hybrid, phase_amplitude
from src.texture_shape.manipulations import FILLS, cover, luma, occlude

SIDE = 32
EVERY = [(name, level) for name, levels in LEVELS.items() for level in levels]
RANDOM = ("occlusion_black", "occlusion_mean", "occlusion_noise", "blacken", "patch_shuffle", "phase_scramble")
BOTH_ENDS = [(name, level) for name, levels in LEVELS.items() for level in {levels[0], levels[-1]}]


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.tensor([4, 900, 17, 3, 9_999, 0, 5, 6, 7, 8, 123_456, 50])


@pytest.fixture(scope="module")
def colours(ids) -> torch.Tensor:
    """Noise in colour with no value near 0, so that what is blackened shows."""
    return 0.05 + 0.9 * torch.rand(len(ids), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def faint(ids) -> torch.Tensor:
    """Images so faint that no manipulation drives them out of [0, 1], where cutting would change their spectrum."""
    return 0.5 + 0.02 * (torch.rand(len(ids), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) - 0.5)


def test_every_manipulation_has_levels_and_a_unit():
    assert set(MANIPULATIONS) == set(LEVELS) == set(UNITS) - set(TRANSFORMATIONS)
    assert all(0 not in levels for levels in LEVELS.values())


@pytest.mark.parametrize("name", MANIPULATIONS)
def test_level_0_is_the_identity_bit_for_bit(name, colours, ids):
    unchanged = manipulate(name, colours, ids, level=0)
    assert torch.equal(unchanged, colours) and unchanged.data_ptr() != colours.data_ptr()


@pytest.mark.parametrize("name, level", EVERY)
def test_results_are_images_of_the_same_shape_and_the_input_stays(name, level, colours, ids):
    before = colours.clone()
    found = manipulate(name, colours, ids, level=level)
    assert found.shape == colours.shape and found.dtype == colours.dtype
    assert 0 <= found.min() and found.max() <= 1
    assert torch.equal(colours, before)
    assert (found - colours).abs().flatten(1).amax(1).min() > 0.01  # every image is changed


@pytest.mark.parametrize("name, level", BOTH_ENDS)
def test_batch_size_order_and_shard_change_nothing(name, level, colours, ids):
    whole = manipulate(name, colours, ids, seed=3, level=level)
    one_by_one = [
        manipulate(name, x, i, seed=3, level=level) for x, i in zip(colours.split(1), ids.split(1), strict=True)
    ]
    backwards = manipulate(name, colours.flip(0), ids.flip(0), seed=3, level=level).flip(0)
    shard = manipulate(name, colours[5:9], ids[5:9], seed=3, level=level)
    for other in (torch.cat(one_by_one), backwards):
        assert (other - whole).abs().max() <= 1e-6
    assert (shard - whole[5:9]).abs().max() <= 1e-6
    nothing = manipulate(name, colours[:0], ids[:0], level=level)
    assert nothing.shape == (0, 3, SIDE, SIDE)


@pytest.mark.parametrize("name", MANIPULATIONS)
def test_what_is_random_depends_on_seed_and_image_alone(name, colours, ids):
    same = colours[:1].expand(len(ids), -1, -1, -1)
    level = LEVELS[name][0]
    found, other_seed = (manipulate(name, same, ids, seed=seed, level=level) for seed in (0, 1))
    differs = [not torch.equal(found[0], image) for image in found[1:]]
    reseeded = [not torch.equal(a, b) for a, b in zip(found, other_seed, strict=True)]
    if name == "patch_shuffle":  # of few arrangements, some meet
        assert sum(differs) > 5 and sum(reseeded) > 5
    else:
        assert all(differs) == any(differs) == all(reseeded) == any(reseeded) == (name in RANDOM)


def test_unknown_manipulations_are_refused_with_the_names(colours, ids):
    with pytest.raises(ValueError, match="unknown manipulation 'greyscale'; choose from grayscale, occlusion_black"):
        manipulate("greyscale", colours, ids, level=1)


@pytest.mark.parametrize("name", MANIPULATIONS)
def test_wrong_images_are_refused(name, colours, ids):
    level = LEVELS[name][0]
    with pytest.raises(ValueError, match="32x24 pixels are not square"):
        manipulate(name, colours[:, :, :24], ids, level=level)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        manipulate(name, colours * 2 - 1, ids, level=level)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        manipulate(name, colours.clone().index_fill_(0, torch.tensor(3), torch.nan), ids, level=level)
    with pytest.raises(ValueError, match="floats and whole numbers, not torch.uint8"):
        manipulate(name, (255 * colours).byte(), ids, level=level)
    with pytest.raises(ValueError, match=r"expected pixels \[n, c, h, w\] with sample_ids \[n\]"):
        manipulate(name, colours, ids[:-1], level=level)
    with pytest.raises(ValueError, match=r"sample_ids \[n\], floats and whole numbers, not .* and torch.float32"):
        manipulate(name, colours, ids.float(), level=level)


@pytest.mark.parametrize(
    "name, level, message",
    [
        *((name, level, r"from 0 to 0\.9, not") for name in LEVELS if "occl" in name for level in (-0.1, 0.95)),
        ("blacken", 1, r"from 0 to 0\.9, not 1"),
        ("grayscale", 1.5, "from 0 to 1, not 1.5"),
        ("edges", -1, "from 0 to 1, not -1"),
        ("low_pass", 33, "from 0 to 32, not 33"),
        ("low_pass", -1, "from 0 to 32"),
        ("high_pass", 17, "from 0 to 16, not 17"),
        ("high_pass", float("nan"), "from 0 to 16, not nan"),
        ("phase_scramble", 181, "from 0 to 180, not 181"),
        *(("patch_shuffle", size, f"{size:g} pixels .* choose from 16, 8, 4, 2, 1") for size in (3, 32, 64, 2.5, -4)),
    ],
)
def test_wrong_levels_are_refused_with_the_choices(name, level, message, colours, ids):
    with pytest.raises(ValueError, match=message):
        manipulate(name, colours, ids, level=level)


def test_other_wrong_options_are_refused(colours, ids):
    with pytest.raises(ValueError, match="unknown fill 'white'; choose from black, mean, noise"):
        occlude(colours, ids, 0, 0.5, fill="white")
    with pytest.raises(ValueError, match="a cell of 5 pixels does not divide images of 32"):
        occlude(colours, ids, 0, 0.5, patch=5)
    for name in ("grayscale", "edges"):
        with pytest.raises(ValueError, match=f"{name} needs 3 channels"):
            manipulate(name, colours[:, :1], ids, level=1)


# colour and edges


def test_grayscale_is_torchvisions_and_grey_images_stay(colours, ids):
    found = manipulate("grayscale", colours, ids, level=1)
    np.testing.assert_allclose(found, rgb_to_grayscale(colours, 3), atol=1e-3)  # theirs has 4 digits of the weights
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    np.testing.assert_allclose(found, (weights * colours).sum(1, keepdim=True).expand_as(found), atol=1e-6)
    np.testing.assert_allclose(
        manipulate("grayscale", colours, ids, level=0.25), 0.75 * colours + 0.25 * found, atol=1e-6
    )
    clothes = some_images(20)
    assert torch.equal(manipulate("grayscale", clothes.pixels, clothes.sample_ids, level=1), clothes.pixels)


def test_edges_are_scipys_sobel_and_a_full_step_is_1(colours, ids):
    images = colours.clone()
    images[0] = 0
    images[0, :, 10:, 10:] = 1  # at its corner the gradient is 0.75 both ways
    found = manipulate("edges", images, ids, level=1)
    grey = luma(images)[:, 0].double().numpy()
    lengths = [np.hypot(*(ndimage.sobel(image, axis=axis, mode="nearest") / 4 for axis in (0, 1))) for image in grey]
    expected = np.array(lengths).clip(max=1)
    assert expected[0, 10, 10] == 1
    for channel in found.unbind(1):
        np.testing.assert_allclose(channel, expected, atol=1e-5)
    step = torch.zeros(2, 3, SIDE, SIDE)
    step[0, :, :, 10:] = 1
    step[1, :, 20:] = 0.5
    flat = manipulate("edges", step, ids[:2], level=1)
    assert flat[0, 0, 5].tolist() == [0] * 9 + [1, 1] + [0] * 21
    assert flat[1, 2, :, 30].tolist() == [0] * 19 + [0.5, 0.5] + [0] * 11


# occlusion


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.25, 0.333, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("fill", FILLS)
def test_occlusion_covers_exactly_its_share_in_whole_cells(share, fill, colours, ids):
    found = manipulate(f"occlusion_{fill}", colours, ids, seed=1, level=share)
    touched = (found != colours).any(1)
    assert touched.flatten(1).sum(1).tolist() == [round(share * SIDE**2)] * len(ids)
    cells = touched.view(-1, 8, 4, 8, 4).permute(0, 1, 3, 2, 4).flatten(3).sum(3).flatten(1)
    whole, rest = divmod(round(share * SIDE**2), 16)
    for counts in cells.tolist():
        assert sorted(counts, reverse=True) == [16] * whole + [rest] * (whole < 64) + [0] * (63 - whole)
    assert torch.equal(touched, cover(ids, 1, share, side=SIDE, patch=4))


def test_fills_are_what_they_say(colours, ids):
    hidden = cover(ids, 0, 0.5, side=SIDE, patch=4)[:, None].expand(-1, 3, -1, -1)
    black, mean, noise = (manipulate(f"occlusion_{fill}", colours, ids, level=0.5) for fill in FILLS)
    assert (black[hidden] == 0).all()
    expected = colours.double().mean((2, 3), keepdim=True).expand_as(mean)
    np.testing.assert_allclose(mean[hidden], expected[hidden], atol=1e-6)
    assert stats.kstest(noise[hidden].numpy(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(noise[hidden].view(len(ids), 3, -1).permute(1, 0, 2).flatten(1).numpy())[0, 1]) < 0.05
    clothes = some_images(5)
    grey = manipulate("occlusion_noise", clothes.pixels, clothes.sample_ids, level=0.5)
    assert (grey == grey[:, :1]).all() and grey.std() > 0.2


def test_more_occlusion_hides_what_less_has_hidden():
    ids = torch.arange(50)
    for patch in (1, 4):
        covers = [cover(ids, 0, share, side=SIDE, patch=patch) for share in (0.1, 0.25, 0.26, 0.5, 0.9)]
        for less, more in zip(covers, covers[1:], strict=False):
            assert (more | ~less).all()


@pytest.mark.parametrize("patch", [1, 4])
def test_every_place_is_hidden_equally_often(patch):
    n, share = 4_000, 0.25
    counts = cover(torch.arange(n), 0, share, side=SIDE, patch=patch)[:, ::patch, ::patch].sum(0).flatten().numpy()
    spread = (counts - n * share) / np.sqrt(n * share * (1 - share))
    assert abs(spread).max() < 4.5 and 0.8 < spread.std() < 1.2


def test_blackened_pixels_are_black_in_all_channels(colours, ids):
    for share in (0.1, 0.333, 0.9):
        found = manipulate("blacken", colours, ids, level=share)
        black = (found == 0).all(1)
        assert black.flatten(1).sum(1).tolist() == [round(share * SIDE**2)] * len(ids)
        assert torch.equal(found.masked_fill(black[:, None], 0), colours.masked_fill(black[:, None], 0))
        alone = black & ~(black.roll(1, 1) | black.roll(-1, 1) | black.roll(1, 2) | black.roll(-1, 2))
        assert share > 0.5 or alone.any()  # single pixels, not cells


# shuffled patches


def places_of(found: torch.Tensor, patch: int) -> np.ndarray:
    """Where each patch of an image of `numbered` patches came from, [n, patches]; fails if one was cut up."""
    grid = SIDE // patch
    blocks = found[:, 0].view(-1, grid, patch, grid, patch).permute(0, 1, 3, 2, 4).flatten(3)
    assert (blocks == blocks[..., :1]).all()
    return (blocks[..., 0].flatten(1) * grid**2).round().long().numpy()


def numbered(n: int, patch: int) -> torch.Tensor:
    grid = SIDE // patch
    numbers = torch.arange(grid**2).view(grid, grid) / grid**2
    return numbers.repeat_interleave(patch, 0).repeat_interleave(patch, 1).expand(n, 3, -1, -1)


@pytest.mark.parametrize("patch", [16, 8, 4, 2, 1])
def test_no_patch_stays_and_none_is_lost(patch):
    ids = torch.arange(300)
    sources = places_of(manipulate("patch_shuffle", numbered(300, patch), ids, level=patch), patch)
    k = (SIDE // patch) ** 2
    assert (np.sort(sources, axis=1) == np.arange(k)).all()
    assert (sources != np.arange(k)).all()


def test_patches_go_round_one_cycle_and_anywhere_equally_often():
    n, patch, k = 3_000, 8, 16
    sources = places_of(manipulate("patch_shuffle", numbered(n, patch), torch.arange(n), level=patch), patch)
    place = np.zeros(n, int)
    for _ in range(k - 1):
        place = sources[np.arange(n), place]
        assert (place != 0).all()
    for i in range(k):
        counts = np.bincount(sources[:, i], minlength=k)
        assert counts[i] == 0 and stats.chisquare(np.delete(counts, i)).pvalue > 1e-4
    assert len(np.unique(sources, axis=0)) > 0.99 * n


def test_a_patch_moves_as_it_is(colours, ids):
    found = manipulate("patch_shuffle", colours, ids, level=16)
    for before, after in zip(colours, found, strict=True):
        old = {before[:, i : i + 16, j : j + 16].numpy().tobytes() for i in (0, 16) for j in (0, 16)}
        assert old == {after[:, i : i + 16, j : j + 16].numpy().tobytes() for i in (0, 16) for j in (0, 16)}


# frequencies


def dct_low_pass(images: np.ndarray, cutoff: float) -> np.ndarray:
    """Cut-off in cycles per image, on images mirrored at the borders, by scipy's cosine transform."""
    cycles = np.arange(SIDE) / 2
    gain = np.exp(-(cycles[:, None] ** 2 + cycles**2) / (2 * cutoff**2))
    return scipy.fft.idctn(gain * scipy.fft.dctn(images, axes=(2, 3)), axes=(2, 3))


@pytest.mark.parametrize("blur", [0.5, 1, 2, 4])
def test_low_pass_is_a_gaussian_blur(blur, colours, ids):
    found = manipulate("low_pass", colours, ids, level=blur).numpy()
    images = colours.double().numpy()
    np.testing.assert_allclose(found, dct_low_pass(images, SIDE / (2 * np.pi * blur)).clip(0, 1), atol=1e-5)
    if blur >= 1:
        sampled = ndimage.gaussian_filter(images, (0, 0, blur, blur), mode="reflect", truncate=8)
        np.testing.assert_allclose(found, sampled, atol=2e-3)
        np.testing.assert_allclose(found.mean((2, 3)), images.mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize("cutoff", [0.5, 2, 8])
def test_high_pass_is_what_low_pass_takes_and_the_mean(cutoff, colours, ids):
    found = manipulate("high_pass", colours, ids, level=cutoff).numpy()
    images = colours.double().numpy()
    expected = images - dct_low_pass(images, cutoff) + images.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(found, expected.clip(0, 1), atol=1e-5)


def test_weak_filters_change_little(faint, ids):
    for name, level in (("low_pass", 0.02), ("high_pass", 0.05)):
        assert (manipulate(name, faint, ids, level=level) - faint).abs().max() < 1e-4


def turns(before: torch.Tensor, after: torch.Tensor) -> np.ndarray:
    """By how many degrees each phase was turned, [n, 3, 32, 32], in (-180, 180]."""
    spectra = np.fft.fft2(after.double().numpy()) * np.conj(np.fft.fft2(before.double().numpy()))
    return np.degrees(np.angle(spectra))


@pytest.mark.parametrize("level", [45, 180])
def test_phase_scrambling_turns_phases_alone_by_at_most_its_level(level, faint, ids):
    found = manipulate("phase_scramble", faint, ids, level=level)
    before, after = (np.abs(np.fft.fft2(x.double().numpy())) for x in (faint, found))
    np.testing.assert_allclose(after, before, atol=2e-4)
    turned = turns(faint, found)
    strong = before.min(1) > 0.02  # where no channel is so weak that rounding has a phase
    assert strong.mean() > 0.9
    np.testing.assert_allclose(turned[:, 0][strong], turned[:, 2][strong], atol=1.5)  # channels turn together
    assert abs(turned[:, 0][strong]).max() <= level + 1
    half = np.s_[:, 1:16, 1:]
    assert stats.kstest(turned[:, 0][half][strong[half]], "uniform", (-level, 2 * level)).pvalue > 0.01
    for own in ((0, 0), (16, 0), (0, 16), (16, 16)):  # their own opposites: real, cannot turn
        np.testing.assert_allclose(turned[:, 0][:, own[0], own[1]], 0, atol=1)


def test_phase_amplitude_takes_each_from_where_it_should(colours, faint):
    a, b = faint[:6], faint[6:]
    spectrum = np.abs(np.fft.fft2(b.double().numpy())) * np.exp(1j * np.angle(np.fft.fft2(a.double().numpy())))
    np.testing.assert_allclose(phase_amplitude(a, b), np.fft.ifft2(spectrum).real, atol=1e-6)
    a, b = colours[:6], colours[6:]
    spectrum = np.abs(np.fft.fft2(b.double().numpy())) * np.exp(1j * np.angle(np.fft.fft2(a.double().numpy())))
    np.testing.assert_allclose(phase_amplitude(a, b), np.fft.ifft2(spectrum).real.clip(0, 1), atol=1e-6)
    np.testing.assert_allclose(phase_amplitude(a, a), a, atol=1e-6)


@pytest.mark.parametrize("side", [28, 32])  # with 28 the transform of an even image is rounding, not 0
def test_a_frequency_that_is_not_there_gets_phase_0_not_that_of_rounding(side):
    texture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    stripes = torch.zeros(1, 3, side, side)
    stripes[..., ::2] = 1
    for shape in (torch.full((1, 3, side, side), 0.3), stripes, 0.1 + 0.7 * stripes):
        spectrum = np.fft.fft2(shape.double().numpy())
        phase = np.where(np.abs(spectrum) > 1e-4, np.angle(spectrum), 0)
        expected = np.fft.ifft2(np.abs(np.fft.fft2(texture.double().numpy())) * np.exp(1j * phase)).real
        np.testing.assert_allclose(phase_amplitude(shape, texture), expected.clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("cutoff", [0.5, 3, 16])
def test_hybrids_add_low_of_one_to_high_of_the_other(cutoff, colours):
    a, b = colours[:6], colours[6:]
    x, y = a.double().numpy(), b.double().numpy()
    expected = dct_low_pass(x, cutoff) + y - dct_low_pass(y, cutoff)
    np.testing.assert_allclose(frequency_hybrid(a, b, cutoff), expected.clip(0, 1), atol=1e-5)
    np.testing.assert_allclose(frequency_hybrid(a, a, cutoff), a, atol=1e-6)


def test_cue_conflicts_do_not_hang_on_the_batch(colours):
    a, b = colours[:6], colours[6:]
    for options in (dict(kind="phase"), dict(kind="hybrid", cutoff=2)):
        whole = cue_conflict(a, b, **options)
        parts = [cue_conflict(x, y, **options) for x, y in zip(a.split(1), b.split(1), strict=True)]
        assert (torch.cat(parts) - whole).abs().max() <= 1e-6
        assert 0 <= whole.min() and whole.max() <= 1


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(kind="style"), "unknown kind of cue conflict 'style'; choose from phase, hybrid"),
        (dict(kind="hybrid"), "'hybrid' needs a cutoff"),
        (dict(kind="phase", cutoff=2), "'phase' has no cutoff"),
        (dict(kind="hybrid", cutoff=0), "above 0 cycles per image, not 0"),
        (dict(kind="hybrid", cutoff=17), "from 0 to 16, not 17"),
    ],
)
def test_wrong_cue_conflicts_are_refused(options, message, colours):
    with pytest.raises(ValueError, match=message):
        cue_conflict(colours, colours, **options)


def test_cue_conflicts_need_partners_of_one_size(colours):
    with pytest.raises(ValueError, match="one partner of its own size"):
        cue_conflict(colours, colours[:3])
    with pytest.raises(ValueError, match="not square"):
        cue_conflict(colours[..., :24], colours[..., :24])
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        cue_conflict(colours, colours + 1)
