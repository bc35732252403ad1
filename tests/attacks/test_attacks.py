from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from victims import Linear, Spy, distances, in_batches, rows_of, some_images, trained_conv, wrong

from src.attacks import (
    apgd,
    attack_curve,
    audit_predictions,
    engine,
    fgsm,
    masking_report,
    measure_transfer,
    measure_worst_cases,
    mi_fgsm,
    pgd,
    random_noise,
    square,
    transfer_predictions,
    worst_case,
)
from src.attacks.plan import Plan
from src.attacks.rules import Pgd
from src.data.batches import Batch
from src.models.predict import predict

ATTACKS = {
    "fgsm": fgsm,
    "noise": random_noise,
    "pgd": partial(pgd, steps=4),
    "pgd from the image, twice": partial(pgd, steps=3, restarts=2, random_start=False),
    "mi_fgsm": partial(mi_fgsm, steps=4),
    "apgd": partial(apgd, steps=5),
    "apgd-t": partial(apgd, steps=5, loss="dlr", n_targets=2),
    "square": partial(square, queries=10),
}
ITERATED = [name for name in ATTACKS if name not in ("fgsm", "noise")]
THREATS = [(name, norm) for name in ATTACKS for norm in ("Linf", "L2") if (name, norm) != ("square", "L2")]
CURVES = {
    "fgsm": {},
    "noise": {},
    "pgd": dict(steps=2),
    "apgd": dict(steps=2),
    "apgd-t": dict(steps=2, n_targets=2),
    "square": dict(queries=2),
}


@pytest.fixture(scope="module")
def conv() -> nn.Module:
    return trained_conv()


@pytest.fixture(scope="module")
def images() -> Batch:
    return some_images(60)


# Threats


@pytest.mark.parametrize("name, norm", THREATS)
def test_radius_0_gives_the_pixels_back_bit_for_bit(conv, images, name, norm):
    before = images.pixels.clone()
    found = ATTACKS[name](conv, images.pixels, images.labels, eps=0, norm=norm)
    assert torch.equal(found, before)
    found.fill_(0.5)  # the result is nobody else's
    assert torch.equal(images.pixels, before)


@pytest.mark.parametrize("attack", CURVES)
def test_a_curve_at_radius_0_is_the_clean_prediction(conv, images, attack):
    batches = in_batches(images, 25)
    curve = attack_curve(conv, batches, attack=attack, eps_grid=(0.0, 0.01), **CURVES[attack])
    at_0 = curve[curve["eps"] == 0].reset_index(drop=True)
    clean = predict(conv, batches)
    for column in ("sample_id", "label", "prediction", "confidence", "label_rank"):
        np.testing.assert_array_equal(at_0[column], clean[column], err_msg=column)
    assert (at_0["distance"] == 0).all()


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("name, norm", THREATS)
def test_results_lie_within_the_radius_and_the_pixel_range(conv, images, name, norm, early_stop):
    options = dict(early_stop=early_stop) if name in ITERATED else {}
    for eps in (0.5 / 255, 8 / 255, 0.3) if norm == "Linf" else (0.05, 1.0, 5.0):
        found = ATTACKS[name](conv, images.pixels, images.labels, eps=eps, norm=norm, **options)
        assert found.shape == images.pixels.shape and found.dtype == images.pixels.dtype
        assert found.min() >= 0 and found.max() <= 1
        reached = distances(found, images.pixels, norm)
        assert reached.max() <= eps + 1e-6
        assert reached.max() > 0.5 * eps  # and use is made of it: a break may come early, black pixels cost L2 some


@pytest.mark.parametrize("norm, eps", [("Linf", 0.1), ("L2", 2.0)])
@pytest.mark.parametrize("name", ITERATED)
def test_no_point_that_is_tried_leaves_the_ball_or_the_range(conv, images, name, norm, eps):
    if (name, norm) == ("square", "L2"):
        return
    one = rows_of(images, slice(0, 1))
    spy = Spy(conv, keep=True)
    ATTACKS[name](spy, one.pixels, one.labels, eps=eps, norm=norm, early_stop=False)
    tried = torch.cat(spy.seen)
    assert len(tried) > 3 and tried.min() >= 0 and tried.max() <= 1
    assert distances(tried, one.pixels.expand_as(tried), norm).max() <= eps + 1e-6


