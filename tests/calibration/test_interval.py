"""The debiased error and its interval against closed forms, plain loops, simulations, and networks made calibrated."""

import inspect
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

from src import tables
from src.tables.calibration import summary
from src.tables.calibration.bins import assign_bins
from src.tables.calibration.interval import contrast_interval, debiased_interval
from src.tables.calibration.measures import binned_gap, debiased_gap, smooth_gap
from src.tables.calibration.resampling import bootstrap, verdict
from src.tables.statistics import wilson_interval

COVERAGE = "results/benchmarks/calibration_coverage.csv"


def outcomes(gap: float, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Confidences in (0.3, 0.9) and outcomes of a network that is `gap` too sure everywhere; calibrated at 0."""
    confidence = 0.3 + 0.6 * rng.random(n)
    return confidence, rng.random(n) < confidence - gap


@pytest.mark.parametrize("n_bins", [1, 4, 15])
def test_the_debiased_error_is_that_of_a_plain_loop(n_bins):
    confidence, correct = outcomes(0.1, 407, np.random.default_rng(0))
    pairs, square = sorted(zip(confidence.tolist(), correct.tolist(), strict=True)), 0.0
    borders = [-(-b * len(pairs) // n_bins) for b in range(n_bins + 1)]
    for first, last in pairwise(borders):
        sure, right = zip(*pairs[first:last], strict=True)
        n = len(sure)
        mean = sum(right) / n
        variance = sum((value - mean) ** 2 for value in right) / (n - 1) / n  # of a mean, unbiased
        square += n / len(pairs) * ((sum(sure) / n - mean) ** 2 - variance)
    assert debiased_gap(confidence, correct, n_bins=n_bins) == pytest.approx(np.sqrt(square), rel=1e-9)


def test_the_square_is_right_on_average_where_the_plug_in_is_too_large():
    rng, debiased, plain = np.random.default_rng(1), [], []
    for _ in range(300):
        sample = outcomes(0.08, 500, rng)
        debiased.append(debiased_gap(*sample) ** 2)
        plain.append(binned_gap(*sample, norm="l2", equal_mass=True) ** 2)
    assert np.mean(debiased) == pytest.approx(0.08**2, rel=0.1)
    assert np.mean(plain) > 1.7 * 0.08**2


@pytest.mark.parametrize("n, least", [(50, 0.94), (100, 0.96), (1000, 0.995)])
def test_the_interval_of_an_underconfident_network_near_certainty_covers_its_error(n, least):
    """A quarter of the errors that it expects: the more it is off, the less chance adds to what is seen."""
    covered = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(least, 1, n)
        gap = 0.75 * (confidence - 1)
        error, low, high = debiased_interval(confidence, rng.random(n) < confidence - gap)
        of_bin = assign_bins(confidence, 15, True)
        counts, sums = np.bincount(of_bin), np.bincount(of_bin, gap)
        assert low <= error <= high
        covered.append(low <= np.sqrt((sums**2 / counts).sum() / n) <= high)
    assert np.mean(covered) > 0.9


def test_a_calibrated_network_has_an_interval_from_0_and_a_smooth_error_near_0():
    rng = np.random.default_rng(2)
    lows = [debiased_interval(*outcomes(0.0, 2000, rng))[1] for _ in range(150)]
    assert np.mean(np.array(lows) == 0) >= 0.93  # 97.5 % by the interval's level
    many = outcomes(0.0, 100_000, rng)
    assert debiased_interval(*many)[2] < 0.008 and smooth_gap(*many) < 0.008


def test_with_one_bin_the_interval_is_wilsons():
    """The true accuracies that are tried have a binomial's variance at themselves, as Wilson's have."""
    n, right = 800, 560
    _, low, high = debiased_interval(np.full(n, 0.8), np.arange(n) < right, n_bins=1)
    least, most = (float(end) for end in wilson_interval(right, n))
    assert (low, high) == pytest.approx((0.8 - most, 0.8 - least), abs=0.003)


@pytest.mark.parametrize("gap", [0.03, 0.1])
def test_of_bins_of_one_variance_the_interval_is_the_noncentral_chi_squares(gap):
    """Accuracies near a half: the bins' squares over their variance sum up to a chi-square off centre."""
    n_bins, each = 10, 400
    confidence = 0.5 + 1e-6 * np.arange(n_bins * each)
    signs = np.where(np.arange(n_bins) % 2, 1, -1)
    correct = np.concatenate([np.arange(each) < round(each * (0.5 - s * gap)) for s in signs])
    seen = binned_gap(confidence, correct, n_bins=n_bins, norm="l2", equal_mass=True)
    _, low, high = debiased_interval(confidence, correct, n_bins=n_bins)
    variance = (0.25 - gap**2) / each

    def end(chance: float) -> float:
        def excess(centre: float) -> float:
            return float(stats.ncx2.cdf(n_bins * seen**2 / variance, n_bins, centre)) - chance

        far = brentq(excess, 1e-9, 2000) if excess(1e-9) > 0 else 0.0
        return float(np.sqrt(far * variance / n_bins))

    assert (low, high) == pytest.approx((end(0.975), end(0.025)), abs=0.003)


@pytest.mark.parametrize("gap", [0.02, 0.07])
def test_the_interval_holds_the_true_error(gap):
    rng = np.random.default_rng(3)
    found = [debiased_interval(*outcomes(gap, 2000, rng)) for _ in range(200)]
    assert np.mean([low <= gap <= high for _, low, high in found]) >= 0.91
    assert all(low <= error <= high for error, low, high in found)


def test_the_committed_simulation_is_within_93_and_97_per_cent():
    table = pd.read_csv(COVERAGE)
    headline = table[table["method"] == "debiased"].groupby("size")["coverage"].mean()
    assert headline.index.tolist() == [0.005, 0.01, 0.02, 0.035, 0.07] and headline.between(0.93, 0.97).all()
    before = table[table["method"] == "recentred"].groupby("size")["coverage"].mean()
    assert before[0.005] < 0.7  # why it went


def test_the_order_of_images_changes_nothing_where_confidences_tie():
    """Files are often sorted by class: bins that part equal confidences would measure that."""
    confidence, correct = np.full(400, 0.8), np.arange(400) < 320
    assert set(assign_bins(confidence, 15, equal_mass=True)) == {0}
    assert debiased_gap(confidence, correct) == 0
    rng = np.random.default_rng(4)
    confidence = np.round(rng.random(400), 1)
    order, correct = rng.permutation(400), np.sort(rng.random(400) < 0.5)
    mixed = debiased_interval(confidence[order], correct[order])
    assert mixed == pytest.approx(debiased_interval(confidence, correct), abs=1e-9)


def test_the_sign_has_a_normal_interval():
    confidence, correct = outcomes(0.05, 500, np.random.default_rng(5))
    said, excess = verdict(confidence, correct, n_resamples=50, level=0.9), confidence - correct
    ends = stats.norm.interval(0.9, excess.mean(), excess.std() / np.sqrt(500))
    assert (said["gap_low"], said["gap_high"]) == pytest.approx(ends)
    assert (said["debiased"], said["low"], said["high"]) == debiased_interval(confidence, correct, level=0.9)


def test_contrasts_of_symmetric_intervals_are_the_normal_ones():
    ends, z = np.array([(0.5, 0.4, 0.6), (0.2, 0.0, 0.4)]), stats.norm.ppf(0.975)
    for correlation, reach in ((0.0, np.sqrt(0.05)), (0.5, np.sqrt(0.03)), (1.0, 0.1)):
        together = np.array([[1, correlation], [correlation, 1]])
        for sign in (1, -1):
            weights = sign * np.array([1.0, -1.0])
            *found, p_value = contrast_interval(ends, weights, together)
            assert found == pytest.approx((sign * 0.3, sign * 0.3 - reach, sign * 0.3 + reach))
            assert p_value == pytest.approx(2 * stats.norm.sf(0.3 / (reach / z)))
    same = contrast_interval(ends[[0, 0]], np.array([1.0, -1.0]), np.ones((2, 2)))
    assert same[:3] == pytest.approx((0, 0, 0), abs=1e-7) and same[3] == 1


def test_a_contrast_over_seeds_is_student_s():
    """Two networks without noise of images: what is left is a t-test of their seeds, 3 and 3, of one variance."""
    ends = np.repeat([[0.1], [0.2], [0.3], [0.4], [0.5], [0.6]], 3, axis=1)
    weights, added = np.repeat([1 / 3, -1 / 3], 3), 0.01 / 3
    seeds = [(added, added**2 / 2)] * 2
    value, low, high, p_value = contrast_interval(ends, weights, np.eye(6), seeds)
    expected = stats.ttest_ind([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    ends = expected.confidence_interval()
    assert (value, low, high) == pytest.approx((-0.3, ends.low, ends.high)) and p_value == pytest.approx(
        expected.pvalue
    )


def test_a_comparison_bins_its_errors_as_its_resamples(monkeypatch):
    """Once the norm and the kind of bins reached the resamples alone, and a difference stood in another's interval."""
    rng, used = np.random.default_rng(6), []
    parts = [
        pd.DataFrame(dict(zip(("confidence", "correct"), outcomes(gap, 600, rng), strict=True))).assign(
            model=model, model_seed=0, condition="none"
        )
        for model, gap in (("a", 0.0), ("b", 0.15))
    ]

    def recorded(*sample, **options):
        used.append(options)
        return bootstrap(*sample, **options)

    monkeypatch.setattr(summary, "bootstrap", recorded)
    (row,) = tables.calibration.compared(pd.concat(parts), n_bins=6, n_resamples=40).to_dict("records")
    one, other = (debiased_gap(part["confidence"], part["correct"], n_bins=6) for part in parts)
    assert (row["better"], row["worse"], row["separated"]) == ("a", "b", True)
    assert row["difference"] == pytest.approx(other - one)
    wanted = dict(norm="l2", equal_mass=True, n_bins=6, n_resamples=40, seed=0)
    assert used == [wanted, wanted]
    assert {"norm", "equal_mass"}.isdisjoint(inspect.signature(tables.calibration.compared).parameters)


def test_smooth_ece_is_the_fixed_point_of_a_plain_sum():
    """Błasiok & Nakkiran's width, found by bisection over sums of reflected Gaussians."""
    rng = np.random.default_rng(7)
    confidence = rng.random(150)
    correct = rng.random(150) < 0.7 * confidence + 0.1
    t = (np.arange(1000) + 0.5) / 1000
    images = np.concatenate([2 * m + sign * confidence for m in range(-1, 2) for sign in (1, -1)])
    residuals = np.tile(correct - confidence, 6) / 150

    def error(width: float) -> float:
        return float(np.abs(stats.norm.pdf(t[:, None], images, width) @ residuals).mean())

    narrow, wide = 1e-3, 0.2
    for _ in range(14):
        middle = (narrow + wide) / 2
        narrow, wide = (middle, wide) if error(middle) > middle else (narrow, middle)
    assert smooth_gap(confidence, correct) == pytest.approx(narrow, rel=5e-3)
