"""Maximisation and inversion against closed forms, and what they leave of the model."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from victims import Linear, some_images, trained_conv

from src.data.pixels import to_pixels
from src.feature_vis import image_statistics, invert_features, maximise_activation, respond, stages
from src.feature_vis.layers import log_odds, pick_response
from src.models import build_model

STILL = dict(jitter=0, rotate=0, scale=0)


@pytest.fixture(scope="module")
def natural(clothes):
    return image_statistics(to_pixels(clothes.images))


@pytest.fixture(scope="module")
def colourful():
    """Smooth colour images whose channels are correlated."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(60, 3, 5, 5, generator=generator)
    coarse = 0.6 * coarse[:, :1] + 0.4 * coarse
    return F.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)


def linear_model(n_values=3 * 8 * 8, n_classes=4):
    return Linear(n_values, n_classes).eval()


# ---- responses


def test_a_response_is_what_a_plain_pass_gives_and_later_modules_do_not_run():
    model, pixels, ran = trained_conv(), some_images(4).pixels, []
    handles = [module.register_forward_hook(lambda m, i, o, k=k: ran.append(k)) for k, module in enumerate(model)]
    with torch.no_grad():
        found = respond(model, pixels, "2"), respond(model, pixels, "2:input"), respond(model, pixels, "logits")
    for handle in handles:
        handle.remove()
    assert ran == [0, 1, 2, 0, 1, *range(6)]
    with torch.no_grad():
        for tensor, stop in zip(found, (3, 2, 6), strict=True):
            torch.testing.assert_close(tensor, model[:stop](pixels))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_hook_does_not_outlive_a_pass_that_fails():
    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 2), nn.ReLU())
    with pytest.raises(RuntimeError):
        respond(model, torch.rand(1, 3, 4, 4), "2")
    assert not any(module._forward_hooks for module in model.modules())


def test_an_unknown_layer_lists_near_names():
    model = build_model("cnn", "fashion_mnist")
    with pytest.raises(ValueError, match=r"unknown layer 'net.layr1.0'.*net\.layer1\.0"):
        invert_features(model, "net.layr1.0", some_images(2).pixels, steps=1)
    with pytest.raises(ValueError, match="net.layer2"):
        maximise_activation(model, [0], layer="net.layer22", size=(32, 32), steps=1)


def test_layers_that_cannot_be_looked_at_are_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.never, self.pair = nn.Linear(2, 2), nn.LSTM(3, 2, batch_first=True)

        def forward(self, pixels):
            return self.pair(pixels.mean(3).transpose(1, 2))[0][:, -1]

    with pytest.raises(ValueError, match="'never' does not run"):
        respond(Odd(), torch.rand(2, 3, 4, 4), "never")
    with pytest.raises(ValueError, match="'pair' gives tuple for 2 images"):
        respond(Odd(), torch.rand(2, 3, 4, 4), "pair")


@pytest.mark.parametrize("name, first, count", [("mlp", "net.layernorms.0:input", 8), ("cnn", "net.conv1", 10)])
def test_stages_run_from_the_stem_to_the_logits(name, first, count):
    model, pixels = build_model(name, "fashion_mnist"), some_images(2).pixels
    names = stages(model, pixels)
    assert names[0] == first and names[-1] == "logits" and len(names) == count
    with torch.no_grad():
        assert all(torch.isfinite(respond(model, pixels, layer)).all() for layer in names)


def test_the_stages_of_the_mlp_are_its_residual_stream():
    """Each state is the last one plus what the block between them adds; the logits follow from the last one alone."""
    model, pixels = build_model("mlp", "fashion_mnist"), some_images(3).pixels
    *states, _ = stages(model, pixels)
    with torch.no_grad():
        stream = [respond(model, pixels, layer) for layer in states]
        for i, (before, after) in enumerate(zip(stream, stream[1:], strict=False)):
            torch.testing.assert_close(after, before + respond(model, pixels, f"net.blocks.{i}"))
        torch.testing.assert_close(model.net.linear_out(stream[-1]), model(pixels))


def test_what_a_target_picks():
    maps, tokens, units = torch.randn(2, 5, 3, 4), torch.randn(2, 6, 5), torch.randn(2, 5)
    expected = [
        (maps, 2, maps[:, 2].mean((1, 2))),
        (maps, (2,), maps[:, 2].mean((1, 2))),
        (maps, (2, 1, 3), maps[:, 2, 1, 3]),
        (maps, (None, 1, 3), maps[:, :, 1, 3].square().mean(1)),
        (tokens, 4, tokens[:, :, 4].mean(1)),
        (tokens, (3, 4), tokens[:, 3, 4]),
        (tokens, (3, None), tokens[:, 3].square().mean(1)),
        (units, 4, units[:, 4]),
    ]
    for features, target, value in expected:
        torch.testing.assert_close(pick_response(features, target), value)
    for features, target in ((maps, 5), (maps, (0, 3, 0)), (units, (1, 0)), (tokens, (6, 0)), (units, -1)):
        with pytest.raises(ValueError, match="is not in a response of shape"):
            pick_response(features, target)


