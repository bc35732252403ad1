"""What is read from CKA, against brute force, closed forms and the whole computation."""

from itertools import combinations, combinations_with_replacement

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment

from src.tables.cka import (
    agreement_with_cka,
    at_matched_depth,
    between,
    beyond_chance,
    beyond_shuffled,
    by_distance,
    cka_table,
    compare_at_depth,
    deconfounded,
    match_layers,
    mean_with_others,
    one_seed,
    task_onset,
)
from src.tables.cka.hsic import SIDE_A, SIDE_B


def hsic_rows(cross, own_a, own_b, model_a="a", model_b="b", n=8, kinds=("trained", "trained"), seeds=(0, 0)):
    """cross: [batches, layers a, layers b]."""
    batches, m, k = cross.shape
    return pd.DataFrame(
        [
            dict(
                model_a=model_a, kind_a=kinds[0], seed_a=seeds[0], layer_a=f"l{i}", index_a=i,
                model_b=model_b, kind_b=kinds[1], seed_b=seeds[1], layer_b=f"l{j}", index_b=j,
                batch=t, n=n, cross=cross[t, i, j], own_a=own_a[t, i], own_b=own_b[t, j],
            )
            for i in range(m) for j in range(k) for t in range(batches)
        ]
    )  # fmt: skip


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    return hsic_rows(generator.random((5, 3, 4)), 1 + generator.random((5, 3)), 1 + generator.random((5, 4)))


def test_cka_is_the_ratio_of_means_over_minibatches(rows):
    table = cka_table(rows.sample(frac=1, random_state=1))
    assert len(table) == 12 and table["n"].eq(40).all() and table["batches"].eq(5).all()
    one = rows[(rows["index_a"] == 1) & (rows["index_b"] == 3)]
    expected = one["cross"].mean() / np.sqrt(one["own_a"].mean() * one["own_b"].mean())
    (found,) = table[(table["index_a"] == 1) & (table["index_b"] == 3)].itertuples()
    assert found.cka == pytest.approx(expected, abs=1e-12) and found.low < found.cka < found.high
    assert found.depth_a == 0.5 and found.depth_b == 1


def test_layers_that_do_not_vary_have_no_cka_and_one_minibatch_no_interval(rows):
    rows.loc[rows["index_a"] == 0, "own_a"] = 0.0
    table = cka_table(rows)
    assert table["cka"].isna().eq(table["index_a"] == 0).all()
    assert cka_table(rows[rows["batch"] == 0])[["low", "high"]].isna().all(axis=None)


def test_the_interval_covers_the_truth():
    generator, hits = np.random.default_rng(1), 0
    for trial in range(200):
        cross = 0.6 + 0.2 * generator.standard_normal((30, 1, 1))
        (row,) = cka_table(
            hsic_rows(cross, np.ones((30, 1)), np.ones((30, 1))), seed=trial, n_resamples=300
        ).itertuples()
        hits += row.low <= 0.6 <= row.high
    assert 0.88 <= hits / 200 <= 0.98


def test_missing_and_double_minibatches_are_refused(rows):
    for broken in (rows.iloc[1:], pd.concat([rows, rows.iloc[:1]])):
        with pytest.raises(ValueError, match="every minibatch once"):
            cka_table(broken)


def several_seeds(*, random_seed: int = 1) -> pd.DataFrame:
    """HSIC of two models of three training seeds, and with random weights, whose seed is one of those."""
    networks = [(name, "trained", seed) for name in "ab" for seed in (2, 0, 1)]
    networks += [(name, "untrained", random_seed) for name in "ab"] + [("labels", "labels", 0)]
    generator, parts = np.random.default_rng(3), []
    for (a, kind_a, seed_a), (b, kind_b, seed_b) in combinations_with_replacement(networks, 2):
        m, n = (1 if kind == "labels" else 2 for kind in (kind_a, kind_b))
        cross, options = generator.random((6, m, n)), dict(kinds=(kind_a, kind_b), seeds=(seed_a, seed_b))
        parts.append(hsic_rows(cross, np.ones((6, m)), np.ones((6, n)), a, b, **options))
    return pd.concat(parts, ignore_index=True)


