"""Parameterisations, views and measures against numpy, torchvision, torchmetrics and closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics.functional.image import total_variation as torchmetrics_tv
from torchvision.transforms.functional import affine
from victims import some_images, trained_conv

from src.data.pixels import to_pixels
from src.feature_vis import image_statistics
from src.feature_vis.maximise import change_view, draw_views
from src.feature_vis.measures import (
    measure_classes,
    measure_inversions,
    psnr,
    shifted_probability,
    spectrum_distance,
    ssim,
    total_variation,
)
from src.feature_vis.parameterisations import PARAMETERISATIONS, log_power, parameterise


@pytest.fixture(scope="module")
def natural(clothes):
    return image_statistics(to_pixels(clothes.images))


@pytest.fixture(scope="module")
def colourful():
    """Smooth colour images whose channels are correlated; height and width differ."""
    coarse = torch.rand(80, 3, 6, 5, generator=torch.Generator().manual_seed(3))
    coarse = 0.6 * coarse[:, :1] + 0.4 * coarse
    return F.interpolate(coarse, size=(20, 24), mode="bicubic").clamp(0, 1)


def made(name, n, statistics, size, start=None, seed=0):
    return parameterise(name, torch.arange(n), seed=seed, start=start, statistics=statistics, size=size)


# ---- statistics


def test_colours_are_decorrelated(colourful):
    found = image_statistics(colourful)
    colours = (colourful.double() - found.mean.double()[:, None, None]).permute(1, 0, 2, 3).flatten(1).numpy()
    np.testing.assert_allclose(found.mean, colourful.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(np.cov(found.unmix.double().numpy() @ colours, bias=True), np.eye(3), atol=1e-4)
    np.testing.assert_allclose(found.mix @ found.mix.T, np.cov(colours, bias=True), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.mix @ found.unmix, np.eye(3), atol=1e-4)


def test_the_amplitude_is_the_mean_one_of_each_frequency(colourful):
    found = image_statistics(colourful)
    whitened = np.einsum("ij,njhw->nihw", found.unmix, colourful - found.mean[:, None, None])
    expected = np.abs(np.fft.rfft2(whitened, norm="ortho")).mean(0)
    np.testing.assert_allclose(found.amplitude, expected, rtol=1e-3, atol=1e-5)


def test_grey_images_have_one_colour(natural):
    assert torch.linalg.matrix_rank(natural.mix) == 1
    for name in ("fourier", "maco"):
        how = made(name, 2, natural, (32, 32))
        images = how.draw(how.start)
        assert (images - images.mean(1, keepdim=True)).abs().max() < 1e-5


def test_statistics_of_nothing_are_refused():
    for pixels, message in (
        (torch.zeros(1, 3, 8, 8), "at least 2 images"),
        (torch.full((3, 3, 8, 8), 0.5), "all pixels of these images are alike"),
        (torch.zeros(3, 1, 8, 8), "expected 3 channels"),
        (torch.full((3, 3, 8, 8), torch.nan), "must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            image_statistics(pixels)


def test_the_power_of_one_wave_stands_at_its_frequency():
    """A wave of amplitude a has power a² n / 4 at two of the n frequencies; a ring's mean shares it out."""
    side, a = 32, 0.3
    across = torch.arange(side) / side
    for cycles in (1, 5, 12):
        wave = (0.5 + a * torch.cos(2 * torch.pi * cycles * across)).expand(1, 3, side, side)
        found = log_power(wave)[0]
        ring = np.hypot(*np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.fftfreq(side, 1 / side))).round() == cycles
        assert found[cycles - 1] == pytest.approx(10 * np.log10(2 * a**2 * side**2 / 4 / ring.sum()), abs=1e-3)
        assert found.argmax() == cycles - 1 and found.sort().values[-2] < -60


# ---- parameterisations