def test_log_odds_are_those_of_the_softmax():
    logits, classes = 3 * torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 0])
    p = logits.softmax(1).gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(log_odds(logits, classes), (p / (1 - p)).log())


# ---- maximisation


def test_the_picture_of_a_linear_unit_is_the_sign_of_its_weights():
    """Of w·x over [0, 1] the maximum is at 1 where w > 0 and at 0 elsewhere."""
    model = linear_model()
    done = maximise_activation(
        model, [1, 3], layer="layer", parameterisation="pixels", size=(8, 8), steps=150, lr=0.1, **STILL
    )
    for image, k in zip(done.images, (1, 3), strict=True):
        torch.testing.assert_close(image.flatten(), (model.layer.weight[k] > 0).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("parameterisation", ["pixels", "fourier", "maco"])
def test_every_parameterisation_reaches_its_classes_within_the_pixel_range(parameterisation, natural):
    model = trained_conv()
    done = maximise_activation(model, range(10), parameterisation=parameterisation, statistics=natural, steps=100)
    assert done.images.shape == (10, 3, 32, 32) and 0 <= done.images.min() and done.images.max() <= 1
    with torch.no_grad():
        p = model(done.images).softmax(1).diagonal()
    assert p.min() > 0.7  # guessing: 0.1
    assert done.history.shape == (10, 100) and done.history.isfinite().all()
    assert done.history[:, -10:].mean() > done.history[:, :5].mean() + 0.3
    assert done.stops == ["all steps done"] * 10 and done.n_steps.tolist() == [100] * 10


def test_the_same_seed_gives_the_same_picture_and_another_one_another(natural):
    model = trained_conv()
    options = dict(statistics=natural, steps=10)
    first = maximise_activation(model, [3, 4], seed=5, **options).images
    assert torch.equal(first, maximise_activation(model, [3, 4], seed=5, **options).images)
    assert (first - maximise_activation(model, [3, 4], seed=6, **options).images).abs().max() > 0.01


@pytest.mark.parametrize("parameterisation", ["pixels", "fourier", "maco"])
def test_what_is_drawn_for_a_picture_does_not_depend_on_the_batch(parameterisation, natural):
    """Start and views belong to (seed, sample id), so a picture alone is the one it is among others, up to rounding."""
    model = linear_model(3 * 32 * 32)
    options = dict(parameterisation=parameterisation, statistics=natural, steps=5, tv=0.5)
    ids, seeds = torch.tensor([7, 9, 7]), torch.tensor([0, 0, 1])
    together = maximise_activation(model, [0, 1, 2], seed=seeds, sample_ids=ids, **options).images
    for i, target in enumerate(range(3)):
        alone = maximise_activation(model, [target], seed=int(seeds[i]), sample_ids=ids[i : i + 1], **options).images
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=2e-3)
    assert (together[0] - together[2]).abs().max() > 0.01


@pytest.mark.parametrize("parameterisation", ["pixels", "fourier", "maco"])
def test_a_start_is_where_it_starts(parameterisation, natural, colourful):
    model, start = linear_model(3 * 32 * 32), some_images(2).pixels
    done = maximise_activation(
        model, [0, 1], parameterisation=parameterisation, statistics=natural, start=start, steps=1, lr=1e-9, **STILL
    )
    if parameterisation == "maco":  # the phases of the image, not its amplitudes
        kept = F.cosine_similarity(done.images.flatten(1) - done.images.mean(), start.flatten(1) - start.mean())
        assert kept.min() > 0.5
    else:
        torch.testing.assert_close(done.images, start, rtol=0, atol=0.003)


def test_a_probability_that_is_reached_ends_a_picture_and_leaves_the_others_alone(natural):
    model = trained_conv()
    options = dict(statistics=natural, parameterisation="pixels", steps=120)
    done = maximise_activation(model, range(10), stop_at=0.9, **options)
    assert done.stops == ["reached"] * 10 and len(set(done.n_steps.tolist())) > 1
    for values, n in zip(done.history, done.n_steps.tolist(), strict=True):
        good = (values >= 0.9).tolist()
        assert all(good[n - 4 : n + 1]) and not any(all(good[i : i + 5]) for i in range(n - 4))
        assert values[n + 1 :].isnan().all()
    slow = int(done.n_steps.argmax())
    alone = maximise_activation(model, [slow], stop_at=0.9, sample_ids=torch.tensor([slow]), **options)
    torch.testing.assert_close(done.images[slow], alone.images[0], rtol=0, atol=2e-3)