def test_the_first_training_seed_is_never_pooled_with_another():
    """With the random weights' seed equal to another training seed, pairs of layers came several times."""
    hsic = several_seeds()
    table = cka_table(one_seed(hsic))
    trained = table[table["kind_a"] == "trained"]
    assert set(trained["seed_a"]) == {2} and set(table.loc[table["kind_a"] == "untrained", "seed_a"]) == {1}
    for kinds in (("trained", "trained"), ("untrained", "untrained")):
        between(table, "a", "b", kinds=kinds).pivot(index="index_a", columns="index_b", values="cka")
    assert set(by_distance(table)["n"]) == {1} and set(by_distance(cka_table(hsic))["n"]) == {1}
    asked = one_seed(hsic, 0)
    assert set(asked.loc[asked["kind_a"] == "trained", "seed_a"]) == {0}
    assert (asked["kind_a"] == "untrained").any() and (asked["kind_b"] == "labels").any()
    with pytest.raises(ValueError, match="no network has the training seed 3; there are 0, 1, 2"):
        one_seed(hsic, 3)


def test_untrained_networks_and_labels_are_no_other_architecture():
    hsic, columns = several_seeds(), ["model", "value", "low", "high", "seed_low", "seed_high"]
    trained = hsic[(hsic["kind_a"] == "trained") & (hsic["kind_b"] == "trained")]
    table, alone = mean_with_others(hsic, ["a", "b", "labels"]), mean_with_others(trained, ["a", "b"])
    pd.testing.assert_frame_equal(table[columns], alone[columns])
    assert alone["chance"].isna().all() and mean_with_others(hsic, ["a"]).empty
    assert mean_with_others(one_seed(trained), ["a"]).empty


def test_the_mean_with_others_is_that_of_the_layers_as_deep_and_its_chance_that_of_untrained_ones():
    """Both layers but the stems are the last ones: of those the mean over the nine pairs of seeds."""
    hsic = several_seeds()
    deep = hsic.query("index_a == 1 and index_b == 1 and model_a == 'a' and model_b == 'b' and kind_a == kind_b")
    cka = deep.groupby(["kind_a", "seed_a", "seed_b"])["cross"].mean()
    table = mean_with_others(hsic, ["a", "b"]).set_index("model")
    assert table["value"].tolist() == pytest.approx([cka["trained"].mean()] * 2) and set(table["measure"]) == {"CKA"}
    assert table["chance"].tolist() == pytest.approx([cka["untrained"].item()] * 2)
    by_seed = cka["trained"].groupby(level="seed_a").mean()
    assert table.loc["a", ["seeds", "seed_low", "seed_high"]].tolist() == pytest.approx(
        [3, by_seed.min(), by_seed.max()]
    )


def test_with_the_inputs_the_mean_with_others_is_what_training_adds():
    """Inputs that share nothing take nothing away: the excess is that of plain CKA, by chance 0."""
    hsic = several_seeds()
    sides = hsic[SIDE_A].drop_duplicates().query("kind_a in ['trained', 'untrained']")
    inputs = dict(model_b="inputs", kind_b="inputs", seed_b=0, layer_b="inputs", index_b=0, n=8)
    inputs |= dict(cross=0.0, own_a=1.0, own_b=1.0)
    rows = sides.merge(pd.DataFrame(dict(batch=range(6))), how="cross").assign(**inputs)
    plain, table = (mean_with_others(rows, ["a", "b"]) for rows in (hsic, pd.concat([hsic, rows])))
    np.testing.assert_allclose(table["value"], plain["value"] - plain["chance"])
    assert set(table["measure"]) == {"excess"} and table["chance"].eq(0).all()


def test_a_pair_reads_the_same_from_both_sides():
    table = cka_table(one_seed(several_seeds()))
    one, other = between(table, "a", "b"), between(table, "b", "a")
    assert one["cka"].equals(other["cka"]) and one["layer_a"].equals(other["layer_b"])
    assert other["model_a"].eq("b").all() and list(one.columns) == list(other.columns)


def test_layers_beyond_those_of_shuffled_images():
    hsic = one_seed(several_seeds())
    table = cka_table(hsic)
    null = pd.concat(hsic[(hsic["batch"] == 0) & (hsic["index_a"] == 0) & (hsic["index_b"] == 0)].assign(
        permutation=i, largest=value) for i, value in enumerate(np.linspace(0, 0.5, 21)))  # fmt: skip
    (row,) = beyond_shuffled(table, null, ["a", "b"]).itertuples()
    part = between(table, "a", "b")
    assert row.chance == pytest.approx(0.475) and row.above == pytest.approx((part["cka"] > 0.475).mean())
    assert row.cka == part["cka"].max()
    assert row.matched == pytest.approx(match_layers(part["cka"].to_numpy().reshape(2, 2))[1])


