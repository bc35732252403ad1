"""Two folders of tables: planted differences are found, chance is not, and what cannot be compared is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from src import paths
from src.results import load_table, save_table, table_path
from src.tables import calibration, compare, statistics, texture_shape
from src.tables.compare import differences

TABLES = paths.RESULTS / "cifar10"


def folder_of(place, tables, data="some"):
    """A folder of tables; tables: (experiment, name) -> rows."""
    place.mkdir()
    run = {"run": place.name, "dataset": data, "data": {"name": data, "classes": ["a", "b"]}}
    (place / "run.json").write_text(json.dumps(run))
    for (experiment, name), rows in tables.items():
        save_table(rows, place, experiment, name, parameters={}, provenance={"code": place.name})
    return place


def images(right, ids=None, condition="clean", **more):
    """Predictions of a cnn, of which those that are `right` are the label."""
    ids = np.arange(len(right)) if ids is None else ids
    facts = dict(model="cnn", model_seed=0, dataset="some", condition=condition)
    return pd.DataFrame(facts | dict(sample_id=ids, label=1, prediction=np.where(right, 1, 0)) | more)


def planted(n, n_right, gained, lost):
    """Right in A and in B: `gained` of those wrong in A are right in B, and `lost` the other way round."""
    a = np.arange(n) < n_right
    b = a.copy()
    b[n_right : n_right + gained], b[:lost] = True, False
    return a, b


def both(tmp_path, a, b, place=("05_calibration", "cnn")):
    return compare.compare(folder_of(tmp_path / "a", {place: a}), folder_of(tmp_path / "b", {place: b}))


def test_a_planted_difference_is_found_in_pairs(tmp_path):
    a, b = planted(500, 350, gained=70, lost=20)
    shuffled = images(b).sample(frac=1, random_state=0)
    (row,) = both(tmp_path, images(a), shuffled).to_dict("records")
    assert (row["a"], row["b"]) == (0.7, 0.8) and row["difference"] == pytest.approx(0.1)
    assert 0 < row["low"] < 0.1 < row["high"] and row["differs"] and row["paired"] and row["n"] == 500
    assert row["p_value"] == pytest.approx(stats.binomtest(20, 90).pvalue)
    tested = statistics.paired_test(images(b), images(a))
    assert row["difference"] == pytest.approx(tested["difference"]) and row["p_value"] == tested["p_value"]


def test_other_images_are_compared_as_independent_lots(tmp_path):
    a, b = np.arange(400) < 280, np.arange(300) < 240
    (row,) = both(tmp_path, images(a), images(b, ids=np.arange(300) + 350)).to_dict("records")  # 50 in both
    low, high = confint_proportions_2indep(240, 300, 280, 400, method="newcomb")
    assert not row["paired"] and (row["n_a"], row["n_b"], row["n"]) == (400, 300, 300)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    z = 0.1 / np.sqrt(520 / 700 * 180 / 700 * (1 / 400 + 1 / 300))
    assert row["p_value"] == pytest.approx(2 * stats.norm.sf(z))


def test_where_half_the_images_are_in_both_those_alone_are_compared(tmp_path):
    a, b = np.arange(400) < 280, np.arange(300) < 240
    (row,) = both(tmp_path, images(a), images(b, ids=np.arange(300) + 200)).to_dict("records")
    assert row["paired"] and row["n"] == 200 and row["a"] == pytest.approx(80 / 200) and row["b"] == 1


@pytest.mark.parametrize(
    ("cells", "low", "high"),  # right in both, first, second, neither
    [((14, 5, 0, 22), 0.011, 0.226), ((1, 1, 7, 12), -0.507, -0.026)],
)
def test_the_interval_of_pairs_is_newcombe_s(cells, low, high):
    """Altman et al. 2000, table 6.2, and Fagerland, Lydersen & Laake 2014: airway hyper-responsiveness."""
    first, second = np.repeat([1, 1, 0, 0], cells) == 1, np.repeat([1, 0, 1, 0], cells) == 1
    found = differences.of_shares(second, first, paired=True)
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("kind", ["shares", "ratios", "means"])
def test_intervals_hold_the_true_difference_19_times_in_20(kind, paired):
    rng, held, level, n_trials = np.random.default_rng(0), 0, 0, 1000
    for _ in range(n_trials):
        common = rng.normal(size=300)
        lots = [paired * common + rng.normal(size=300) for _ in "ab"]
        if kind == "shares":
            a, b = (lot < 1 for lot in lots)
        elif kind == "ratios":
            a, b = (np.select([lot < -0.5, lot > 0.8], [1, -1], 0) for lot in lots)
        else:
            a, b = lots
        found = getattr(differences, f"of_{kind}")(a, b, paired=paired)
        held += found["low"] <= 0 <= found["high"]
        level += found["p_value"] < 0.05
    assert 0.93 <= held / n_trials <= 0.985  # 0.95 ± 3 standard errors, and what is discrete
    assert level / n_trials <= 0.07


def test_of_runs_that_are_alike_hardly_one_family_in_twenty_differs():
    """Twelve conditions each, of one true accuracy, on other images: Holm's family errs in at most 5 %."""
    rng, erred, n_families = np.random.default_rng(1), 0, 400
    for _ in range(n_families):
        p_values = []
        for accuracy in np.linspace(0.3, 0.95, 12):
            a, b = (rng.random(200) < accuracy for _ in "ab")
            p_values.append(differences.of_shares(a, b, paired=False)["p_value"])
        erred += len(p_values) * min(p_values) < 0.05  # the smallest of Holm's p-values
    assert erred / n_families <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_families)