@pytest.mark.parametrize("name, norm", [(name, norm) for name, norm in THREATS if name in ITERATED])
def test_pixels_and_curve_tell_of_the_same_point(conv, images, name, norm):
    if name not in ("pgd", "apgd", "apgd-t", "square"):
        return
    eps = 8 / 255 if norm == "Linf" else 1.0
    options = dict(ATTACKS[name].keywords)
    options.pop("loss", None)
    curve = attack_curve(conv, [images], attack=name, eps_grid=(eps,), norm=norm, **options)
    found = ATTACKS[name](conv, images.pixels, images.labels, eps=eps, norm=norm, sample_ids=images.sample_ids)
    judged = predict(conv, [Batch(found, images.labels, images.sample_ids)])
    assert (judged["label_rank"] == curve["label_rank"]).mean() >= 0.95  # a tie of two logits is rounding's to break
    assert (judged["prediction"] == curve["prediction"]).mean() >= 0.95
    np.testing.assert_allclose(judged["confidence"], curve["confidence"], atol=1e-5)
    np.testing.assert_allclose(distances(found, images.pixels, norm), curve["distance"], atol=1e-6)


@pytest.mark.parametrize("name", ITERATED)
def test_what_is_misclassified_anyway_comes_back_unchanged(conv, images, name):
    found = ATTACKS[name](conv, images.pixels, images.labels, eps=0.05)
    clean_errors = wrong(conv, images.pixels, images.labels)
    assert clean_errors.any()
    changed = distances(found, images.pixels, "Linf") > 0
    np.testing.assert_array_equal(changed, ~clean_errors)
    all_moved = ATTACKS[name](conv, images.pixels, images.labels, eps=0.05, early_stop=False)
    assert (distances(all_moved, images.pixels, "Linf") > 0).mean() > 0.95


# What is refused


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_radius_that_is_none_is_refused(conv, images, name, eps):
    with pytest.raises(ValueError, match=r"eps must be in \[0, 1\], not"):
        ATTACKS[name](conv, images.pixels, images.labels, eps=eps)


@pytest.mark.parametrize("eps, hint", [(2, r"2; did you mean 2/255\?"), (8.5, "did you mean 8.5/255"), (300, "300$")])
def test_a_radius_in_other_units_is_refused_everywhere(conv, images, eps, hint):
    zoo, x, y = {"conv": conv}, images.pixels, images.labels
    calls = [partial(attack, conv, x, y) for attack in (fgsm, pgd, mi_fgsm, apgd, square)]
    calls += [partial(measure, conv, images) for measure in (worst_case, audit_predictions, masking_report)]
    calls += [partial(measure, zoo, images) for measure in (transfer_predictions, measure_transfer)]
    calls += [lambda eps, name=name: attack_curve(conv, images, attack=name, eps_grid=(0, eps)) for name in CURVES]
    calls += [partial(random_noise, None, x, None), lambda eps: engine.run(conv, [images], Pgd(), Plan((eps,)))]
    for call in calls:
        with pytest.raises(ValueError, match=rf"eps must be in \[0, 1\], not .*{hint}"):
            call(eps=eps)
    long = attack_curve(conv, images, attack="pgd", eps_grid=(2.0,), norm="L2", steps=1)  # no end for L2
    assert len(long) == len(y)


@pytest.mark.parametrize("eps_255", [-1, 256, float("nan")])
def test_a_radius_in_255ths_stays_within_the_pixels(conv, images, eps_255):
    with pytest.raises(ValueError, match="eps_255 is a radius in 1/255, from 0 to 255, not"):
        measure_worst_cases({"conv": conv}, images, eps_255=[8, eps_255])