@pytest.mark.parametrize("size", [(20, 24), (9, 7)])
@pytest.mark.parametrize("name", PARAMETERISATIONS)
def test_pictures_have_their_size_and_lie_within_the_range(name, size):
    statistics = image_statistics(torch.rand(20, 3, *size, generator=torch.Generator().manual_seed(0)))
    how = made(name, 3, statistics, size)
    wild = how.project(how.start + 5 * torch.randn(how.start.shape, generator=torch.Generator().manual_seed(1)))
    for values in (how.start, wild):
        images = how.draw(values)
        assert images.shape == (3, 3, *size) and 0 <= images.min() and images.max() <= 1
        assert (images[0] - images[1]).abs().max() > 1e-4


def test_maco_keeps_the_amplitudes_and_the_mean_colour(colourful):
    # so faint that nothing is cut at 0 or 1
    faint = 0.5 + 0.05 * (colourful - colourful.mean())
    statistics = image_statistics(faint)
    how = made("maco", 4, statistics, (20, 24))
    phases = how.start + torch.randn(how.start.shape, generator=torch.Generator().manual_seed(0))
    images = how.draw(phases).double().numpy()
    whitened = np.einsum("ij,njhw->nihw", statistics.unmix, images - statistics.mean.numpy()[:, None, None])
    found = np.abs(np.fft.rfft2(whitened, norm="ortho"))
    expected = np.broadcast_to(statistics.amplitude, found.shape).copy()
    expected[..., 0, 0] = 0
    own = np.zeros(found.shape[-2:], bool)  # frequencies that are their own opposite have a sign, no phase
    own[[0, 0, 10, 10], [0, 12, 0, 12]] = True
    np.testing.assert_allclose(found[..., ~own], expected[..., ~own], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(images.mean((2, 3)), np.broadcast_to(statistics.mean, (4, 3)), atol=1e-4)


def test_maco_from_an_image_of_that_spectrum_is_the_image(colourful):
    """Of a set of one image and its shifts, the mean amplitude is its own."""
    image = 0.5 + 0.1 * (colourful[0] - colourful[0].mean((1, 2), keepdim=True))
    shifted = torch.stack([image.roll((i, 2 * i), (1, 2)) for i in range(8)])
    statistics = image_statistics(shifted)
    how = made("maco", 1, statistics, (20, 24), start=image[None])
    torch.testing.assert_close(how.draw(how.start)[0], image, rtol=0, atol=0.01)


def test_fourier_steps_weigh_frequencies_by_their_inverse():
    how = made("fourier", 1, None, (32, 32))
    reach = {}
    for cycles in (1, 4, 16):
        values = torch.zeros_like(how.start)
        values[0, 0, 0, cycles, 0] = 0.01
        reach[cycles] = float((how.draw(values)[0, 0] - 0.5).abs().max())
    assert reach[1] / reach[4] == pytest.approx(4, rel=0.02)
    # at half the side a wave and its opposite are one, so that it stands for half as much
    assert reach[4] / reach[16] == pytest.approx(8, rel=0.02)


def test_noise_belongs_to_the_seed_and_the_sample_id():
    for name in ("pixels", "fourier"):
        few = parameterise(name, torch.tensor([5, 2]), seed=3, start=None, statistics=None, size=(8, 8)).start
        seeds = torch.tensor([3, 4, 3])
        many = parameterise(name, torch.tensor([2, 5, 5]), seed=seeds, start=None, statistics=None, size=(8, 8)).start
        assert torch.equal(few[0], many[2]) and torch.equal(few[1], many[0]) and not torch.equal(few[0], many[1])
    start = made("fourier", 50, None, (16, 16)).start / 0.01
    assert float(start.mean()) == pytest.approx(0, abs=0.03) and float(start.std()) == pytest.approx(1, abs=0.02)
    assert float(start.abs().max()) < 5.5
    uniform = made("pixels", 50, None, (16, 16)).start
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01) and uniform.max() > 0.99 and uniform.min() < 0.01


# ---- views