def test_one_family_is_corrected_over_all_that_was_tested(tmp_path):
    a, b = planted(500, 350, gained=25, lost=10)
    levels = (
        [images(a, condition="pgd", eps=e) for e in (0.1, 0.2)],
        [images(b, condition="pgd", eps=e) for e in (0.1, 0.2)],
    )
    table = both(tmp_path, *map(pd.concat, levels), place=("02_attacks", "cnn"))
    assert table["eps"].tolist() == [0.1, 0.2]
    np.testing.assert_allclose(table["p_holm"], 2 * table["p_value"])


def test_a_folder_with_itself_differs_in_nothing():
    table = compare.compare(TABLES, TABLES)
    assert set(table["experiment"]) == {path.name for path in TABLES.iterdir() if path.is_dir()}
    assert table["difference"].eq(0).all() and not table["differs"].any() and table["p_holm"].fillna(1).eq(1).all()
    assert (table["low"] <= 0).all() and (table["high"] >= 0).all()
    assert compare.summary(table)[1:] == ["Nothing differs: every difference is 0."]
    assert compare.only_in_one(table).empty and compare.differing_facts(TABLES, TABLES).empty
    assert table.set_index("measure").loc["time", "paired"].eq(False).all()
    values = table[table["model_seed"] == 0].set_index(["table", "model", "condition", "measure"])["a"]
    for model in ("mlp", "cnn", "vit"):
        judged = load_table(TABLES, "05_calibration", model).query("half == 'judged' and model_seed == 0")
        probs = calibration.softmax(judged.filter(like="logit_"))
        error = calibration.measure_all(probs, judged["label"].to_numpy())["ECE, debiased l2"]
        assert values[model, model, "clean", "calibration error"] == pytest.approx(error, abs=1e-4)
    phase = load_table(TABLES, "03_texture_shape", "cue_conflict").query("condition == 'phase' and model_seed == 0")
    for row in texture_shape.shape_bias(phase).itertuples():
        assert values["cue_conflict", row.model, "phase", "shape bias"].item() == pytest.approx(row.shape_bias)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(TABLES, tmp_path / "copy", ignore=shutil.ignore_patterns("*.npz", "03_*", "02_*", "01_*"))


def change(folder, experiment, name, edit, **facts):
    rows = edit(load_table(folder, experiment, name))
    save_table(rows, folder, experiment, name, parameters={}, provenance={}, **facts)


