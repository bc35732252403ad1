"""Calibration measures against netcal, torchmetrics, scikit-learn, relplot, closed forms and simulations."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import relplot
import torch
from netcal.metrics import ACE, ECE, MCE
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from src import tables
from src.tables.calibration import SCALINGS, measure_all
from src.tables.calibration.bins import assign_bins, confidence_and_correct, reliability_bins, softmax
from src.tables.calibration.interval import debiased_interval
from src.tables.calibration.measures import (
    aurc,
    binned_gap,
    brier,
    classwise_ece,
    debiased_ece,
    debiased_gap,
    expected_calibration_error,
    nll,
    risk_coverage,
    sharpness,
    smooth_ece,
    smooth_gap,
)
from src.tables.calibration.resampling import bootstrap, consistency_band, null_band, verdict
from src.tables.calibration.scaling import apply_isotonic, fit_isotonic, fit_temperature, fit_vector


def draw(n: int, *, k: int = 10, sure: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [n, k] and labels drawn from softmax(logits / sure): calibrated at 1, overconfident above."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    labels = (rng.random((n, 1)) > softmax(logits).cumsum(1)).sum(1).clip(max=k - 1)
    return sure * logits, labels


def draw_probs(sure: float) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = draw(3000, sure=sure)
    return softmax(logits), labels


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    logits, labels = draw(4000, sure=1.8)
    return softmax(logits), labels


@pytest.fixture(scope="module")
def scaled() -> tuple[np.ndarray, np.ndarray]:
    """After temperature scaling, where measures that agree before it come apart."""
    logits, labels = draw(4000, sure=1.8)
    return softmax(logits / fit_temperature(logits, labels)), labels


# Against other libraries


@pytest.mark.parametrize("n_bins", [1, 2, 5, 10, 15, 20, 50, 100])
@pytest.mark.parametrize("which", ["sample", "scaled"])
def test_ece_and_mce_are_netcals(n_bins, which, request):
    probs, labels = request.getfixturevalue(which)
    assert expected_calibration_error(probs, labels, n_bins=n_bins) == pytest.approx(
        ECE(n_bins).measure(probs, labels), abs=1e-6
    )
    assert expected_calibration_error(probs, labels, n_bins=n_bins, norm="max") == pytest.approx(
        MCE(n_bins).measure(probs, labels), abs=1e-6
    )


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_ece_is_torchmetrics(sample, norm):
    probs, labels = sample
    theirs = multiclass_calibration_error(
        torch.tensor(probs), torch.tensor(labels), num_classes=10, n_bins=15, norm=norm
    )
    assert expected_calibration_error(probs, labels, norm=norm) == pytest.approx(float(theirs), abs=2e-5)


def test_gaps_are_those_of_a_plain_loop(sample):
    confidence, correct = confidence_and_correct(*sample)
    for n_bins in (3, 15):
        gaps, shares = [], []
        for b in range(n_bins):
            inside = (confidence > b / n_bins) & (confidence <= (b + 1) / n_bins)
            if inside.any():
                gaps.append(abs(confidence[inside].mean() - correct[inside].mean()))
                shares.append(inside.mean())
        gaps, shares = np.array(gaps), np.array(shares)
        assert binned_gap(confidence, correct, n_bins=n_bins) == pytest.approx(shares @ gaps)
        assert binned_gap(confidence, correct, n_bins=n_bins, norm="l2") == pytest.approx(np.sqrt(shares @ gaps**2))
        assert binned_gap(confidence, correct, n_bins=n_bins, norm="max") == pytest.approx(gaps.max())


def test_adaptive_ece_is_that_of_sorted_parts(sample):
    confidence, correct = confidence_and_correct(*sample)
    order = np.argsort(confidence)
    parts = zip(np.split(confidence[order], 16), np.split(correct[order], 16), strict=True)
    by_hand = np.mean([abs(c.mean() - r.mean()) for c, r in parts])
    assert expected_calibration_error(*sample, n_bins=16, equal_mass=True) == pytest.approx(by_hand)


def test_classwise_ece_is_netcals_of_each_class(sample):
    """netcal's ACE averages over the classes' bins, its ECE in detection mode judges one class."""
    probs, labels = sample
    theirs = [ECE(15, detection=True).measure(probs[:, k], (labels == k).astype(int)) for k in range(10)]
    assert classwise_ece(probs, labels) == pytest.approx(np.mean(theirs), abs=1e-6)
    assert classwise_ece(probs, labels) != pytest.approx(expected_calibration_error(probs, labels), rel=0.1)
    assert ACE(15).measure(probs, labels) > 0


def test_nll_and_brier_are_scikit_learns(sample):
    probs, labels = sample
    assert nll(probs, labels) == pytest.approx(log_loss(labels, probs, labels=range(10)), rel=1e-9)
    ours = sum(brier_score_loss(labels == k, probs[:, k]) for k in range(10))
    assert brier(probs, labels) == pytest.approx(ours, rel=1e-9)


@pytest.mark.parametrize("sure", [1.0, 1.8, 4.0])
def test_smooth_ece_is_relplots_where_no_confidence_is_1(sure):
    logits, labels = draw(3000, sure=sure)
    confidence, correct = confidence_and_correct(softmax(logits), labels)
    inside = confidence < 0.999
    theirs = relplot.smECE(confidence[inside], correct[inside].astype(float))
    assert smooth_gap(confidence[inside], correct[inside]) == pytest.approx(theirs, abs=2e-3)


def test_isotonic_is_scikit_learns():
    logits, labels = draw(1000, k=3, sure=2)
    logits = np.round(logits)  # many images share a probability
    probs, new = softmax(logits), np.linspace(0, 1, 57)
    for k, corners in enumerate(fit_isotonic(logits, labels)):
        theirs = IsotonicRegression(out_of_bounds="clip").fit(probs[:, k], labels == k)
        np.testing.assert_allclose(np.interp(new, *corners), theirs.predict(new), atol=1e-9)


# Closed forms


def test_four_images_by_hand():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 1])  # right, wrong, right, right
    # two bins: all confidences in (0.5, 1]
    assert expected_calibration_error(probs, labels, n_bins=2) == pytest.approx(abs(0.7375 - 0.75))
    # ten bins, each confidence alone: 0.1, 0.8, 0.3, 0.45
    assert expected_calibration_error(probs, labels, n_bins=10) == pytest.approx((0.1 + 0.8 + 0.3 + 0.45) / 4)
    assert expected_calibration_error(probs, labels, n_bins=10, norm="max") == pytest.approx(0.8)
    squares = 0.1**2 + 0.8**2 + 0.3**2 + 0.45**2
    assert expected_calibration_error(probs, labels, n_bins=10, norm="l2") == pytest.approx(np.sqrt(squares / 4))
    assert brier(probs, labels) == pytest.approx(2 * squares / 4)
    assert nll(probs, labels) == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.55]).mean())
    assert sharpness(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx(np.log(2) / 2)


def test_bins_are_closed_on_the_right_and_0_falls_in_the_first():
    confidence = np.array([0.0, 0.1, 0.1000001, 0.5, 0.9999999, 1.0])
    assert assign_bins(confidence, 10, equal_mass=False).tolist() == [0, 0, 1, 4, 9, 9]
    assert assign_bins(confidence[::-1], 3, equal_mass=True).tolist() == [2, 2, 1, 1, 0, 0]


def test_certainty_counts():
    """Confidences of exactly 0 and 1, and a hair above from a float32 softmax, are in the sums."""
    assert binned_gap([1.0] * 4, [True, True, True, False]) == pytest.approx(0.25)
    assert binned_gap([0.0] * 4, [True, False, False, False]) == pytest.approx(0.25)
    assert binned_gap([1 + 5e-7] * 4, [True] * 4) == 0
    confidence, _ = confidence_and_correct(np.array([[1 + 1e-6, 0.0]], dtype=np.float32), np.array([0]))
    assert confidence.tolist() == [1]
    assert smooth_gap([1.0] * 1000, [True] * 1000) == pytest.approx(0, abs=1e-6)
    assert smooth_gap([1.0] * 1000, [True] * 900 + [False] * 100) == pytest.approx(0.1, abs=1e-6)
    assert smooth_gap([0.0] * 1000, [True] * 300 + [False] * 700) == pytest.approx(0.3, abs=1e-6)


def test_measures_by_name(sample):
    values = measure_all(*sample)
    assert values["ECE"] <= values["ECE, l2"] <= values["MCE"]
    assert values["ECE, debiased l2"] < values["ECE, l2"] * 1.05
    assert all(0 < value < 2 for value in values.values())


@pytest.mark.parametrize("n_bins", [5, 40])
def test_measures_take_the_number_of_bins_that_is_asked_for(sample, n_bins):
    """Once all were of 15 bins, whatever a notebook asked for."""
    values, fifteen = measure_all(*sample, n_bins=n_bins), measure_all(*sample, n_bins=15)
    assert values["ECE"] == pytest.approx(ECE(n_bins).measure(*sample), abs=1e-6)
    assert values["MCE"] == pytest.approx(MCE(n_bins).measure(*sample), abs=1e-6)
    assert values["classwise ECE"] == classwise_ece(*sample, n_bins=n_bins)
    assert values["ECE, debiased l2"] == debiased_ece(*sample, n_bins=n_bins)
    assert values["adaptive ECE"] == expected_calibration_error(*sample, n_bins=n_bins, equal_mass=True)
    same = {name for name in values if values[name] == fifteen[name]}
    assert same == {"smooth ECE", "NLL", "Brier", "AURC", "entropy"}


def test_smooth_ece_of_a_constant_forecast_is_its_bias():
    """All residuals of one sign: smoothing moves them about and loses none."""
    for confidence, rate in ((0.7, 0.5), (0.999, 0.9), (0.5, 0.8)):
        correct = np.arange(1000) < 1000 * rate
        assert smooth_gap(np.full(1000, confidence), correct) == pytest.approx(abs(confidence - rate), abs=1e-4)


def test_smooth_ece_is_its_definition():
    """A direct sum over reflected Gaussians on a fine grid, at the width that was found."""
    rng = np.random.default_rng(3)
    confidence = rng.random(200)
    correct = rng.random(200) < 0.5  # too shy below a half, too sure above: residuals of both signs
    width = smooth_gap(confidence, correct)
    t = (np.arange(5000) + 0.5) / 5000
    mirrored = np.concatenate([2 * m + s * confidence for m, s in product((-1, 0, 1), (1, -1))])
    kernel = np.exp(-((t[:, None] - mirrored) ** 2) / (2 * width**2)) / (width * np.sqrt(2 * np.pi))
    smoothed = kernel @ np.tile(correct - confidence, 6) / 200
    assert np.abs(smoothed).mean() == pytest.approx(width, rel=2e-3)


def test_temperature_is_found_again():
    for sure in (0.5, 1.0, 3.0):
        logits, labels = draw(20_000, sure=sure)
        assert fit_temperature(logits, labels) == pytest.approx(sure, rel=0.03)
        assert fit_temperature(7 * logits, labels) == pytest.approx(7 * fit_temperature(logits, labels), rel=1e-5)


def test_temperature_is_the_best_one(sample):
    logits, labels = draw(500, sure=2.5, seed=1)
    best = fit_temperature(logits, labels)
    around = [nll(softmax(logits / t), labels) for t in (0.98 * best, best, 1.02 * best)]
    assert around[1] == min(around)


def test_vector_scaling_undoes_a_scale_and_an_offset_of_each_class():
    logits, labels = draw(30_000, k=4)
    scale, offset = np.array([0.5, 1.0, 2.0, 1.5]), np.array([1.0, -1.0, 0.5, 0.0])
    found_scale, found_offset = fit_vector((logits - offset) / scale, labels)
    np.testing.assert_allclose(found_scale, scale, rtol=0.08)
    shift = (found_offset - offset).mean()  # the same to all classes changes nothing
    np.testing.assert_allclose(found_offset - shift, offset, atol=0.08)


@pytest.mark.parametrize("separable", [False, True])
def test_vector_scaling_is_the_optimum_of_a_plain_search(separable):
    logits, labels = draw(300, k=3, sure=2, seed=4)

    def loss(values):
        return nll(softmax(logits * values[:3] + values[3:]), labels) + 1e-4 * (
            ((values[:3] - 1) ** 2).sum() + (values[3:] ** 2).sum()
        )

    if separable:
        labels = logits.argmax(1)
    ours = np.concatenate(fit_vector(logits, labels))
    theirs = minimize(loss, np.r_[np.ones(3), np.zeros(3)], method="Nelder-Mead", options=dict(maxiter=5000))
    assert loss(ours) <= theirs.fun + 1e-6


@pytest.mark.parametrize("name", SCALINGS)
def test_scaling_gives_probabilities_and_mends_the_other_half(name):
    logits, labels = draw(6000, sure=3)
    scale = SCALINGS[name](logits[:3000], labels[:3000])
    probs = scale(logits[3000:].astype(np.float32))
    assert probs.shape == (3000, 10) and (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-9)
    before = expected_calibration_error(softmax(logits[3000:]), labels[3000:])
    after = expected_calibration_error(probs, labels[3000:])
    assert after == pytest.approx(before) if name == "none" else after < before / 5


def test_isotonic_keeps_the_softmax_where_every_class_got_0():
    steps = [(np.array([0.0, 1.0]), np.array([0.0, 0.0]))] * 3
    logits = np.array([[1.0, 2.0, 0.0]])
    np.testing.assert_allclose(apply_isotonic(steps, logits), softmax(logits))


# Selective prediction


def test_risk_coverage_by_hand():
    table = risk_coverage([0.9, 0.6, 0.8, 0.7], [True, False, False, True])
    assert table["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(table["risk"], [0, 1 / 2, 1 / 3, 2 / 4])
    assert table["threshold"].tolist() == [0.9, 0.8, 0.7, 0.6]
    assert aurc([0.9, 0.6, 0.8, 0.7], [True, False, False, True]) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_equal_confidences_do_not_depend_on_the_order_of_images():
    correct = np.array([True] * 5 + [False] * 5)
    assert aurc(np.full(10, 0.5), correct) == pytest.approx(0.5)
    assert aurc(np.full(10, 0.5), correct[::-1]) == pytest.approx(0.5)


def test_aurc_of_the_best_order_is_as_by_hand_and_of_the_worst_largest():
    rng = np.random.default_rng(0)
    correct = rng.random(500) < 0.8
    best, worst = (0.5 + 0.4 * correct, 0.5 - 0.4 * correct)
    assert aurc(worst, correct) > aurc(rng.random(500), correct) > aurc(best, correct) + 0.05
    # the best order has no risk up to coverage 400/500, and then the wrong ones come in
    wrong = int((~correct).sum())
    assert aurc(best, correct) == pytest.approx(
        np.mean(np.maximum(np.arange(1, 501) - (500 - wrong), 0) / np.arange(1, 501))
    )


# Chance


def test_null_band_is_what_calibrated_labels_show():
    """Simulated: labels drawn from the confidences; the band's middle and its 95th percentile hold what they say."""
    rng = np.random.default_rng(1)
    confidence = rng.random(2000) ** 0.3
    band = null_band(confidence, n_resamples=2000)
    simulated = np.array([binned_gap(confidence, rng.random(2000) < confidence) for _ in range(400)])
    assert band.mean() == pytest.approx(simulated.mean(), rel=0.05)
    assert (simulated > np.quantile(band, 0.95)).mean() == pytest.approx(0.05, abs=0.035)