def test_similarity_by_distance():
    similarity = 0.5 ** np.abs(np.subtract.outer(range(4), range(4)))
    one = np.ones((1, 4))
    table = by_distance(cka_table(hsic_rows(similarity[None], one, one, "a", "a")))
    assert table["distance"].tolist() == [1, 2, 3] and table["n"].tolist() == [3, 2, 1]
    np.testing.assert_allclose(table["cka"], [0.5, 0.25, 0.125])


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 3), (3, 6), (5, 2), (6, 4)])
def test_the_best_matching_is_that_of_brute_force(shape):
    similarity = np.random.default_rng(sum(shape)).normal(size=shape)
    matched, score = match_layers(similarity)
    short, long = sorted(shape)
    turned = similarity if shape[0] == short else similarity.T
    best = max(sum(turned[i, j] for i, j in enumerate(columns)) for columns in combinations(range(long), short))
    assert score == pytest.approx(best / short)
    assert np.mean([similarity[i, j] for i, j in matched]) == pytest.approx(score)
    assert all(b > a and d > c for (a, c), (b, d) in zip(matched, matched[1:], strict=False))
    free = similarity[linear_sum_assignment(similarity, maximize=True)].sum() / short
    assert score <= free + 1e-12


def test_layers_that_agree_in_order_are_matched_as_by_free_assignment():
    similarity = np.exp(-(np.subtract.outer(np.arange(4), np.linspace(0, 3, 7)) ** 2))
    matched, score = match_layers(similarity)
    assert matched == [(0, 0), (1, 2), (2, 4), (3, 6)] and score == pytest.approx(1)
    with pytest.raises(ValueError, match="finite"):
        match_layers(np.array([[np.nan, 1.0]]))


def test_the_onset_is_where_half_of_the_last_value_is_reached():
    depth = np.linspace(0, 1, 5)
    assert task_onset(depth, depth) == pytest.approx(0.5)
    assert task_onset(depth, [0, 0, 0.2, 0.6, 0.8]) == pytest.approx(0.625)
    assert task_onset(depth, [0.9, 0, 0, 0, 1]) == 0
    assert np.isnan(task_onset(depth, -depth))


