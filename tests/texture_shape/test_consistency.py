"""Error consistency against brute force, statsmodels and planted networks; no torch."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.stats import fisher_exact
from statsmodels.stats.inter_rater import cohens_kappa

from src import plotting
from src.tables.texture_shape import consistency_gaps, error_consistency


def network(right: np.ndarray, model: str, model_seed: int = 0, **facts) -> pd.DataFrame:
    """Rows of a network that is right where `right` says so."""
    rows = dict(sample_id=np.arange(len(right)), label=1, prediction=np.where(right, 1, 0))
    return pd.DataFrame(rows | dict(model=model, model_seed=model_seed, condition="clean", level=0.0) | facts)


def planted(n: int, *accuracies: float, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random(n) < accuracy for accuracy in accuracies]


def of(*tables: pd.DataFrame, **more) -> pd.Series:
    (row,) = error_consistency(pd.concat(tables), **more).itertuples(index=False)
    return row


def test_kappa_is_cohens_of_a_library_and_of_counting():
    x, y = planted(500, 0.7, 0.6)
    y = np.where(np.arange(500) < 200, x, y)  # some agreement
    row = of(network(x, "cnn"), network(y, "vit"))
    cells = np.array([[(x & y).sum(), (x & ~y).sum()], [(~x & y).sum(), (~x & ~y).sum()]])
    assert row.kappa == pytest.approx(cohens_kappa(cells, return_results=False))
    agree = sum(a == b for a, b in zip(x, y, strict=True)) / 500
    chance = sum(a == b for a in x for b in y) / 500**2
    assert (row.observed, row.expected) == pytest.approx((agree, chance))
    assert row.low < row.kappa < row.high and row.n == 500


def test_independent_errors_have_none_and_equal_ones_all():
    x, y = planted(20_000, 0.8, 0.6)
    row = of(network(x, "cnn"), network(y, "vit"))
    assert abs(row.kappa) < 0.03 and row.chance_low < 0 < row.chance_high  # four standard errors of 1/sqrt(n)
    same = of(network(x, "cnn"), network(x, "vit"))
    assert same.kappa == same.low == same.high == same.highest == 1
    opposite = of(network(x, "cnn"), network(~x, "vit"))
    assert opposite.observed == 0 and opposite.kappa < 0


def test_networks_of_unlike_accuracy_cannot_reach_one():
    right = np.arange(100)
    row = of(network(right < 90, "cnn"), network(right < 60, "vit"))  # all errors of the better are of the worse
    assert row.kappa == pytest.approx(row.highest) and row.highest == pytest.approx((0.7 - 0.58) / (1 - 0.58))


def test_chance_holds_independent_errors_as_often_as_it_says():
    """With the interval's ends inside it, at least 95 %; not much more, as n is large."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        x, y = rng.random(400) < 0.7, rng.random(400) < 0.5
        row = of(network(x, "cnn"), network(y, "vit"), n_resamples=2)
        inside += row.chance_low - 1e-12 <= row.kappa <= row.chance_high + 1e-12
    assert 183 <= inside <= 199