@pytest.mark.parametrize("options", [{}, dict(norm="l2"), dict(norm="max", n_bins=5), dict(equal_mass=True)])
def test_bootstrap_is_the_measure_of_resamples(sample, options):
    confidence, correct = (values[:300] for values in confidence_and_correct(*sample))
    values = bootstrap(confidence, correct, n_resamples=400, **options)
    rng = np.random.default_rng(9)
    plain = []
    for _ in range(400):
        i = rng.integers(0, 300, 300)
        plain.append(binned_gap(confidence[i], correct[i], **options))
    tolerance = dict(rel=0.15 if options.get("equal_mass") else 0.06)
    assert values.mean() == pytest.approx(np.mean(plain), **tolerance)
    assert values.std() == pytest.approx(np.std(plain), rel=0.25)


def test_resampling_is_the_same_in_any_number_of_chunks(sample, monkeypatch):
    confidence, correct = confidence_and_correct(*sample)
    whole = bootstrap(confidence, correct, n_resamples=20), null_band(confidence, n_resamples=20)
    monkeypatch.setattr(tables.calibration.resampling, "CHUNK", 3 * len(confidence))
    parts = bootstrap(confidence, correct, n_resamples=20), null_band(confidence, n_resamples=20)
    np.testing.assert_array_equal(whole, parts)