@pytest.mark.parametrize("attack", CURVES)
@pytest.mark.parametrize(
    "grid, named",
    [
        ((0.1, -0.1), "eps must be"),
        ((0.1, float("nan")), "eps must be"),
        ((float("inf"),), "eps must be"),
        ((0.1, 0.2, 0.1), "none twice"),
        ((0.0, 0, 0.1), "none twice"),
        ((0.0,), "radius above 0"),
        ((), "radius above 0"),
    ],
)
def test_a_grid_that_is_none_is_refused(conv, images, attack, grid, named):
    with pytest.raises(ValueError, match=named):
        attack_curve(conv, [images], attack=attack, eps_grid=grid, **CURVES[attack])


@pytest.mark.parametrize("eps", [0, 0.1])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_unknown_norm_is_refused(conv, images, name, eps):
    with pytest.raises(ValueError, match="L7|Linf, not"):
        ATTACKS[name](conv, images.pixels, images.labels, eps=eps, norm="L7")


@pytest.mark.parametrize("eps", [0, 0.1])
@pytest.mark.parametrize("label", [-1, 10])
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "noise"])  # which looks at no label
def test_a_label_without_a_class_is_refused(conv, images, name, label, eps):
    labels = images.labels.clone()
    labels[3] = label
    with pytest.raises(ValueError, match=f"label {label} is out of range for a model of 10 classes"):
        ATTACKS[name](conv, images.pixels, labels, eps=eps)


@pytest.mark.parametrize("label", [-1, 10])
@pytest.mark.parametrize("attack", CURVES)
def test_a_curve_refuses_a_label_without_a_class(conv, images, attack, label):
    labels = images.labels.clone()
    labels[3] = label
    with pytest.raises(ValueError, match=f"label {label} is out of range"):
        batches = in_batches(images._replace(labels=labels), 20)
        attack_curve(conv, batches, attack=attack, eps_grid=(0.1,), **CURVES[attack])


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, float("nan")])
@pytest.mark.parametrize("name", ATTACKS)
def test_pixels_outside_their_range_are_refused(conv, images, name, value):
    pixels = images.pixels.clone()
    pixels[5, 1, 2, 3] = value
    for eps in (0, 0.1):
        with pytest.raises(ValueError, match=r"pixels must lie in \[0, 1\]"):
            ATTACKS[name](conv, pixels, images.labels, eps=eps)


@pytest.mark.parametrize("attack", CURVES)
def test_a_curve_refuses_pixels_outside_their_range(conv, images, attack):
    bad = images._replace(pixels=images.pixels - 0.4)  # e.g. normalised once too often
    with pytest.raises(ValueError, match="normalisation belongs into the model"):
        attack_curve(conv, [bad], attack=attack, eps_grid=(0.1,), **CURVES[attack])


@pytest.mark.parametrize(
    "call, named",
    [
        (partial(attack_curve, attack="pdg", eps_grid=(0.1,)), "unknown attack 'pdg'; choose from fgsm, noise, pgd"),
        (partial(attack_curve, attack="square", eps_grid=(0.1,), norm="L2"), "square is there for the norm Linf"),
        (partial(attack_curve, attack="fgsm", eps_grid=(0.1,), steps=3), "fgsm takes no steps"),
        (partial(attack_curve, attack="fgsm", eps_grid=(0.1,), k=5), "asks for k only with early_stop=True"),
        (partial(attack_curve, attack="noise", eps_grid=(0.1,), k=5), "its label_rank serves every k"),
        (partial(attack_curve, attack="fgsm", eps_grid=(0.1,), dtype="bfloat16"), "no dtype; choose from norm, seed"),
        (partial(attack_curve, attack="fgsm", eps_grid=(0.1,), warm_start=True), "fgsm takes no warm_start; choose"),
        (partial(attack_curve, attack="noise", eps_grid=(0.1,), continuous=False), "noise takes no continuous"),
        (partial(attack_curve, attack="noise", eps_grid=(0.1,), batch_size=0), "batch_size and k must be at least 1"),
        (partial(attack_curve, attack="pgd", eps_grid=(0.1,), step=3), "pgd takes no step; choose from norm, steps"),
        (partial(attack_curve, attack="pgd", eps_grid=(0.1,), steps=0), "steps must be at least 1"),
        (partial(attack_curve, attack="pgd", eps_grid=(0.1,), rel_step=0.0), "rel_step must be above 0"),
        (partial(attack_curve, attack="pgd", eps_grid=(0.1,), dtype="float16"), "unknown dtype 'float16'"),
        (partial(attack_curve, attack="pgd", eps_grid=(0.1,), batch_size=0), "batch_size and k must be at least 1"),
        (partial(attack_curve, attack="pgd", eps_grid=(0.1,), k=0), "batch_size and k must be at least 1"),
        (partial(attack_curve, attack="square", eps_grid=(0.1,), p_init=0.0), "p_init"),
        (partial(worst_case, eps=-1.0), "eps must be"),
        (partial(worst_case, eps=0.1, n_targets=0), "n_targets must be at least 1, not 0"),
        (partial(masking_report, eps=0.1, norm="L1"), "unknown norm 'L1'"),
    ],
)
def test_a_call_that_means_nothing_is_refused(conv, images, call, named):
    with pytest.raises(ValueError, match=named):
        call(conv, [images])