def test_a_dead_unit_ends_with_a_note_and_the_living_one_goes_on():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2), nn.ReLU()).eval()
    with torch.no_grad():
        model[1].weight.abs_()
        model[1].weight[1] *= -1
        model[1].bias.copy_(torch.tensor([0.0, -1.0]))  # never above 0 on pixels
    done = maximise_activation(model, [0, 1], layer="2", size=(8, 8), steps=100)
    assert done.stops[0] == "all steps done" and done.n_steps.tolist() == [100, 20]
    assert done.stops[1] == "dead: 2 1 stayed at 0 for 20 steps, without a gradient"
    assert done.images.isfinite().all()


def test_a_picture_at_its_optimum_ends_as_converged():
    done = maximise_activation(
        linear_model(), [0], layer="layer", parameterisation="pixels", size=(8, 8), steps=400, lr=0.2, **STILL
    )
    assert done.stops == ["converged"] and done.n_steps[0] < 400


def test_nan_stops_with_the_step():
    class Bursts(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.passes = linear_model(), 0

        def forward(self, pixels):
            self.passes += 1  # one look at the shape, then one pass a step
            logits = self.inner(pixels)
            return logits * torch.tensor([1.0, torch.nan])[: len(logits), None] if self.passes > 5 else logits

    with pytest.raises(ValueError, match=r"logits 2 \(picture 1\) has a response or gradient .* not finite at step 4"):
        maximise_activation(Bursts(), [0, 2], size=(8, 8), steps=10)


def test_total_variation_smooths(natural):
    model = trained_conv()
    options = dict(parameterisation="pixels", statistics=natural, steps=40)
    rough, smooth = (maximise_activation(model, [2, 5], tv=tv, **options).images for tv in (0, 100))
    neighbours = [(images[..., 1:] - images[..., :-1]).abs().mean() for images in (rough, smooth)]
    assert neighbours[1] < 0.5 * neighbours[0]


def test_bad_requests_name_the_way_out(natural):
    model = trained_conv()
    for options, message in (
        (dict(targets=[10]), "class 10 is out of range for a model of 10 classes"),
        (dict(targets=[]), "must be targets"),
        (dict(targets=[0], statistics=None), "give size="),
        (dict(targets=[0], parameterisation="cppn"), "unknown parameterisation 'cppn'; choose from pixels, fourier, m"),
        (dict(targets=[0], statistics=None, size=(32, 32), parameterisation="maco"), "needs the statistics"),
        (dict(targets=[0], size=(16, 16), parameterisation="maco"), r"statistics are of images of \(32, 32\)"),
        (dict(targets=[0], start=torch.full((1, 3, 32, 32), 2.0)), r"lie in \[0, 1\], not \[2, 2\]"),
        (dict(targets=[0], start=torch.zeros(2, 3, 32, 32)), "an image for each picture"),
        (dict(targets=[0], stop_at=1.5), "between 0 and 1, not 1.5"),
        (dict(targets=[0], steps=0), "at least 1 step, not 1 and 0"),
        (dict(targets=[0], lr=-1.0), "lr above 0"),
        (dict(targets=[0], jitter=-1), "cannot be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            maximise_activation(model, **(dict(statistics=natural, steps=2) | options))


def test_a_model_cut_off_from_its_pixels_is_refused():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = linear_model()

        def forward(self, pixels):
            return self.inner(pixels.detach())

    with pytest.raises(ValueError, match="does not depend on the pixels"):
        maximise_activation(Cut(), [0], size=(8, 8), steps=3, **STILL)


# ---- inversion


def test_an_invertible_layer_gives_the_image_back():
    """8x8 pixels through an orthogonal matrix: at distance 0 there is one image."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 192), nn.Linear(192, 10)).eval()
    nn.init.orthogonal_(model[1].weight)
    images = F.avg_pool2d(some_images(4).pixels, 4)
    for parameterisation in ("pixels", "fourier"):
        done = invert_features(model, "1", images, parameterisation=parameterisation, steps=400)
        assert (done.images - images).abs().mean() < 0.01, parameterisation
        assert done.history[:, -1].max() < 1e-3 and 0 <= done.images.min() and done.images.max() <= 1


def test_the_history_is_the_relative_distance_of_the_paper(natural):
    model, images = trained_conv(), some_images(3).pixels
    done = invert_features(model, "2", images, statistics=natural, steps=1, lr=1e-12)
    with torch.no_grad():
        wanted, found = (model[:3](x).flatten(1).double().numpy() for x in (images, done.images))
    expected = np.linalg.norm(found - wanted, axis=1) ** 2 / np.linalg.norm(wanted, axis=1) ** 2
    np.testing.assert_allclose(done.history[:, 0], expected, rtol=1e-3)


def test_the_regularisers_are_those_of_the_paper():
    """Alone, each has a known best picture: grey for the alpha norm, a blank one for the total variation."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
    images = F.avg_pool2d(some_images(2).pixels, 4)
    options = dict(parameterisation="pixels", steps=200)
    grey = invert_features(model, "1", images, alpha_norm=1e4, alpha=2, **options).images
    torch.testing.assert_close(grey, torch.full_like(grey, 0.5), rtol=0, atol=0.02)
    blank = invert_features(model, "1", images, tv=1e4, **options).images
    assert blank[..., :-1, :-1].std((2, 3)).max() < 0.02 and (blank.mean((2, 3)) - 0.5).abs().max() > 0.001


def test_inversions_stop_where_they_are_asked_to(natural):
    model, images = trained_conv(), some_images(6).pixels
    done = invert_features(model, "0", images, statistics=natural, steps=200, stop_at=0.05)
    assert done.stops == ["reached"] * 6
    last = done.history[torch.arange(6), done.n_steps]
    assert (last <= 0.05).all() and (done.history[torch.arange(6), done.n_steps - 1] > 0.05).all()


def test_bad_images_and_silent_layers_are_refused():
    model = trained_conv()
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        invert_features(model, "0", torch.full((1, 3, 32, 32), -1.0), steps=1)
    with pytest.raises(ValueError, match="no images"):
        invert_features(model, "0", torch.zeros(0, 3, 32, 32), steps=1)
    with pytest.raises(ValueError, match="cannot be negative"):
        invert_features(model, "0", some_images(1).pixels, steps=1, tv=-1.0)
    silent = nn.Sequential(nn.Flatten(), nn.Linear(192, 2, bias=False), nn.ReLU()).eval()
    with torch.no_grad():
        silent[1].weight.abs_().neg_()
    with pytest.raises(ValueError, match="'2' gives 0 for sample_id 4; there is nothing to invert"):
        invert_features(silent, "2", torch.rand(1, 3, 8, 8), steps=1, sample_ids=torch.tensor([4]))


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_comes_back_as_it_was(fails, natural):
    model = build_model("cnn", "fashion_mnist", weights=None)
    model.net.layer1.train()
    model.net.fc.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes, flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    if fails:
        with pytest.raises(ValueError, match="unknown layer"):
            invert_features(model, "net.layer9", some_images(2).pixels, steps=2)
        with pytest.raises(ValueError, match="out of range"):
            maximise_activation(model, [11], statistics=natural, steps=2)
    else:
        invert_features(model, "net.layer1.0", some_images(2).pixels, steps=2, statistics=natural)
        maximise_activation(model, [1], layer="net.layer3", statistics=natural, steps=2)
    assert modes == [m.training for m in model.modules()] and flags == [p.requires_grad for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["mlp", "vit"])
def test_units_channels_and_tokens_of_the_other_architectures(name, natural):
    model = build_model(name, "fashion_mnist")
    layer, targets = {
        "mlp": ("net.blocks.2.block.0", [5, 9]),
        "vit": ("net.blocks.1", [5, (9, 5), (9, None)]),
    }[name]
    options = dict(layer=layer, statistics=natural, **STILL)
    done = maximise_activation(model, targets, steps=40, **options)
    plain = maximise_activation(model, targets, steps=1, lr=1e-9, **options)
    for i, target in enumerate(targets):
        with torch.no_grad():
            strong, weak = (
                pick_response(respond(model, x[i : i + 1], layer), target) for x in (done.images, plain.images)
            )
        assert strong > weak + 0.1 * weak.abs()


# ---- what the study asks of its networks


@pytest.mark.needs_cifar
def test_a_shallow_layer_of_the_cnn_is_inverted_and_its_classes_hold_when_shifted():
    from src.data import load_images
    from src.feature_vis.measures import measure_classes, measure_inversions

    images = load_images("cifar10", "test").subset(200, seed=0)
    natural = image_statistics(to_pixels(images.images))
    model = build_model("cnn", "cifar10")
    originals, labels = to_pixels(images.images[:8]), torch.from_numpy(images.labels[:8])
    done = invert_features(model, "net.layer1.0", originals, statistics=natural, steps=200)
    judged = measure_inversions(done.images, originals, labels, model=model, layer="net.layer1.0", others={})
    assert judged["distance"].max() <= 0.01 and judged["psnr"].min() >= 25
    classes = torch.arange(0, 10, 2)
    done = maximise_activation(model, classes, statistics=natural, steps=500)
    judged = measure_classes(done.images, classes, model=model, others={}, statistics=natural)
    # surer than this network, trained with label smoothing, is of any real image: of one in a hundred more than 0.943
    assert judged["p"].mean() >= 0.98 and judged["p"].min() >= 0.96
    assert judged["p_shift"].mean() >= 0.95 and judged["p_shift"].min() >= 0.92