def test_consistency_band_holds_the_accuracies_of_a_calibrated_model():
    logits, labels = draw(5000)
    confidence, correct = confidence_and_correct(softmax(logits), labels)
    bins = reliability_bins(confidence, correct).merge(consistency_band(confidence), on="bin", suffixes=("", "_null"))
    inside = (bins["accuracy"] >= bins["low_null"] - 1e-9) & (bins["accuracy"] <= bins["high_null"] + 1e-9)
    assert len(bins) >= 10 and inside.mean() >= 0.8
    confidence, correct = confidence_and_correct(softmax(3 * logits), labels)
    bins = reliability_bins(confidence, correct).merge(consistency_band(confidence), on="bin", suffixes=("", "_null"))
    assert ((bins["accuracy"] >= bins["low_null"]) & (bins["accuracy"] <= bins["high_null"])).mean() < 0.3


def test_verdicts():
    said = {}
    for sure in (0.6, 1.0, 1.8):
        logits, labels = draw(3000, sure=sure)
        found = verdict(*confidence_and_correct(softmax(logits), labels), n_resamples=300)
        said[sure] = found["verdict"]
        assert found["low"] < found["high"] and found["null_mean"] < found["null_high"]
        assert found["ece"] == pytest.approx(expected_calibration_error(softmax(logits), labels))
    few = [values[:300] for values in confidence_and_correct(*draw_probs(1.0))]
    found = verdict(*few, n_resamples=300)  # resamples alone would all lie above
    assert found["low"] == 0 <= found["debiased"] < found["high"]
    assert found["high"] < np.median(bootstrap(*few, n_resamples=300, norm="l2", equal_mass=True))
    assert said == {0.6: "underconfident", 1.0: "calibrated", 1.8: "overconfident"}
    # too sure where it is sure, too shy where it is not: right on average, yet wrong
    both = np.r_[np.full(1000, 0.9), np.full(1000, 0.6)], np.r_[np.arange(1000) < 750, np.arange(1000) < 750]
    assert verdict(*both, n_resamples=200)["verdict"] == "miscalibrated"


