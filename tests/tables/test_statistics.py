"""Intervals over images and training seeds: closed forms, and coverage of known effects."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.tables.statistics import interval_over_seeds, percentile_interval, two_level_bootstrap, with_holm


def long(values: dict[str, np.ndarray]) -> pd.DataFrame:
    """values: model -> [images, seeds]."""
    parts = []
    for model, of_model in values.items():
        image, number = (grid.ravel() for grid in np.indices(of_model.shape))
        parts.append(pd.DataFrame(dict(model=model, model_seed=number, sample_id=image, value=of_model.ravel())))
    return pd.concat(parts, ignore_index=True)


def simulated(rng: np.random.Generator, *, n: int, n_seeds: int, of_seeds: float, of_images: float) -> dict:
    """Two architectures of one mean: images crossed with networks, seeds nested, and what is left of each image."""
    image = rng.normal(0, 1, (n, 1))
    return {
        model: image
        + rng.normal(0, of_images, (n, 1))
        + rng.normal(0, of_seeds, n_seeds)
        + rng.normal(0, 0.5, (n, n_seeds))
        for model in ("a", "b")
    }


def test_nothing_to_correct_gives_no_rows():
    assert list(with_holm(pd.DataFrame([])).columns) == ["p_holm"]


def test_one_seed_is_the_paired_bootstrap_over_images():
    rng = np.random.default_rng(0)
    values = simulated(rng, n=400, n_seeds=1, of_seeds=0.0, of_images=0.3)
    table = two_level_bootstrap(long(values), n_resamples=20_000).set_index(["model", "other"])
    difference = (values["a"] - values["b"])[:, 0]
    row, error = table.loc[("a", "b")], difference.std() / 20
    assert row["value"] == pytest.approx(difference.mean(), abs=1e-12) and row[["n", "seeds"]].tolist() == [400, 1]
    assert [row["low"], row["high"]] == pytest.approx(
        [row["value"] - 1.96 * error, row["value"] + 1.96 * error], abs=2e-3
    )
    assert row["p_value"] == pytest.approx(2 * stats.norm.sf(abs(row["value"]) / error), rel=0.1)
    mean, error = table.loc[("a", "")], values["a"].std() / 20
    assert mean["value"] == pytest.approx(values["a"].mean())
    assert mean["p_value"] == pytest.approx(2 * stats.norm.sf(abs(mean["value"]) / error), rel=0.1)


def test_seeds_that_differ_far_more_than_images_give_welch_s_interval():
    rng = np.random.default_rng(1)
    values = simulated(rng, n=500, n_seeds=4, of_seeds=20.0, of_images=0.1)
    row = two_level_bootstrap(long(values), n_resamples=20_000).iloc[2]
    welch = stats.ttest_ind(values["a"].mean(0), values["b"].mean(0), equal_var=False)
    low, high = welch.confidence_interval(0.95)
    assert [row["low"], row["high"]] == pytest.approx([low, high], rel=0.03)
    assert row["p_value"] == pytest.approx(welch.pvalue, abs=0.01)


def test_what_seeds_add_is_a_random_effects_analysis_of_variance():
    """Images alike but for what each does with each seed: mean square of seeds 8, of the rest 2/3, of four images."""
    rest = np.array([0.5, -0.5, 0.5, -0.5])
    values = np.stack([3 + 1 + rest, 3 - 1 - rest], 1)
    row = two_level_bootstrap(long({"a": values})).iloc[0]
    added = (8 - 2 / 3) / 8
    assert row["value"] == 3 and row["p_value"] == pytest.approx(2 * stats.t.sf(3 / added**0.5, added**2))


@pytest.mark.parametrize("of_seeds", [0.0, 0.1, 1.0])
def test_the_interval_covers_a_known_difference(of_seeds):
    """Nominal 95 %; of 600 data sets the share varies by .9 points (one standard deviation)."""
    rng, covered, images_only, rejected = np.random.default_rng(2), 0, 0, 0
    for trial in range(600):
        values = simulated(rng, n=80, n_seeds=3, of_seeds=of_seeds, of_images=0.5)
        row = two_level_bootstrap(long(values), n_resamples=400, seed=trial).iloc[2]
        covered += row["low"] <= 0 <= row["high"]
        rejected += row["p_value"] < 0.05
        means = values["a"].mean(1) - values["b"].mean(1)
        images_only += abs(means.mean()) <= 1.96 * means.std() / np.sqrt(80)
    assert 0.93 <= covered / 600 <= 0.975 and 0.025 <= rejected / 600 <= 0.07
    assert of_seeds < 1 or images_only / 600 < 0.3  # what leaves the seeds out


def test_wrong_tables_are_refused_and_no_difference_at_all_is_no_evidence():
    table = long({"a": np.ones((5, 2)), "b": np.ones((5, 2))})
    row = two_level_bootstrap(table).iloc[2]
    assert row[["value", "low", "high", "p_value"]].tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="not measured on the same images"):
        two_level_bootstrap(table.iloc[1:])
    with pytest.raises(ValueError, match="has an image twice"):
        two_level_bootstrap(pd.concat([table, table]))


def test_without_seeds_the_interval_is_the_percentiles():
    drawn = np.random.default_rng(0).normal(2, 1, 1000)
    assert interval_over_seeds(2.0, drawn, [])[:2] == pytest.approx(percentile_interval(drawn))
    assert np.isnan(interval_over_seeds(2.0, np.full(10, np.nan), [(0.1, 0.01)])).all()