def test_outside_chance_means_that_fishers_test_rejects():
    x = np.arange(60) < 40
    for shared in range(18, 31):
        y = np.zeros(60, bool)
        y[:shared] = y[40 : 40 + 38 - shared] = True
        row = of(network(x, "cnn"), network(y, "vit"), n_resamples=2)
        table = [[shared, 40 - shared], [38 - shared, 20 - 38 + shared]]
        tails = [fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
        assert (row.kappa > row.chance_high + 1e-12) == (tails[1] <= 0.025)
        assert (row.kappa < row.chance_low - 1e-12) == (tails[0] < 0.025)


def test_seeds_and_models_are_told_apart_condition_by_condition():
    x, y = planted(50, 0.7, 0.6)
    tables = [network(x, "cnn"), network(y, "cnn", 1), network(y, "vit"), network(x, "cnn", condition="edges")]
    tables += [network(y, "vit", condition="edges")]
    rows = error_consistency(pd.concat(tables), n_resamples=10)
    kinds = rows.groupby(["condition", "kind"]).size().to_dict()
    assert kinds == {("clean", "models"): 2, ("clean", "seeds"): 1, ("edges", "models"): 1}


def test_networks_that_never_err_have_no_kappa_and_others_are_refused():
    right = np.ones(5, bool)
    assert np.isnan(of(network(right, "cnn"), network(right, "vit")).kappa)
    with pytest.raises(ValueError, match="did not see the same images"):
        error_consistency(pd.concat([network(right, "cnn"), network(right[:4], "vit")]))
    with pytest.raises(ValueError, match="has an image twice"):
        error_consistency(pd.concat([network(right, "cnn"), network(right, "cnn")]))
    with pytest.raises(ValueError, match="vit has one training seed"):
        consistency_gaps(pd.concat([network(right, "cnn"), network(right, "cnn", 1), network(right, "vit")]))


def zoo_with_shared_errors(share: float, *, n: int = 600, seeds: int = 3, seed: int = 0) -> pd.DataFrame:
    """Two models; of this share of the images all seeds of a model agree, elsewhere each network errs by itself."""
    rng, tables = np.random.default_rng(seed), []
    for model in ("cnn", "vit"):
        own = rng.random(n) < 0.7
        for model_seed in range(seeds):
            mixed = np.where(rng.random(n) < share, own, rng.random(n) < 0.7)
            tables.append(network(mixed, model, model_seed))
    return pd.concat(tables)


def test_seeds_that_fail_alike_leave_a_gap_and_independent_ones_none():
    (alike,) = consistency_gaps(zoo_with_shared_errors(0.9), n_resamples=300).itertuples()
    assert alike.low > 0.4 and alike.within == pytest.approx(0.81, abs=0.1) and abs(alike.between) < 0.1
    (apart,) = consistency_gaps(zoo_with_shared_errors(0), n_resamples=300).itertuples()
    assert apart.low < 0 < apart.high


def test_the_interval_of_the_gap_covers_it_where_seeds_differ():
    """Seeds of a model agree more or less with what it has of its own: most of the gap's spread is theirs."""

    def drawn(rng, n, seeds):
        for model in ("cnn", "vit"):
            own = rng.standard_normal(n)
            for model_seed in range(seeds):
                share = rng.uniform(0.7, 1.3)
                yield network(share * own + rng.standard_normal(n) > -0.5 * np.hypot(share, 1), model, model_seed)

    gaps = [
        consistency_gaps(pd.concat(drawn(np.random.default_rng(i), 4000, 8)), n_resamples=2)["gap"] for i in range(20)
    ]
    truth, covered, sure = np.mean(gaps), [], []
    for trial in range(150):
        (row,) = consistency_gaps(
            pd.concat(drawn(np.random.default_rng([1, trial]), 600, 3)), n_resamples=200
        ).itertuples()
        covered.append(row.low < truth < row.high)
        sure.append(row.p_value < 0.05)
        assert sure[-1] == (row.low > 0) or abs(row.p_value - 0.05) < 0.03
    assert 0.9 < np.mean(covered) and np.mean(sure) > 0.9


def test_the_gap_is_the_mean_of_the_pairs():
    table = zoo_with_shared_errors(0.5)
    pairs = error_consistency(table, n_resamples=2)
    own = pairs[pairs["kind"] == "seeds"].groupby("a")["kappa"].mean().mean()
    other = pairs[pairs["kind"] == "models"]["kappa"].mean()
    (gap,) = consistency_gaps(table, n_resamples=50).itertuples()
    assert (gap.within, gap.between, gap.gap) == pytest.approx((own, other, own - other))
    assert gap.low < gap.gap < gap.high


def test_the_figure_shows_every_pair_where_its_kappa_is():
    table = zoo_with_shared_errors(0.5, seeds=2).assign(dataset="planted")
    edges = table.assign(condition="edges", level=1.0)
    figure = plotting.texture_shape.consistency(pd.concat([table, edges]))
    (ax,) = figure.axes
    points = [line for line in ax.lines if line.get_fillstyle() == "left"]
    assert len({line.get_marker() for line in points}) == 3  # told apart in grey print
    assert {line.get_label() for line in points} == {"two of CNN", "CNN – ViT", "two of ViT"}
    drawn = sorted(np.concatenate([line.get_ydata() for line in points]))
    assert drawn == pytest.approx(sorted([*error_consistency(table)["kappa"]] * 2))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["clean", "edges"]
    plt.close(figure)