@pytest.mark.parametrize(("level", "said"), [(0.99, "miscalibrated"), (0.95, "miscalibrated"), (0.9, "overconfident")])
def test_the_sign_of_the_gap_is_judged_at_the_level_that_is_asked_for(level, said):
    """A gap 1.8 standard errors above 0, between the normal quantiles of 90 and 95 %."""
    confidence = np.r_[np.full(1000, 0.9), np.full(1000, 0.6)]
    correct = np.r_[np.arange(1000) < 750, np.arange(1000) < 713]
    excess = confidence - correct
    assert 1.75 < excess.mean() / excess.std() * np.sqrt(2000) < 1.85
    assert verdict(confidence, correct, level=level, n_resamples=100)["verdict"] == said


def test_debiased_error_of_a_calibrated_model_is_smaller_and_of_a_bad_one_the_same():
    errors = {}
    for sure in (1.0, 3.0):
        parts = [draw(1000, sure=sure, seed=seed) for seed in range(40)]
        plain, debiased = (
            np.mean([measure(softmax(logits), labels) ** 2 for logits, labels in parts])
            for measure in (
                lambda *x: expected_calibration_error(*x, norm="l2", equal_mass=True),
                debiased_ece,
            )
        )
        errors[sure] = plain, debiased
    assert errors[1.0][1] < 0.5 * errors[1.0][0]
    assert errors[3.0][1] == pytest.approx(errors[3.0][0], rel=0.05)