def test_views_without_change_and_shifts_in_whole_pixels(noise):
    view = draw_views(torch.arange(40), 0, 7)
    assert view.shape == (40, 7, 4) and -1 <= view.min() and view.max() < 1 and view.std() > 0.5
    assert change_view(noise, view[:, 0], jitter=0, rotate=0, scale=0) is noise
    seen = change_view(noise, view[:, 0], jitter=2, rotate=0, scale=0)
    shifts = (view[:, 0, :2] * 2.5).round().clamp(-2, 2).long()
    assert {int(s) for s in shifts.flatten()} == {-2, -1, 0, 1, 2}
    for image, result, (x, y) in zip(noise.numpy(), seen.numpy(), shifts.tolist(), strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="symmetric")
        np.testing.assert_array_equal(result, padded[:, 2 - y : 26 - y, 2 - x : 34 - x])


def test_interpolated_views_agree_with_whole_shifts_and_with_torchvision(noise):
    view = draw_views(torch.arange(40), 1, 1)[:, 0]
    exact = change_view(noise, view, jitter=3, rotate=0, scale=0)
    near = change_view(noise, view, jitter=3, rotate=1e-6, scale=0)
    torch.testing.assert_close(near, exact, rtol=0, atol=1e-3)
    seen = change_view(noise, view, jitter=0, rotate=20, scale=0.3)
    for i in range(5):
        angle, size = 20 * float(view[i, 2]), 1.3 ** float(view[i, 3])
        peer = affine(noise[i], angle=-angle, translate=[0, 0], scale=size, shear=[0.0], interpolation=2)
        middle = (slice(None), slice(8, 16), slice(10, 22))  # the border is filled otherwise
        torch.testing.assert_close(seen[i][middle], peer[middle], rtol=0, atol=2e-3)


def test_views_pass_gradients_to_the_pixels(noise):
    view = draw_views(torch.arange(40), 2, 1)[:, 0]
    for options in (dict(jitter=2, rotate=0, scale=0), dict(jitter=2, rotate=5, scale=0.1)):
        pixels = noise.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(change_view(pixels, view, **options).sum(), pixels)
        assert gradient.sum() == pytest.approx(noise.numel(), rel=1e-3)  # weights of each interpolation sum to 1


# ---- measures