def test_agreement_of_measures_is_the_rank_correlation_over_pairs_of_layers():
    rng = np.random.default_rng(0)
    rows = []
    for batch in range(3):
        for i in range(12):
            a, b = (("cnn", i % 3), ("vit", i // 3)) if i < 9 else (("cnn", 0), ("cnn", i - 8))
            value = rng.random()
            for name, seen in (("CKA", value), ("same order", value**3), ("other way round", 1 - value)):
                sides = (a[0], "trained", 0, f"l{a[1]}", a[1], b[0], "trained", 0, f"l{b[1]}", b[1])
                rows.append((*sides, name, batch, 64, seen, 0.2))
    columns = [*SIDE_A, *SIDE_B, "measure", "batch", "n", "value", "null"]
    table = pd.DataFrame(rows, columns=columns)
    found = agreement_with_cka(table).set_index(["measure", "pairs"])
    assert found.loc[("same order", "across"), "spearman"] == pytest.approx(1)
    assert found.loc[("other way round", "within"), "spearman"] == pytest.approx(-1)
    assert found.loc[("same order", "across"), "n"] == 9 and found.loc[("same order", "within"), "n"] == 3
    excess = beyond_chance(table).set_index("measure")
    means = table[(table["model_b"] == "vit") & (table["measure"] == "CKA")].groupby("batch")["value"].mean()
    expected = (means - 0.2) / 0.8
    assert excess.loc["CKA", "value"] == pytest.approx(expected.mean())
    interval = stats.ttest_1samp(expected, 0).confidence_interval(0.95)
    assert (excess.loc["CKA", "low"], excess.loc["CKA", "high"]) == pytest.approx(tuple(interval))
    assert np.isnan(beyond_chance(table[table["batch"] == 0])["low"]).all()
    full = table.assign(null=table["null"].where(table["index_a"] > 0, 1.0))  # of these nothing can be said
    rest = table[table["index_a"] > 0]
    np.testing.assert_allclose(beyond_chance(full)["value"], beyond_chance(rest)["value"])


def of_pairs(value, *, seeds=3, batches=4) -> pd.DataFrame:
    """HSIC of networks of three and five layers, the same in all layers but the stem (0.9) and minibatches; value: of
    (model, seed), (model, seed) and the kind."""
    parts, shape = [], {"a": 3, "b": 5}
    for kind in ("trained", "untrained"):
        networks = [(name, seed) for name in "ab" for seed in range(seeds)]
        for one, other in combinations_with_replacement(networks, 2):
            m, n = shape[one[0]], shape[other[0]]
            cross = np.full((batches, m, n), value(one, other, kind))
            cross[:, 0, 0] = 0.9
            options = dict(kinds=(kind, kind), seeds=(one[1], other[1]))
            parts.append(hsic_rows(cross, np.ones((batches, m)), np.ones((batches, n)), one[0], other[0], **options))
    return pd.concat(parts, ignore_index=True)


def test_layers_as_deep_as_each_other():
    table = of_pairs(lambda *_: 0.5, seeds=1)
    matched = at_matched_depth(table).query("model_a == 'a' and model_b == 'b' and kind_a == 'trained' and batch == 0")
    assert matched[["index_a", "index_b"]].values.tolist() == [[0, 0], [1, 2], [2, 4]]
    turned = table.rename(columns={f"index_{s}": f"index_{o}" for s, o in ("ab", "ba")})
    turned = at_matched_depth(turned).query("model_a == 'a' and model_b == 'b' and kind_a == 'trained' and batch == 0")
    assert turned[["index_a", "index_b"]].values.tolist() == [[0, 0], [2, 1], [4, 2]]


def test_seeds_of_one_architecture_are_alike_beyond_untrained_ones():
    """Planted: trained seeds agree by .8 within and .5 + x_a + y_b across; untrained ones by .4 and .3."""
    x, y = np.array([0.0, 0.03, 0.06]), np.array([0.0, 0.01, -0.04])

    def value(one, other, kind):
        if one[0] == other[0]:
            return 0.8 if kind == "trained" else 0.4
        return 0.5 + x[one[1]] + y[other[1]] if kind == "trained" else 0.3

    table = compare_at_depth(of_pairs(value), ["a", "b"], n_resamples=20_000)
    assert set(table["measure"]) == {"CKA"}
    found = table[table["layers"] == "depth"].set_index(["pair", "what"])
    across = 0.5 + x.mean() + y.mean()
    for key, expected in (
        (("a–a", "trained"), 0.8), (("a–b", "trained"), across), (("a–b", "untrained"), 0.3),
        (("a–b", "excess"), across - 0.3), (("b–b", "excess"), 0.4), (("a–b", "seeds alike"), 0.4 - (across - 0.3)),
    ):  # fmt: skip
        assert found.loc[key, "value"] == pytest.approx(expected, abs=1e-9), key
        assert found.loc[key, ["seeds", "n"]].tolist() == [3, 32]
    # minibatches are all the same, so that seeds alone make the interval: Welch's for the two means of x and y
    parts = np.array([x.var(ddof=1), y.var(ddof=1)]) / 3
    half = stats.t.ppf(0.975, parts.sum() ** 2 / (parts**2 / 2).sum()) * np.sqrt(parts.sum())
    row = found.loc["a–b", "excess"]
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.05)
    stem = table[(table["layers"] == "stem") & (table["what"] == "trained")]
    np.testing.assert_allclose(stem["value"], 0.9)


def test_what_untrained_networks_differ_by_is_in_what_training_adds_whatever_the_training_seeds():
    """Planted: nothing differs between minibatches or trained seeds, of which there are two; untrained ones do."""
    x = {"a": [0.0, 0.2, -0.1, 0.1, -0.2], "b": [0.1, 0.0, 0.3, -0.3, 0.0]}

    def value(one, other, kind):
        if kind == "trained":
            return 0.8 if one[0] == other[0] else 0.5
        return 0.2 + x[one[0]][one[1]] + x[other[0]][other[1]]

    table = of_pairs(value, seeds=5)
    most = table[["seed_a", "seed_b"]].max(axis=1)
    widths = {}
    for k in (1, 5):
        kept = (table["kind_a"] == "trained") & (most < 2) | (table["kind_a"] == "untrained") & (most < k)
        rows = compare_at_depth(table[kept], ["a", "b"], n_resamples=5_000).query("layers == 'depth'")
        rows = rows.set_index(["pair", "what"])
        widths[k] = rows["high"] - rows["low"]
    assert widths[1]["a–b", "excess"] == 0  # of one untrained network each, nothing is known
    assert widths[5]["a–b", "excess"] > 0.2 and widths[5]["a–b", "trained"] == 0
    half = stats.t.ppf(0.975, 4) * 2 * np.std(x["a"], ddof=1) / np.sqrt(5)  # each is in the mean over pairs twice
    assert widths[5]["a–a", "excess"] / 2 == pytest.approx(half, rel=0.05)


def test_tables_of_older_code_read_as_plain_cka_of_one_random_network():
    table = compare_at_depth(several_seeds(), ["a", "b"], n_resamples=50)
    assert set(table["measure"]) == {"CKA"} and "seeds alike" not in set(table["what"])
    with pytest.raises(ValueError, match="the table has no rows of the inputs"):
        deconfounded(several_seeds())
    alone = compare_at_depth(one_seed(several_seeds()).query("batch == 0"), ["a", "b"])
    assert alone[["low", "high", "p_value"]].isna().all(axis=None)