def test_debiasing_by_hand():
    """Two bins of three images each: squared gaps less a(1 − a)/(n − 1)."""
    probs = np.array([[0.6, 0.4]] * 3 + [[0.9, 0.1]] * 3)
    labels = np.array([0, 1, 1, 0, 1, 1])
    gaps = (0.6 - 1 / 3) ** 2 - (2 / 9) / 2, (0.9 - 1 / 3) ** 2 - (2 / 9) / 2
    assert np.mean(gaps) > 0
    assert debiased_ece(probs, labels, n_bins=2) == pytest.approx(np.sqrt(np.mean(gaps)))
    assert debiased_ece(probs, np.array([0, 1, 1, 0, 0, 0]), n_bins=2) == 0  # less than chance makes
    labels = np.array([1, 1, 1, 1, 1, 1])
    assert debiased_ece(probs, labels, n_bins=2) == pytest.approx(np.sqrt((0.36 + 0.81) / 2))


def test_reliability_bins_hold_every_image(sample):
    confidence, correct = confidence_and_correct(*sample)
    for equal_mass in (False, True):
        bins = reliability_bins(confidence, correct, equal_mass=equal_mass)
        assert bins["n"].sum() == len(confidence)
        assert (bins["n"] @ bins["accuracy"]) / len(confidence) == pytest.approx(correct.mean())
        gap = (bins["n"] * (bins["confidence"] - bins["accuracy"]).abs()).sum() / len(confidence)
        assert gap == pytest.approx(binned_gap(confidence, correct, equal_mass=equal_mass))
        assert ((bins["low"] <= bins["accuracy"]) & (bins["accuracy"] <= bins["high"])).all()
        inside = (bins["confidence"] >= bins["left"] - 1e-9) & (bins["confidence"] <= bins["right"] + 1e-9)
        assert inside.all()
    assert bins["n"].max() - bins["n"].min() <= 1