def ssim_by_hand(a, b):
    """Equation 13 of Wang et al. 2004 in numpy, float64, window by window."""
    window = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(window, window) / window.sum() ** 2
    a, b = (np.lib.stride_tricks.sliding_window_view(x.double().numpy(), (11, 11), (1, 2)) for x in (a, b))
    mean_a, mean_b = ((x * window).sum((-1, -2)) for x in (a, b))
    var_a, var_b = ((x**2 * window).sum((-1, -2)) - m**2 for x, m in ((a, mean_a), (b, mean_b)))
    covariance = (a * b * window).sum((-1, -2)) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (similarity / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


def test_ssim_and_psnr_are_those_of_the_papers_for_each_image():
    a = some_images(6).pixels
    b = (a + 0.1 * torch.randn(a.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    np.testing.assert_allclose(ssim(b, a), [ssim_by_hand(*pair) for pair in zip(b, a, strict=True)], atol=1e-6)
    expected = -10 * np.log10(np.square((b - a).double().numpy()).mean((1, 2, 3)))
    np.testing.assert_allclose(psnr(b, a), expected, rtol=1e-5)
    flat, other = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    c1 = 0.01**2
    assert float(ssim(flat, other)) == pytest.approx((2 * 0.2 * 0.6 + c1) / (0.2**2 + 0.6**2 + c1), rel=1e-6)
    assert float(psnr(flat, other)) == pytest.approx(-10 * np.log10(0.16), rel=1e-5)
    assert float(ssim(flat, flat)) == pytest.approx(1) and float(psnr(flat, flat)) == np.inf
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(flat[..., :8], flat[..., :8])


def test_total_variation_agrees_with_torchmetrics(noise):
    n, c, h, w = noise.shape
    across = (noise[..., 1:] - noise[..., :-1]).abs().sum((1, 2, 3)) / (c * h * (w - 1))
    down = (noise[..., 1:, :] - noise[..., :-1, :]).abs().sum((1, 2, 3)) / (c * (h - 1) * w)
    torch.testing.assert_close(total_variation(noise), across + down)
    square = noise[..., :24]  # as many neighbours across as down
    peer = torchmetrics_tv(square, reduction="none") / (c * 24 * 23)
    torch.testing.assert_close(total_variation(square), peer)


def test_shifted_probability_is_the_mean_over_eight_shifts():
    model, batch = trained_conv(), some_images(4)
    found = shifted_probability(model, batch.pixels, batch.labels)
    values = []
    for dx in (-3, 0, 3):
        for dy in (-3, 0, 3):
            if (dx, dy) == (0, 0):
                continue
            padded = np.pad(batch.pixels.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")
            seen = torch.from_numpy(np.ascontiguousarray(padded[:, :, 3 + dy : 35 + dy, 3 + dx : 35 + dx]))
            with torch.no_grad():
                values.append(model(seen).softmax(1)[torch.arange(4), batch.labels].numpy())
    np.testing.assert_allclose(found, np.mean(values, 0), rtol=1e-4)


def test_natural_images_are_nearer_the_spectrum_than_noise(natural):
    images = some_images(20).pixels
    static = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(images, 9, stride=1, padding=4)
    real, noisy, soft = (spectrum_distance(x, natural) for x in (images, static, blurred))
    assert real.median() < 0.5 * min(noisy.median(), soft.median())
    by_hand = np.sqrt(np.square(log_power(images).numpy() - natural.log_power.numpy()).mean(1))
    np.testing.assert_allclose(real, by_hand, rtol=1e-5)


def test_the_table_of_classes_holds_each_picture_against_every_judge(natural):
    model, batch = trained_conv(), some_images(5)
    first = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval()
    table = measure_classes(
        batch.pixels, batch.labels, model=model, others={"a": model, "b": first}, statistics=natural
    )
    with torch.no_grad():
        p = [m(batch.pixels).softmax(1)[torch.arange(5), batch.labels].numpy() for m in (model, first)]
    np.testing.assert_allclose(table["p"], p[0], rtol=1e-5)
    np.testing.assert_allclose(table["p_transfer"], np.mean(p, 0), rtol=1e-5)
    assert table["target"].tolist() == batch.labels.tolist()
    np.testing.assert_allclose(table["tv"], total_variation(batch.pixels), rtol=1e-5)
    np.testing.assert_allclose(table["spectrum_db"], spectrum_distance(batch.pixels, natural), rtol=1e-4)
    alone = measure_classes(batch.pixels, batch.labels, model=model, others={}, statistics=natural)
    assert alone["p_transfer"].isna().all()


def test_the_table_of_inversions_has_its_ends_at_the_image_itself():
    model, batch = trained_conv(), some_images(5)
    table = measure_inversions(batch.pixels, batch.pixels, batch.labels, model=model, layer="2", others={"same": model})
    assert (table["distance"] == 0).all() and (table["psnr"] == np.inf).all()
    np.testing.assert_allclose(table["ssim"], 1, rtol=1e-5)
    other = measure_inversions(
        batch.pixels.roll(1, 0), batch.pixels, batch.labels, model=model, layer="2", others={"same": model}
    )
    with torch.no_grad():
        wanted = model[:3](batch.pixels).flatten(1).double().numpy()
        p = model(batch.pixels.roll(1, 0)).softmax(1)[torch.arange(5), batch.labels]
    distance = np.linalg.norm(np.roll(wanted, 1, 0) - wanted, axis=1) ** 2 / np.linalg.norm(wanted, axis=1) ** 2
    np.testing.assert_allclose(other["distance"], distance, rtol=1e-4)
    np.testing.assert_allclose(other["p_transfer"], p, rtol=1e-5)