@pytest.mark.parametrize(
    "attack, options, named",
    [
        (pgd, dict(steps=0), "steps must be at least 1, not 0"),
        (pgd, dict(step=3), "pgd takes no step; choose from norm, steps, restarts"),
        (apgd, dict(warm_start=True), "apgd takes no warm_start"),
        (square, dict(steps=3), "square takes no steps; choose from norm, queries"),
        (pgd, dict(restarts=0), "restarts must be at least 1, not 0"),
        (pgd, dict(rel_step=-0.1), "rel_step must be above 0"),
        (mi_fgsm, dict(steps=0), "steps must be at least 1"),
        (apgd, dict(steps=0), "steps must be at least 1"),
        (apgd, dict(loss="cw"), "unknown loss 'cw' of apgd"),
        (apgd, dict(loss="dlr", n_targets=0), "n_targets must be at least 1, not 0"),
        (square, dict(queries=0), "at least 1"),
        (square, dict(norm="L2"), "square is there for the norm Linf, not L2"),
    ],
)
def test_an_option_that_means_nothing_is_refused(conv, images, attack, options, named):
    with pytest.raises(ValueError, match=named):
        attack(conv, images.pixels, images.labels, eps=0.1, **options)


def test_labels_that_are_no_class_indices_are_refused(conv, images):
    shares = torch.eye(10)[images.labels]  # as mixup gives them
    for name in ATTACKS:
        if name != "noise":
            with pytest.raises(ValueError, match=r"expected pixels \[n, c, h, w\] with labels \[n\]"):
                ATTACKS[name](conv, images.pixels, shares, eps=0.1)


class NoNumberWhere(nn.Module):
    """The linear model, with a logit that is no number for images whose first pixel is white."""

    def __init__(self):
        super().__init__()
        self.linear = Linear(3 * 8 * 8, 10)

    def forward(self, pixels):
        bad = (pixels[:, 0, 0, 0] > 0.9)[:, None] & (torch.arange(10) == 4)
        return self.linear(pixels).masked_fill(bad, torch.nan)


def grey_with_one_white(n: int, position: int) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.full((n, 3, 8, 8), 0.5)
    pixels[position, 0, 0, 0] = 1.0
    return pixels, NoNumberWhere().linear(pixels).argmax(1)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "noise"])
def test_a_logit_that_is_no_number_is_refused_by_sample(name):
    pixels, labels = grey_with_one_white(200, 150)  # beyond the first batch
    ids = {} if name == "fgsm" else dict(sample_ids=torch.arange(200) + 3000)
    for eps in (0, 0.01):
        with pytest.raises(ValueError, match=f"not finite, first for sample_id {150 if name == 'fgsm' else 3150}"):
            ATTACKS[name](NoNumberWhere(), pixels, labels, eps=eps, **ids)


@pytest.mark.parametrize("attack", CURVES)
def test_a_curve_names_the_sample_whose_logit_is_no_number(attack):
    pixels, labels = grey_with_one_white(30, 17)
    batches = in_batches(Batch(pixels, labels, torch.arange(30) + 3000), 10)
    with pytest.raises(ValueError, match="not finite, first for sample_id 3017"):
        attack_curve(NoNumberWhere(), batches, attack=attack, eps_grid=(0.01,), **CURVES[attack])