# Tables


@pytest.fixture(scope="module")
def logits_table() -> pd.DataFrame:
    """Two models, one with two training seeds; the cnn is overconfident, the mlp calibrated."""
    parts = []
    for model, model_seed, sure in (("mlp", 1, 1.0), ("cnn", 3, 2.0), ("cnn", 0, 3.0)):
        logits, labels = draw(2000, k=4, sure=sure)
        table = pd.DataFrame(logits).add_prefix("logit_").assign(model=model, model_seed=model_seed)
        half = np.where(np.arange(2000) % 2, "judged", "fit")
        parts.append(table.assign(sample_id=range(2000), label=labels, half=half))
    return pd.concat(parts)


def test_tables_hold_what_their_functions_give_of_the_judged_half(logits_table):
    judged = tables.calibration.scaled(logits_table)
    assert len(judged) == 3 * 4 * 1000 and (judged["sample_id"] % 2 == 1).all()
    measured = tables.calibration.measured(judged, n_bins=7, n_resamples=20, seed=2)
    bins = tables.calibration.reliability(judged, n_bins=7, n_resamples=20, seed=2)
    curves = tables.calibration.coverage(judged)
    counts = tables.calibration.errors_by_bins(judged, [7], n_resamples=20, seed=2)
    keys = ["model", "model_seed", "condition"]
    for key, part in judged.groupby(keys):
        model, model_seed, name = key
        table = logits_table.query("model == @model and model_seed == @model_seed")
        fit, rest = (table[table["half"] == half] for half in ("fit", "judged"))
        columns = [f"logit_{k}" for k in range(4)]
        probs = SCALINGS[name](fit[columns].to_numpy(), fit["label"].to_numpy())(rest[columns].to_numpy())
        np.testing.assert_allclose(part[[f"p_{k}" for k in range(4)]], probs)
        sure = confidence_and_correct(probs, rest["label"].to_numpy())
        own = {
            name: other.set_index(keys).loc[[key]]
            for name, other in dict(m=measured, b=bins, c=curves, n=counts).items()
        }
        assert own["m"]["verdict"].item() == verdict(*sure, n_bins=7, n_resamples=20, seed=2)["verdict"]
        assert own["m"]["ece"].item() == pytest.approx(own["m"]["ECE"].item()) == pytest.approx(own["n"]["ece"].item())
        band = consistency_band(sure[0], n_bins=7, n_resamples=20, seed=2)
        np.testing.assert_allclose(own["b"][["bin", "null_low", "null_high"]], band)
        np.testing.assert_allclose(own["b"]["accuracy"], reliability_bins(*sure, n_bins=7)["accuracy"])
        np.testing.assert_allclose(own["c"]["risk"], risk_coverage(*sure)["risk"])