def test_each_kind_of_table_shows_what_was_done_to_it(copy):
    swap = {"cnn": "mlp", "mlp": "cnn"}
    change(
        copy,
        "04a_cka",
        "hsic",
        lambda t: t.assign(model_a=t["model_a"].replace(swap), model_b=t["model_b"].replace(swap)),
    )
    change(
        copy,
        "04b_feature_vis",
        "inversion",
        lambda t: t.assign(ssim=t["ssim"] + 0.2 + 0.01 * t["sample_id"].rank() / len(t)),
    )
    change(copy, "05_calibration", "cnn", lambda t: t.assign(confidence=t["confidence"] ** 4))
    change(copy, "06_efficiency", "timings", lambda t: t.assign(ms=1.5 * t["ms"]))
    change(copy, "06_efficiency", "costs", lambda t: t.assign(macs=2 * t["macs"]))
    table = compare.compare(TABLES, copy)
    assert set(table[table["a"].notna()]["experiment"]) >= {"01_finetuning", "04a_cka", "06_efficiency"}
    found = table.dropna(subset=["difference"]).query("experiment != '02_attacks'").groupby("measure")
    differs, moved = found["differs"].any(), found["difference"].agg(lambda d: d.abs().max())
    for measure in ("CKA", "calibration error", "multiply-adds", "SSIM over the depth"):
        assert differs[measure], measure
    assert not differs[["accuracy", "p of the target", "PSNR over the depth", "parameters", "time"]].any()
    assert moved["time"] == pytest.approx(0.5) and moved["multiply-adds"] == 1
    cka = table.query("measure == 'CKA' and condition == 'trained with trained' and model_seed == other_seed == 0")
    cka = cka.set_index(["model", "other"])
    assert cka.loc[("cnn", "vit"), "b"] == pytest.approx(cka.loc[("mlp", "vit"), "a"])  # whichever way round they are
    lines = compare.summary(table)
    assert any("the median changed by +50 % to +50 %" in line for line in lines)
    assert compare.alone(compare.only_in_one(table)) == [
        f"only in A: {name} ({n:,} rows)" for name, n in table[table["b"].isna()].groupby("experiment").size().items()
    ]


def test_what_one_folder_alone_has_is_told_as_coarsely_as_is_true(tmp_path):
    half = np.arange(40) < 20
    a = {
        ("02_attacks", "cnn"): pd.concat(
            [images(half, condition=c, eps=e) for c, e in [("pgd", 0.1), ("pgd", 0.2), ("fgsm", 0.1)]]
        )
    }
    b = {("02_attacks", "cnn"): images(half, condition="pgd", eps=0.1), ("05_calibration", "cnn"): images(half)}
    table = compare.compare(folder_of(tmp_path / "a", a), folder_of(tmp_path / "b", b))
    assert table["difference"].count() == 1
    assert compare.alone(compare.only_in_one(table)) == [
        "only in A: 02_attacks/cnn, cnn, seed 0, fgsm (1 rows)",
        "only in A: 02_attacks/cnn, cnn, seed 0, pgd, at some settings (1 rows)",
        "only in B: 05_calibration (1 rows)",
    ]


def test_facts_that_differ_are_named(tmp_path, copy):
    change(copy, "05_calibration", "cnn", lambda t: t, weights={"cnn_cifar10.safetensors": "f" * 64})
    facts = compare.differing_facts(TABLES, copy).set_index("fact")
    assert facts.loc["weights cnn_cifar10.safetensors", ["b", "tables"]].tolist() == ["f" * 12, "05_calibration/cnn"]
    assert facts.loc["parameter n_test", ["a", "b"]].tolist() == ["0", "not recorded"]


def test_what_cannot_be_compared_is_refused(tmp_path):
    half = np.arange(10) < 5
    one = folder_of(tmp_path / "one", {("05_calibration", "cnn"): images(half)})
    with pytest.raises(ValueError, match="only runs on the same images can be compared"):
        compare.compare(one, TABLES)
    relabelled = folder_of(tmp_path / "other", {("05_calibration", "cnn"): images(half).assign(label=0)})
    with pytest.raises(ValueError, match="10 images of 05_calibration/cnn have other labels in A than in B"):
        compare.compare(one, relabelled)
    twice = folder_of(tmp_path / "twice", {("05_calibration", "cnn"): pd.concat([images(half)] * 2)})
    with pytest.raises(ValueError, match="holds a unit twice"):
        compare.compare(one, twice)
    path = table_path(one, "05_calibration", "cnn")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="one/05_calibration/cnn.parquet is not the table its JSON describes"):
        compare.compare(relabelled, one)
    with pytest.raises(FileNotFoundError, match="no folder of tables 'nothing'; choose from .*results/cifar10"):
        compare.compare("nothing", TABLES)
