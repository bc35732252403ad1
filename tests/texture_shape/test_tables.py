"""The measures against scipy, statsmodels, enumeration and closed forms; none of them needs torch."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from src.tables.statistics import paired_test
from src.tables.texture_shape import (
    ABOVE,
    BELOW,
    compare_shape_bias,
    crossover,
    cues,
    retained_accuracy,
    separation,
    shape_bias,
    sign_flip_test,
)


def conflicts(shape: int, texture: int, neither: int, *, model: str = "cnn", seed: int = 0) -> pd.DataFrame:
    """Pairs of class 1 (shape) and 2 (texture), of which so many are answered 1, 2 and 3, in a random order."""
    answers = np.repeat([1, 2, 3], [shape, texture, neither])
    answers = np.random.default_rng(seed).permutation(answers)
    pairs = dict(pair=np.arange(len(answers)), shape_label=1, texture_label=2, prediction=answers)
    return pd.DataFrame(pairs).assign(model=model, condition="phase", level=1.0)


def test_a_prediction_follows_shape_texture_or_neither():
    table = pd.DataFrame({"shape_label": [0, 0, 0, 5], "texture_label": [1, 1, 1, 0], "prediction": [0, 1, 2, 0]})
    assert cues(table).tolist() == [1, -1, 0, -1]
    with pytest.raises(ValueError, match="1 pairs have one class for shape and texture"):
        cues(table.assign(texture_label=[1, 1, 0, 0]))


def test_shape_bias_counts_decisive_pairs_and_says_how_many():
    table = pd.concat([conflicts(30, 10, 60), conflicts(5, 15, 0, model="mlp")])
    found = shape_bias(table).set_index("model")
    assert found.loc["cnn", ["n", "shape", "texture"]].tolist() == [100, 30, 10]
    assert found.loc["cnn", ["decisive", "shape_bias"]].tolist() == [0.4, 0.75]
    assert found.loc["mlp", ["n", "decisive", "shape_bias"]].tolist() == [20, 1.0, 0.25]
    by_level = shape_bias(pd.concat([table, table.assign(level=2.0)]), by=["model", "level"])
    assert list(by_level.columns[:2]) == ["model", "level"] and len(by_level) == 4


def test_the_interval_is_the_bootstrap_over_pairs_of_scipy():
    table = conflicts(30, 18, 52)
    followed = cues(table)

    def bias(sample, axis=-1):
        return (sample == 1).sum(axis) / (sample != 0).sum(axis)

    theirs = stats.bootstrap((followed,), bias, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    ours = shape_bias(table, n_resamples=20_000).iloc[0]
    np.testing.assert_allclose([ours["low"], ours["high"]], theirs.confidence_interval, atol=0.011)
    narrow = shape_bias(table, level=0.5).iloc[0]
    assert ours["low"] < narrow["low"] < ours["shape_bias"] < narrow["high"] < ours["high"]
    assert shape_bias(table).equals(shape_bias(table)) and not shape_bias(table, seed=1).equals(shape_bias(table))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, inside = np.random.default_rng(0), 0
    for trial in range(300):
        shape, texture, neither = rng.multinomial(150, [0.35, 0.15, 0.5])
        found = shape_bias(conflicts(shape, texture, neither), n_resamples=1_000, seed=trial).iloc[0]
        inside += found["low"] <= 0.7 <= found["high"]
    assert 0.90 <= inside / 300 <= 0.98


def test_extremes_and_nothing_decisive():
    assert shape_bias(conflicts(10, 0, 5)).iloc[0][["shape_bias", "low", "high"]].tolist() == [1, 1, 1]
    assert shape_bias(conflicts(0, 10, 5)).iloc[0][["shape_bias", "low", "high"]].tolist() == [0, 0, 0]
    nothing = shape_bias(conflicts(0, 0, 5)).iloc[0]
    assert nothing["decisive"] == 0 and nothing[["shape_bias", "low", "high"]].isna().all()


def test_differences_are_paired():
    """Two models that answer alike differ by 0 exactly; so do shuffled ones, but without certainty."""
    a = conflicts(60, 30, 30)
    alike = compare_shape_bias(pd.concat([a, a.assign(model="mlp").iloc[::-1]])).iloc[0]
    assert alike[["a", "b", "n"]].tolist() == ["cnn", "mlp", 120]
    assert alike[["difference", "low", "high", "p_value"]].tolist() == [0, 0, 0, 1]
    other = compare_shape_bias(pd.concat([a, conflicts(60, 30, 30, model="mlp", seed=5)])).iloc[0]
    assert other["difference"] == 0 and other["low"] < -0.05 and other["high"] > 0.05 and other["p_value"] > 0.5
    far = compare_shape_bias(pd.concat([a, conflicts(20, 70, 30, model="mlp", seed=5)])).iloc[0]
    assert far["difference"] == pytest.approx(2 / 3 - 2 / 9) and far["low"] > 0 and far["p_value"] == 2 / 10_001


def test_the_paired_interval_is_the_bootstrap_of_scipy():
    a, b = conflicts(60, 30, 30), conflicts(45, 45, 30, model="mlp", seed=3)
    first, second = cues(a), cues(b)

    def difference(x, y, axis=-1):
        return (x == 1).sum(axis) / (x != 0).sum(axis) - (y == 1).sum(axis) / (y != 0).sum(axis)

    theirs = stats.bootstrap(
        (first, second), difference, paired=True, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    )
    ours = compare_shape_bias(pd.concat([a, b]), n_resamples=20_000).iloc[0]
    np.testing.assert_allclose([ours["low"], ours["high"]], theirs.confidence_interval, atol=0.011)
    drawn = theirs.bootstrap_distribution
    assert ours["p_value"] == pytest.approx(2 * min((drawn <= 0).mean(), (drawn >= 0).mean()), abs=0.01)


def test_p_values_of_all_pairs_are_corrected_after_holm():
    table = pd.concat(
        [conflicts(60, 30, 30), conflicts(45, 45, 30, model="mlp", seed=3), conflicts(52, 40, 28, model="vit")]
    )
    found = compare_shape_bias(table)
    assert found[["a", "b"]].values.tolist() == [["cnn", "mlp"], ["cnn", "vit"], ["mlp", "vit"]]
    by_hand = found["p_value"].sort_values() * [3, 2, 1]
    np.testing.assert_allclose(found["p_holm"][by_hand.index], by_hand.cummax().clip(upper=1))


def test_a_model_without_a_decisive_pair_is_not_compared():
    found = compare_shape_bias(pd.concat([conflicts(10, 10, 10), conflicts(0, 0, 30, model="mlp")])).iloc[0]
    assert found[["difference", "low", "high"]].isna().all() and found["p_value"] == 1


def test_models_on_different_pairs_are_refused():
    a, b = conflicts(10, 10, 10), conflicts(10, 10, 9, model="mlp")
    with pytest.raises(ValueError, match="do not have the same pairs"):
        compare_shape_bias(pd.concat([a, b]))
    with pytest.raises(ValueError, match="a model has a pair twice"):
        compare_shape_bias(pd.concat([a, a]))


# crossovers


def hybrid_table(wins: dict[float, tuple[int, int]], n: int = 100, model: str = "cnn") -> pd.DataFrame:
    """At each cut-off so many pairs for the shape and the texture."""
    parts = [
        conflicts(s, t, n - s - t, model=model, seed=i).assign(level=cutoff)
        for i, (cutoff, (s, t)) in enumerate(wins.items())
    ]
    return pd.concat(parts).assign(condition="hybrid")


def test_the_crossover_lies_on_the_line_over_log_cutoff():
    table = hybrid_table({8: (80, 10), 1: (10, 70), 2: (20, 40), 4: (60, 20)})
    found = crossover(table).iloc[0]
    # S - T goes from -20 at 2 to 40 at 4: a third of the way
    assert found["crossover"] == pytest.approx(2 * 2 ** (1 / 3)) and found["n"] == 100
    assert 1 < found["low"] < found["crossover"] < found["high"] < 4
    exact = crossover(hybrid_table({1: (0, 10), 2: (5, 5), 4: (9, 0)})).iloc[0]
    assert exact["crossover"] == pytest.approx(2)


def test_crossovers_outside_the_grid_are_told():
    assert (
        crossover(hybrid_table({1: (60, 10), 2: (80, 5)})).iloc[0][["crossover", "low", "high"]].tolist() == [BELOW] * 3
    )
    assert (
        crossover(hybrid_table({1: (0, 60), 2: (5, 80)})).iloc[0][["crossover", "low", "high"]].tolist() == [ABOVE] * 3
    )
    unsure = crossover(hybrid_table({1: (10, 40), 2: (30, 29)})).iloc[0]
    assert unsure["crossover"] < 2 and unsure["high"] == ABOVE and 1 <= unsure["low"] <= 2


def test_the_crossovers_interval_keeps_pairs_together():
    """Where each pair turns at one cut-off of its own, the interval is that of the median of those cut-offs."""
    rng = np.random.default_rng(0)
    grid = 2 ** np.linspace(-1, 4, 60)
    own = 2 ** rng.normal(1.5, 0.7, size=201)
    rows = [
        pd.DataFrame({"pair": np.arange(201), "prediction": np.where(own < cutoff, 1, 2), "level": cutoff})
        for cutoff in grid
    ]
    table = pd.concat(rows).assign(model="cnn", shape_label=1, texture_label=2)
    found = crossover(table, n_resamples=4_000).iloc[0]
    theirs = stats.bootstrap((np.log2(own),), np.median, n_resamples=4_000, method="percentile", rng=rng)
    np.testing.assert_allclose(np.log2([found["low"], found["high"]]), theirs.confidence_interval, atol=0.07)
    assert np.log2(found["crossover"]) == pytest.approx(np.median(np.log2(own)), abs=0.05)


def test_a_crossover_needs_the_same_pairs_everywhere():
    table = hybrid_table({1: (10, 40), 2: (40, 10)})
    with pytest.raises(ValueError, match="do not have the same pairs"):
        crossover(table[(table["level"] == 1) | (table["pair"] > 0)])


# accuracies


def predictions(
    clean: list[int], manipulated: list[int], *, model: str = "cnn", condition: str = "edges"
) -> pd.DataFrame:
    """Images of label 1, predicted 1 where the lists say 1."""
    n = len(clean)
    head = dict(model=model, model_seed=0, sample_id=np.arange(n), label=1)
    return pd.concat(
        [
            pd.DataFrame(head | dict(condition="clean", level=0.0, prediction=clean)),
            pd.DataFrame(head | dict(condition=condition, level=1.0, prediction=manipulated)),
        ]
    )


def test_retained_accuracy_is_over_the_clean_one_of_the_same_images():
    clean = predictions([1, 1, 1, 1, 0], [1, 0, 0, 1, 1])
    found = retained_accuracy(clean).iloc[0]
    assert found[["model", "condition", "level", "n"]].tolist() == ["cnn", "edges", 1.0, 5]
    assert found[["clean", "accuracy", "retained"]].tolist() == [0.8, 0.6, pytest.approx(0.75)]
    by_class = retained_accuracy(clean, by=["model", "label"]).iloc[0]
    assert by_class["n"] == 5
    with pytest.raises(ValueError, match="1 manipulated rows have no row of condition 'clean'"):
        retained_accuracy(clean[~((clean["condition"] == "clean") & (clean["sample_id"] == 2))])
    with pytest.raises(ValueError, match="two clean rows"):
        retained_accuracy(pd.concat([clean, clean]))


def test_retained_intervals_are_the_paired_bootstrap_of_scipy():
    rng = np.random.default_rng(0)
    clean = (rng.random(200) < 0.85).astype(int)
    manipulated = np.where(rng.random(200) < 0.5, clean, rng.random(200) < 0.3).astype(int)

    def ratio(c, r, axis=-1):
        return r.mean(axis) / c.mean(axis)

    theirs = stats.bootstrap((clean, manipulated), ratio, paired=True, n_resamples=20_000, method="percentile", rng=rng)
    found = retained_accuracy(predictions(clean, manipulated), n_resamples=20_000).iloc[0]
    np.testing.assert_allclose(found[["low", "high"]].astype(float), theirs.confidence_interval, atol=0.008)


def test_seeds_keep_their_own_clean_rows():
    one, two = predictions([1, 1], [1, 0]), predictions([0, 1], [0, 1]).assign(model_seed=1)
    found = retained_accuracy(pd.concat([one, two]), by=["model_seed"])
    assert found["clean"].tolist() == [1.0, 0.5] and found["retained"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    "differences", [[1, 1, -1, 0, 2], [2, 2, -1, 1, 1, 0], [1], [-2, 1, 1], [0, 0], [-1] * 6, [1, -1]]
)
def test_the_sign_flip_test_counts_all_signs(differences):
    sizes = np.abs(differences)
    sums = [abs(np.dot(signs, sizes)) for signs in product((-1, 1), repeat=len(sizes))]
    assert sign_flip_test(np.array(differences)) == pytest.approx(np.mean(np.array(sums) >= abs(sum(differences))))


def test_separation_is_mcnemars_test_where_all_clean_images_are_right():
    rng = np.random.default_rng(0)
    a = predictions([1] * 80, (rng.random(80) < 0.7).astype(int))
    b = predictions([1] * 80, (rng.random(80) < 0.5).astype(int), model="mlp")
    found = separation(pd.concat([a, b])).iloc[0]
    expected = paired_test(a[a["condition"] == "edges"], b[b["condition"] == "edges"])
    assert found["p_value"] == pytest.approx(expected["p_value"])
    assert found["difference"] == found["excess"] == pytest.approx(expected["difference"]) and found["n"] == 80


def test_separation_leaves_out_what_clean_images_separate_already():
    a = predictions([1] * 50 + [0] * 50, [1] * 50 + [0] * 50)
    b = predictions([0] * 100, [0] * 100, model="mlp")
    found = separation(pd.concat([a, b])).iloc[0]
    assert found[["difference", "excess", "p_value"]].tolist() == [0.5, 0, 1]


def test_separation_ranks_by_size_and_corrects_over_all_rows():
    rng = np.random.default_rng(0)
    parts = []
    for model, shares in (("cnn", (0.9, 0.2, 0.5)), ("mlp", (0.8, 0.8, 0.5)), ("vit", (0.7, 0.6, 0.4))):
        for condition, share in zip(("edges", "blacken", "low_pass"), shares, strict=True):
            table = predictions([1] * 60, (rng.random(60) < share).astype(int), model=model, condition=condition)
            parts.append(table if condition == "edges" else table[table["condition"] != "clean"])
    found = separation(pd.concat(parts))
    assert len(found) == 9 and found["excess"].abs().is_monotonic_decreasing
    assert found.loc[0, ["condition", "a", "b"]].tolist() == ["blacken", "cnn", "mlp"] and found.loc[0, "excess"] < -0.4
    np.testing.assert_allclose(found["p_holm"], multipletests(found["p_value"], method="holm")[1])
    assert found["p_holm"].iloc[0] == pytest.approx(9 * found["p_value"].min())


def test_of_all_pairs_the_difference_is_that_of_means_and_its_interval_scipys():
    both = pd.concat([conflicts(60, 10, 30, model="mlp"), conflicts(30, 5, 65, model="cnn", seed=1)])
    (row,) = compare_shape_bias(both, of_all=True).itertuples()
    assert row.difference == pytest.approx(0.5 - 0.25)
    wide = both.assign(cue=cues(both)).pivot(index="pair", columns="model", values="cue")
    differences = (wide["mlp"] - wide["cnn"]).to_numpy()
    other = stats.bootstrap((differences,), np.mean, n_resamples=9999, method="percentile", rng=1).confidence_interval
    assert (row.low, row.high) == pytest.approx(other, abs=0.02)
    (ratio,) = compare_shape_bias(both).itertuples()
    assert ratio.difference == pytest.approx(0)  # 6 of 7 decisive ones each, which says nothing of how many are