def test_comparison_is_paired_and_over_training_seeds(logits_table):
    judged = tables.calibration.scaled(logits_table, ["none"])
    (row,) = tables.calibration.compared(judged, n_resamples=200).to_dict("records")
    assert (row["better"], row["worse"], row["separated"]) == ("mlp", "cnn", True)
    errors = {
        key: debiased_gap(part["confidence"], part["correct"]) for key, part in judged.groupby(["model", "model_seed"])
    }
    means = {model: np.mean([errors[key] for key in errors if key[0] == model]) for model in ("mlp", "cnn")}
    assert row["difference"] == pytest.approx(means["cnn"] - means["mlp"])
    assert row["low"] < row["difference"] < row["high"]
    cnn = judged[judged["model_seed"] == 3]
    same = pd.concat([cnn.assign(model=name) for name in ("a", "b")])
    (row,) = tables.calibration.compared(same, n_resamples=50).to_dict("records")
    _, low, high = debiased_interval(cnn["confidence"], cnn["correct"])
    assert row["difference"] == 0 and not row["separated"]
    assert row["high"] - row["low"] < 0.25 * (high - low)  # paired: little chance is left


# What is refused, what is taken


def test_wrong_input_is_refused():
    probs, labels = np.full((4, 2), 0.5), np.array([0, 1, 0, 1])
    for bad, message in (
        ((np.full((4, 2), np.nan), labels), "row 0 sums to nan"),
        ((np.where(np.eye(4, 2) > 0, np.nan, probs), labels), "must sum to 1"),
        ((2 * probs, labels), "row 0 sums to 2. Are these logits"),
        ((np.array([[1.5, -0.5]] * 4), labels), "must not be negative, as -0.5"),
        ((probs, labels[:3]), r"not \(4, 2\) and \(3,\)"),
        ((probs, labels + 1), r"labels must lie in \[0, 2\), not \[1, 2\]"),
        ((probs, labels - 1), r"not \[-1, 0\]"),
        ((probs, labels.astype(float)), "class indices, not float64"),
        ((probs[:, 0], labels), r"expected probs \[n, k\]"),
        ((probs[:0], labels[:0]), "n, k > 0"),
    ):
        for measure in (expected_calibration_error, classwise_ece, brier, nll, smooth_ece, confidence_and_correct):
            with pytest.raises(ValueError, match=message):
                measure(*bad)
    for confidence, correct in (
        ([0.5, np.nan], [True, False]),
        ([0.5, 1.1], [True, False]),
        ([-0.1, 0.5], [True, False]),
        ([0.5], [True, False]),
        ([], []),
    ):
        for measure in (binned_gap, smooth_gap, reliability_bins, bootstrap, aurc, verdict):
            with pytest.raises(ValueError, match="confidences"):
                measure(confidence, correct)
    with pytest.raises(ValueError, match="unknown norm 'l3'; choose from l1, l2, max"):
        expected_calibration_error(probs, labels, norm="l3")
    with pytest.raises(ValueError, match="n_bins must be at least 1, not 0"):
        expected_calibration_error(probs, labels, n_bins=0)
    with pytest.raises(ValueError, match="no bin holds two images"):
        debiased_ece(np.array([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.9, 0.1]]), labels, n_bins=4)
    with pytest.raises(ValueError, match="logits must be finite"):
        fit_temperature(np.full((4, 2), np.inf), labels)


def test_a_temperature_that_does_not_exist_is_refused():
    logits = np.array([[3.0, 1.0], [0.0, 5.0]])
    with pytest.raises(ValueError, match="all 2 images are right"):
        fit_temperature(logits, np.array([0, 1]))
    with pytest.raises(ValueError, match="favour other classes"):
        fit_temperature(logits, np.array([1, 0]))


def test_tensors_and_half_precision_will_do(sample):
    probs, labels = sample
    expected = expected_calibration_error(probs, labels)
    assert expected_calibration_error(torch.tensor(probs), torch.tensor(labels)) == expected
    assert expected_calibration_error(probs.astype(np.float16), labels) == pytest.approx(expected, abs=2e-3)
    assert expected_calibration_error(probs.astype(np.float32), labels) == pytest.approx(expected, abs=1e-4)


def test_sums_are_taken_in_float64():
    """A hundred thousand float32 confidences: a float32 sum would be 1e-4 off."""
    confidence = np.full(100_000, 0.7, dtype=np.float32)
    exact = abs(float(np.float32(0.7)) - 0.6)
    assert binned_gap(confidence, np.arange(100_000) < 60_000) == pytest.approx(exact, abs=1e-12)