@pytest.mark.parametrize("attack", CURVES)
def test_a_logit_that_is_no_number_on_the_way_is_refused_too(attack):
    pixels, labels = torch.full((30, 3, 8, 8), 0.5), torch.zeros(30, dtype=torch.long)
    pixels[17, 0, 0, 0] = 0.85  # a number as it is, but no longer when it moves up
    model = NoNumberWhere()
    model.linear.layer.weight.data[0, 0] = -5.0  # up raises the loss
    model.linear.layer.bias.data[0] = 10.0
    with pytest.raises(ValueError, match="not finite, first for sample_id 3017"):
        batches = [Batch(pixels, labels, torch.arange(30) + 3000)]
        for seed in range(20):  # random attacks need some luck to reach it
            attack_curve(model, batches, attack=attack, eps_grid=(0.1,), early_stop=False, seed=seed, **CURVES[attack])


# The model afterwards


class Everything(nn.Module):
    """Convolution, batch normalisation and dropout, in mixed modes and half frozen, as a fine-tuned model may be."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, kernel_size=3, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8 * 8 * 8, 10)
        self.fails_after = None

    def forward(self, pixels):
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.fails_after < 0:
                raise RuntimeError("out of memory")
        return self.head(self.drop(self.norm(self.conv(pixels)).relu()).flatten(1))


@pytest.fixture
def everything() -> Everything:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Everything()
    model.train()
    model.conv.eval()
    model.conv.weight.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    model.head.weight.grad = torch.full_like(model.head.weight, 2.5)
    return model


def state_of(model: nn.Module):
    modes = {name: module.training for name, module in model.named_modules()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    copies = {name: None if value is None else value.clone() for name, value in gradients.items()}
    return modes, flags, copies, {name: value.clone() for name, value in model.state_dict().items()}


def assert_unchanged(model: nn.Module, before) -> None:
    modes, flags, gradients, values = state_of(model)
    assert modes == before[0] and flags == before[1]
    for name, gradient in before[2].items():
        assert (gradients[name] is None) == (gradient is None), name
        assert gradient is None or torch.equal(gradients[name], gradient), name
    assert all(torch.equal(values[name], value) for name, value in before[3].items())


CALLS = {name: lambda model, x, attack=attack: attack(model, *x[:2], eps=0.05) for name, attack in ATTACKS.items()}
CALLS |= {
    f"curve of {name}": lambda model, x, name=name: attack_curve(
        model, [x], attack=name, eps_grid=(0.0, 0.05), **CURVES[name]
    )
    for name in CURVES
}
CALLS |= {
    "radius 0": lambda model, x: pgd(model, *x[:2], eps=0),
    "bfloat16": lambda model, x: pgd(model, *x[:2], eps=0.05, dtype="bfloat16"),
    "worst_case": lambda model, x: worst_case(model, [x], eps=0.05, steps=2, n_targets=2, queries=3),
    "transfer": lambda model, x: transfer_predictions({"a": model, "b": trained_conv()}, [x], eps=0.05, steps=2),
    "masking_report": lambda model, x: masking_report(model, [x], queries=3),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_model_comes_back_as_it_was(everything, images, name):
    before = state_of(everything)
    CALLS[name](everything, rows_of(images, slice(0, 8)))
    assert_unchanged(everything, before)


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("name", [name for name in CALLS if name != "noise"])
def test_the_model_comes_back_as_it_was_after_an_error(everything, images, name, after):
    before = state_of(everything)
    everything.fails_after = after
    raised = False
    try:
        CALLS[name](everything, rows_of(images, slice(0, 8)))
    except RuntimeError:
        raised = True
    assert raised or everything.fails_after >= 0, "the error was swallowed"
    assert_unchanged(everything, before)


def test_the_model_is_attacked_as_it_will_be_used(everything, images):
    """Dropout and batch statistics are off whatever the mode: two runs agree, and with a model in eval mode."""
    x, y = images.pixels, images.labels
    in_mixed_modes = [pgd(everything, x, y, eps=0.05, early_stop=False) for _ in range(2)]
    everything.eval()
    assert torch.equal(in_mixed_modes[0], in_mixed_modes[1])
    assert torch.equal(in_mixed_modes[0], pgd(everything, x, y, eps=0.05, early_stop=False))


def test_attacks_work_where_gradients_are_switched_off(conv, images):
    expected = pgd(conv, images.pixels, images.labels, eps=0.05)
    with torch.no_grad():
        assert torch.equal(pgd(conv, images.pixels, images.labels, eps=0.05), expected)
        assert torch.equal(fgsm(conv, *images[:2], eps=0.05), fgsm(conv, *images[:2], eps=0.05))
    assert not expected.requires_grad


# Optima that are known


@pytest.fixture(scope="module")
def greys() -> torch.Tensor:
    """Images between 0.4 and 0.6, where no radius below 0.4 meets the pixel range."""
    return 0.4 + 0.2 * torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_fgsm_on_a_linear_model_is_the_closed_form(greys):
    model = Linear(192, 2)
    labels = torch.arange(200) % 2
    towards = (model.layer.weight[1 - labels] - model.layer.weight[labels]).detach().view_as(greys)
    found = fgsm(model, greys, labels, eps=0.1)
    torch.testing.assert_close(found, greys + 0.1 * towards.sign(), atol=1e-6, rtol=0)
    along = towards / towards.flatten(1).norm(dim=1)[:, None, None, None]
    found = fgsm(model, greys, labels, eps=0.7, norm="L2")
    torch.testing.assert_close(found, greys + 0.7 * along, atol=1e-6, rtol=0)


def test_fgsm_follows_the_cross_entropy_of_all_classes(greys):
    model = Linear(192, 10)
    labels = torch.arange(200) % 10
    x = greys.clone().requires_grad_()
    nn.functional.cross_entropy(model(x), labels, reduction="sum").backward()
    np.testing.assert_allclose(fgsm(model, greys, labels, eps=0.1), greys + 0.1 * x.grad.sign(), atol=1e-6)


def test_fgsm_stays_where_there_is_no_gradient(greys):
    model = Linear(192, 2)
    nn.init.zeros_(model.layer.weight)
    for norm in ("Linf", "L2"):
        assert torch.equal(fgsm(model, greys, torch.zeros(200, dtype=torch.long), eps=0.1, norm=norm), greys)


def test_tiny_gradients_have_a_direction_all_the_same(greys):
    """Their squares underflow; the direction of the gradient does not depend on its length."""
    model, tiny = Linear(192, 2), Linear(192, 2)
    tiny.layer.weight.data *= 1e-25
    labels = torch.zeros(200, dtype=torch.long)
    for norm in ("Linf", "L2"):
        a, b = (fgsm(each, greys, labels, eps=0.1, norm=norm) for each in (model, tiny))
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("options, length", [(dict(rel_step=0.1), 0.1), ({}, 0.5), (dict(rel_step=3.0), 1.0)])
def test_steps_of_pgd_are_as_long_as_asked(greys, norm, options, length):
    """A share of eps, 2.5 / steps unless given, and never beyond the radius."""
    spy = Spy(Linear(192, 2), keep=True)
    one, label = greys[:1], torch.tensor([0])
    pgd(spy, one, label, eps=0.1, norm=norm, steps=5, random_start=False, early_stop=False, **options)
    first = spy.seen[2]  # after the clean image, and the start there
    assert distances(first, one, norm)[0] == pytest.approx(0.1 * length, abs=1e-6)
    spy = Spy(Linear(192, 2), keep=True)
    mi_fgsm(spy, one, label, eps=0.1, norm=norm, steps=5, early_stop=False)
    reached = [distances(x, one, norm)[0] for x in spy.seen[1:]]
    assert reached == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1], abs=1e-6)


OPTIMISERS = {
    "fgsm": fgsm,
    "pgd": partial(pgd, steps=40, rel_step=0.25),
    "pgd from the image": partial(pgd, steps=10, random_start=False),
    "mi_fgsm": partial(mi_fgsm, steps=5),
    "apgd": partial(apgd, steps=30),
    "apgd-t": partial(apgd, steps=30, loss="dlr", n_targets=1),
}


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_on_a_linear_model_exactly_the_images_within_reach_are_broken(greys, name, norm):
    model = Linear(192, 2)
    w = (model.layer.weight[0] - model.layer.weight[1]).detach()
    gap = greys.flatten(1) @ w
    model.layer.bias.data[0] -= gap.median()  # both classes are there
    gap = gap - gap.median()
    labels = (gap < 0).long()
    reach = gap.abs() / (w.abs().sum() if norm == "Linf" else w.norm())  # the radius that an image needs
    eps = float(reach.median())
    near = (reach / eps - 1).abs() < 2e-3  # half-way between the two outcomes rounding decides
    broken = wrong(model, OPTIMISERS[name](model, greys, labels, eps=eps, norm=norm), labels)
    assert 60 < broken.sum() < 140 and near.float().mean() < 0.05
    np.testing.assert_array_equal(broken[~near], (reach < eps)[~near])


def test_momentum_remembers_the_gradients_before():
    """One value, slope 1 until 0.52 and -2 after it: momentum carries on uphill, plain ascent turns around."""

    class Hill(nn.Module):
        def forward(self, pixels):
            x = pixels[:, 0, 0, 0]
            height = torch.where(x < 0.52, x, 0.52 - 2 * (x - 0.52))
            return torch.stack([torch.zeros_like(x), 0.01 * height - 1], 1)

    spies = [Spy(Hill(), keep=True) for _ in range(2)]
    pixels, labels = torch.full((1, 3, 1, 1), 0.5), torch.zeros(1, dtype=torch.long)
    options = dict(eps=0.1, steps=4, early_stop=False)
    mi_fgsm(spies[0], pixels, labels, decay=1.0, **options)
    pgd(spies[1], pixels, labels, random_start=False, rel_step=0.25, **options)
    # gradients are scaled to length 1 before they are added: +1, then +1 - 1 = 0, no step
    paths = [torch.cat(spy.seen[1:])[:, 0, 0, 0].tolist() for spy in spies]
    assert paths[0] == pytest.approx([0.5, 0.525, 0.525, 0.5, 0.5])
    assert paths[1] == pytest.approx([0.5, 0.525, 0.5, 0.525, 0.5])


class RootAtZero(nn.Module):
    """The linear model, and nothing of the root of how far channels differ: of greys the gradient is no number."""

    def __init__(self):
        super().__init__()
        self.linear = Linear(3 * 8 * 8, 10)

    def forward(self, pixels):
        return self.linear(pixels) + 0 * (pixels[:, 0] - pixels[:, 1]).square().sum((1, 2)).sqrt()[:, None]


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "mi_fgsm"])
def test_a_gradient_that_is_no_number_is_refused(name, norm):
    pixels, labels = grey_with_one_white(6, 2)
    model, start = RootAtZero(), dict(random_start=False) if name == "pgd" else {}
    with pytest.raises(
        ValueError, match=r"the gradient at the pixels is not finite for \d of \d images, though the lo"
    ):
        ATTACKS[name](model, pixels, labels, eps=0.1, norm=norm, **start)


def test_a_model_that_writes_over_its_input_is_refused(conv, images):
    class InPlace(nn.Module):
        def forward(self, pixels):
            return conv(pixels.sub_(0.5))

    before = images.pixels.clone()
    for attack in ("noise", "square"):
        with pytest.raises(ValueError, match="InPlace changes its input in place; let it begin with a copy"):
            attack_curve(InPlace(), [images._replace(pixels=before.clone())], attack=attack, eps_grid=(0.1,))


def test_a_model_without_gradients_is_refused_in_words_and_open_to_square(conv, images):
    class Steps(nn.Module):
        def forward(self, pixels):
            return torch.eye(10)[conv(pixels).argmax(1)]

    with pytest.raises(ValueError, match="use a gradient-free attack, such as square"):
        pgd(Steps(), images.pixels, images.labels, eps=0.3)
    found = square(Steps(), images.pixels, images.labels, eps=0.3, queries=20)
    assert wrong(conv, found, images.labels).mean() > wrong(conv, images.pixels, images.labels).mean() + 0.1
