"""The profile over all axes: each number from its table, the range over seeds, ranks, and what is missing."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from matplotlib import pyplot as plt

from src import plotting, tables
from src.results import load_facts, load_published, load_table, noting_missing, save_table
from src.tables.profile import (
    AXES,
    COLUMNS,
    MODELS,
    as_text,
    paired_as_text,
    paired_tests,
    profile,
    sentences,
    summarise,
)
from src.tables.profile.axes import latency, shape_less_texture, shares
from src.tables.statistics import paired_test, two_level_bootstrap

DATASET = "cifar10"
TABLES = f"results/{DATASET}"


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    table, missing = profile(TABLES, MODELS)
    assert not missing and list(table.columns) == COLUMNS
    return table


@pytest.fixture(scope="module")
def alone(whole) -> pd.DataFrame:
    """The rows of single models."""
    return whole[whole["other"] == ""].set_index(["axis", "model"])


@pytest.mark.parametrize("model", MODELS)
def test_each_axis_is_its_table(alone, model):
    logits = load_table(TABLES, "05_calibration", model)
    right = logits["label"] == logits["prediction"]
    assert alone.loc[("accuracy", model), "value"] == pytest.approx(right.mean(), abs=1e-12)
    errors = []
    for _, judged in logits[logits["half"] == "judged"].groupby("model_seed"):
        probs = torch.tensor(judged.filter(like="logit_").to_numpy(), dtype=torch.float64).softmax(1).numpy()
        pairs = np.stack([probs.max(1), probs.argmax(1) == judged["label"]])[:, np.argsort(probs.max(1))]
        square = 0.0
        for sure, right in np.array_split(pairs, 15, axis=1):
            square += len(sure) * ((sure.mean() - right.mean()) ** 2 - right.var(ddof=1) / len(sure))
        errors.append(np.sqrt(square / len(judged)))
    assert alone.loc[("calibration", model), "value"] == pytest.approx(np.mean(errors), abs=1e-3)

    worst = load_table(TABLES, "02_attacks", "worst_case").query("model == @model and eps_255 == 2")
    kept = (worst["label"] == worst["prediction"]).mean()
    assert alone.loc[("robustness", model), "value"] == pytest.approx(kept, abs=1e-12)

    times = load_table(TABLES, "06_efficiency", "timings").query(
        "sweep == 'latency' and model == @model and threads == 2"
    )
    by_process = times.groupby("process")["ms"].median()
    assert alone.loc[("cost", model), "value"] == pytest.approx(np.exp(np.log(by_process).mean()))


def test_fooled_by_others_is_the_target_of_the_additive_model(alone):
    """statsmodels' logistic regression on the images that all three get right, at the average source, less noise."""
    stored = tables.attacks.stored_transfer(TABLES)
    table = stored.query("source in @MODELS and target in @MODELS")
    wrong = table.loc[table["target_clean"] != table["label"], "sample_id"]
    rows = table[
        ~table["sample_id"].isin(wrong) & (table["attack"] == "mi_fgsm") & (table["source"] != table["target"])
    ]
    rows = rows.assign(fooled=(rows["prediction"] != rows["label"]).astype(int))
    fit = smf.logit("fooled ~ C(source, Sum) + C(target)", rows).fit(disp=False)
    noise = stored.query("attack == @tables.attacks.NOISE and sample_id in @rows.sample_id")
    by_noise = (noise["prediction"] != noise["label"]).groupby(noise["target"]).mean()
    base = fit.params["Intercept"]
    for model in MODELS:
        log_odds = base + fit.params.get(f"C(target)[T.{model}]", 0)
        expected = 1 / (1 + np.exp(-log_odds)) - by_noise[model]
        assert alone.loc[("transferability", model), "value"] == pytest.approx(expected, abs=2e-3)
        assert alone.loc[("transferability", model), "n"] == rows["sample_id"].nunique() > 20


def test_likeness_is_what_training_adds_beyond_inputs_and_untrained_networks(alone):
    """The mean over the other architectures of the deconfounded excess, whose chance is 0."""
    likeness = alone.loc["similarity"]
    assert (likeness["low"] > likeness["chance"]).all() and likeness["chance"].eq(0).all()
    pairs = tables.cka.compare_at_depth(load_table(TABLES, "04a_cka", "hsic"), MODELS)
    pairs = pairs.query("layers == 'depth' and measure == 'deconfounded' and what == 'excess'").set_index("pair")[
        "value"
    ]
    assert likeness.loc["vit", "value"] == pytest.approx((pairs["mlp–vit"] + pairs["cnn–vit"]) / 2, abs=1e-9)


def test_chance_is_what_would_be_seen_were_there_nothing(alone):
    for axis, expected in (("accuracy", 0.1), ("robustness", 0.1), ("transferability", 0), ("calibration", 0)):
        assert alone.loc[axis, "chance"].eq(expected).all()
    assert alone.loc["cost", "chance"].isna().all()


def test_intervals_hold_their_values(whole):
    assert (whole["low"] <= whole["value"]).all() and (whole["value"] <= whole["high"]).all()
    assert (whole["low"] < whole["high"]).all() and (whole["n"] > 0).all()
    ranked = whole[whole["axis"].map(lambda name: AXES[name].better) != 0]
    assert ranked["p_value"].isna().eq(ranked["other"] == "").all()


def test_the_tests_of_accuracy_are_mcnemar_s_for_one_training_seed():
    a, b = (load_table("results/cifar100", "05_calibration", model) for model in ("mlp", "vit"))
    expected = paired_test(a, b)
    (row,) = (
        profile("results/cifar100", MODELS)[0]
        .query("axis == 'accuracy' and model == 'mlp' and other == 'vit'")
        .itertuples()
    )
    assert (row.value, row.p_value) == pytest.approx((expected["difference"], expected["p_value"]))
    assert row.low < row.value < row.high < 0


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "fashion_mnist"])
def test_published_tables_give_a_profile_with_ranks_of_one_family(dataset):
    table, _ = profile(f"results/{dataset}", MODELS)
    summary, tests = summarise(table, MODELS)
    ranked = {name for name in set(table["axis"]) if AXES[name].better}
    assert len(ranked) == 5 and len(tests) == 15 and set(tests["axis"]) == ranked
    smallest, largest = tests["p_value"].argmin(), tests["p_value"].argmax()
    assert tests["p_holm"].iloc[smallest] == pytest.approx(min(1, 15 * tests["p_value"].min()))
    assert tests["p_holm"].iloc[largest] >= tests["p_value"].iloc[largest]
    for row in tests[tests["p_holm"] < 0.05].itertuples():  # ranks follow the tests
        part = summary[summary["axis"] == row.axis].set_index("model")["rank"]
        better, worse = (row.a, row.b) if row.difference * AXES[row.axis].better > 0 else (row.b, row.a)
        assert part[worse] > 1 and part[better] < 3
    assert len(paired_as_text(tests)) == 15 and as_text(summary)["n"].str.contains(" ").all()


def answers(right: dict, **facts) -> pd.DataFrame:
    """Predictions; right: (model, seed) -> whether each image is right."""
    parts = [
        pd.DataFrame(dict(model=model, model_seed=seed, sample_id=range(len(hit)), label=1, prediction=np.array(hit)))
        for (model, seed), hit in right.items()
    ]
    return pd.concat(parts).assign(**facts)


def ranks_of(values: pd.DataFrame) -> dict:
    return (
        summarise(values.assign(axis="accuracy", label="x", chance=0.5), MODELS)[0].set_index("model")["rank"].to_dict()
    )


def test_a_paired_test_parts_what_intervals_do_not():
    """20 images of 1,000 that one alone gets right: far inside the intervals of either, and no chance."""
    first = np.arange(1000) < 700
    second = first & (np.arange(1000) >= 20)
    values = shares(answers({("mlp", 0): first, ("cnn", 0): second}))
    one, other = values.iloc[0], values.iloc[1]
    assert other["high"] > one["low"] and other["high"] > one["value"]
    assert values["p_value"].iloc[2] == pytest.approx(2 * 0.5**20)
    assert ranks_of(values) == {"mlp": 1, "cnn": 2}


def test_intervals_apart_are_no_rank_where_the_test_and_its_family_do_not_part():
    """As many images, but 24 right with the one alone and 16 with the other: McNemar's p is .27."""
    first = np.arange(1000) < 700
    second = first.copy()
    second[:24], second[700:716] = False, True
    values = shares(answers({("mlp", 0): first, ("cnn", 0): second}))
    assert ranks_of(values) == {"mlp": 1, "cnn": 1}
    apart = rows("accuracy", {"mlp": 0.9, "cnn": 0.5, "vit": 0.45}, p_value=0.03)  # intervals of ±0.1
    assert set(summarise(apart, MODELS)[0]["rank"]) == {1}  # three tests of .03: .09 after Holm
    assert paired_tests(apart)["p_holm"].tolist() == pytest.approx([0.09] * 3)


def test_three_seeds_are_not_three_times_the_images():
    """Seeds of one architecture lie further apart than the two architectures do: pooled images would part them."""
    rng, right = np.random.default_rng(0), {}
    for model, means in (("mlp", (0.60, 0.80, 0.70)), ("cnn", (0.70, 0.85, 0.73))):
        right |= {(model, seed): rng.random(2000) < mean for seed, mean in enumerate(means)}
    values, pooled = shares(answers(right)), answers(right)
    pooled = pooled.assign(sample_id=pooled["sample_id"] + 2000 * pooled["model_seed"], model_seed=0)
    assert shares(pooled)["p_value"].iloc[2] < 1e-6 and values["p_value"].iloc[2] > 0.2
    assert ranks_of(values) == {"mlp": 1, "cnn": 1} and values["seeds"].eq(3).all() and values["n"].eq(2000).all()
    table = answers(right)
    expected = two_level_bootstrap(table.assign(value=(table["prediction"] == 1).astype(float)))
    np.testing.assert_allclose(values[["value", "low", "high"]], expected[["value", "low", "high"]])
    assert values["seed_low"].iloc[0] == pytest.approx(right["mlp", 0].mean())


def test_cut_outs_alone_give_shape_bias_and_only_where_their_rules_passed(tmp_path):
    pairs = dict(pair=range(40), shape_label=0, texture_label=1, model_seed=0, condition="cutout", level=1.0)
    conflicts = pd.DataFrame(pairs | dict(model="mlp", prediction=[0] * 24 + [1] * 8 + [2] * 8, dataset="x", seed=0))
    rules = pd.concat([
        conflicts.assign(model="shape rule", prediction=0), conflicts.assign(model="texture rule", prediction=1)
    ])  # fmt: skip
    place = (tmp_path, "03_texture_shape")
    for name, table in (("cue_conflict", conflicts), ("calibration", rules)):
        save_table(table, *place, name, parameters={}, provenance={})
    (row,) = shape_less_texture(tmp_path, ["mlp"]).itertuples()
    assert (
        row.value == pytest.approx(0.4) and row.low < 0.4 < row.high and (row.chance, row.n, row.of) == (0, 40, "pairs")
    )
    save_table(rules.assign(prediction=0), *place, "calibration", parameters={}, provenance={})
    with pytest.raises(FileNotFoundError, match="failed its check, and no other kind is validated.*Run 03_"):
        shape_less_texture(tmp_path, ["mlp"])
    save_table(conflicts.assign(condition="phase"), *place, "cue_conflict", parameters={}, provenance={})
    with pytest.raises(FileNotFoundError, match="no cut-outs, and no other kind is validated"):
        shape_less_texture(tmp_path, ["mlp"])


def test_times_are_paired_by_process_where_there_are_several(tmp_path):
    """Processes differ tenfold, networks by a tenth in each of them."""
    rng, parts = np.random.default_rng(0), []
    for process, slow in enumerate((1.0, 3.0, 10.0, 2.0)):
        for model, ms in (("mlp", 1.0), ("cnn", 1.1)):
            times = ms * slow * rng.uniform(0.999, 1.001, 8)
            parts.append(pd.DataFrame(dict(model=model, process=process, repeat=range(8), ms=times)))
    timings = pd.concat(parts).assign(sweep="latency", threads=1, model_seed=0, dataset="x", condition="eager", seed=0)
    save_table(timings, tmp_path, "06_efficiency", "timings", parameters={}, provenance={})
    table = latency(tmp_path, ["mlp", "cnn"])
    assert table["of"].eq("processes").all() and table["n"].eq(4).all() and table["p_value"].iloc[2] < 1e-3
    save_table(timings.query("process == 0"), tmp_path, "06_efficiency", "timings", parameters={}, provenance={})
    assert latency(tmp_path, ["mlp", "cnn"])["of"].eq("repeats of one process").all()


def rows(axis: str, values: dict, p_value: float = 1e-3, seeds: int = 1) -> pd.DataFrame:
    """Rows of `profile` with planted values, intervals of ±0.1, and one p-value for all pairs."""
    found = [(m, "", v, np.nan) for m, v in values.items()]
    found += [(a, b, values[a] - values[b], p_value) for a, b in combinations(values, 2)]
    table = pd.DataFrame(found, columns=["model", "other", "value", "p_value"]).assign(
        axis=axis, label=AXES[axis].label
    )
    table = table.assign(
        low=table["value"] - 0.1, high=table["value"] + 0.1, n=100, of="images", seeds=seeds, chance=0.1
    )
    return table.assign(seed_low=table["value"] - 0.01, seed_high=table["value"] + 0.02)[COLUMNS]


def test_ranks_are_one_and_how_many_are_surely_better():
    values = {"mlp": 0.9, "cnn": 0.75, "vit": 0.7}
    table = rows("accuracy", values, seeds=3)
    table.loc[table["other"].eq("vit") & table["model"].eq("cnn"), "p_value"] = 0.4
    more, tests = summarise(table, MODELS)
    assert more.set_index("model")["rank"].to_dict() == {"mlp": 1, "cnn": 2, "vit": 2}
    assert tests["p_holm"].tolist() == pytest.approx([0.003, 0.003, 0.4])
    text = as_text(more, names={"mlp": "MLP"}).loc["Accuracy (%) ↑"]
    assert text["MLP"] == "90.0 [80.0, 100.0]; seeds 89.0 to 92.0 (rank 1)"
    assert (text["chance"], text["n"]) == ("10.0", "100 images, 3 seeds")
    less, _ = summarise(rows("cost", values), MODELS)
    assert less.set_index("model")["rank"].to_dict() == {"mlp": 3, "cnn": 2, "vit": 1}
    assert as_text(summarise(rows("accuracy", {}), MODELS)[0]).empty


def test_a_number_without_an_interval_is_told_alone():
    """As CKA of a run of one minibatch is: no "[nan, nan]"."""
    table = rows("accuracy", {"mlp": 0.9, "cnn": 0.75}).assign(low=np.nan, high=np.nan)
    summary, tests = summarise(table, MODELS)
    assert as_text(summary)["mlp"].tolist() == ["90.0 (rank 1)"]
    assert paired_as_text(tests)["difference [95 %]"].tolist() == ["15.0"]


def test_ranks_need_not_be_transitive():
    """The first and the last are parted, the one between from neither: it shares the first rank, the last does not."""
    table = rows("accuracy", {"mlp": 0.9, "cnn": 0.8, "vit": 0.7})
    table.loc[table["model"].eq("cnn") | table["other"].eq("cnn"), "p_value"] = 0.5
    assert summarise(table, MODELS)[0]["rank"].tolist() == [1, 1, 2]


def test_the_family_is_of_all_axes():
    both = pd.concat(
        [rows("accuracy", {"mlp": 0.9, "cnn": 0.1}, 0.03), rows("calibration", {"mlp": 0.9, "cnn": 0.1}, 0.03)]
    )
    summary, tests = summarise(both, MODELS)
    assert tests["p_holm"].tolist() == pytest.approx([0.06, 0.06]) and summary["rank"].eq(1).all()
    alone, _ = summarise(both.query("axis == 'accuracy'"), MODELS)
    assert alone["rank"].tolist() == [1, 2]


def test_no_rank_and_no_test_where_neither_way_is_better():
    summary, tests = summarise(rows("similarity", {"mlp": 0.9, "cnn": 0.1}), MODELS)
    assert summary["rank"].isna().all() and AXES["similarity"].better == 0 and tests.empty
    assert as_text(summary).loc["CKA with the other architectures", "mlp"] == "0.9 [0.8, 1]"
    assert sentences(summary, ["MLP", "CNN"]) == ["CKA with the other architectures: from end to end 0.8."]


def test_missing_tables_are_named_and_the_rest_is_there(tmp_path):
    table, facts = load_table(TABLES, "06_efficiency", "timings"), load_facts(TABLES, "06_efficiency", "timings")
    save_table(table, tmp_path, "06_efficiency", "timings", parameters={}, provenance=facts["provenance"])
    found, missing = profile(tmp_path, MODELS)
    assert set(found["axis"]) == {"cost"} and len(missing) == 5
    assert len({note.split("Run ")[1] for note in missing}) == 4  # notebooks
    notes = []
    with pytest.raises(ValueError, match="half-written or altered"), noting_missing(notes):
        (tmp_path / "06_efficiency" / "timings.parquet").write_bytes(b"short")
        load_table(tmp_path, "06_efficiency", "timings")


@pytest.mark.parametrize("models", [["net.py-build"], ["mlp", "cnn@w9"]])
def test_an_axis_that_lacks_a_network_is_noted_and_left_out(models):
    found, missing = profile(TABLES, models)
    assert set(found["axis"]) <= {"shape bias"} and len(missing) >= 4 and all(models[-1] in note for note in missing)


def test_each_network_s_number_of_pairs_stands_below(whole):
    part = summarise(whole, MODELS)[0].query("axis == 'shape bias'")
    _, ax = plt.subplots()
    plotting.profile.profile_axis(part, ax)
    said = f"n = {' / '.join(f'{n:,}' for n in part['n'])} pairs, {part['seeds'].iloc[0]} seeds"
    assert part["n"].nunique() == 3 and ax.get_xlabel() == said
    plt.close()


def test_the_published_numbers_are_all_there():
    adversarial, by_class = load_published("adversarial"), load_published("texture_shape")
    assert len(adversarial) == 198 and len(by_class) == 150
    clean = adversarial.query("eps == 0 and condition == 'fgsm'").set_index(["dataset", "model"])["accuracy"]
    assert clean.round(4).to_dict() == {
        ("cifar10", "mlp"): 0.941, ("cifar10", "cnn"): 0.9446, ("cifar10", "vit"): 0.9379,
        ("cifar100", "mlp"): 0.7935, ("cifar100", "cnn"): 0.789, ("cifar100", "vit"): 0.7469,
    }  # fmt: skip
    assert by_class["accuracy"].between(0, 1).all() and by_class["class_as_printed"].nunique() == 10
    with pytest.raises(ValueError, match="no table 'costs'; choose from adversarial, texture_shape"):
        load_published("costs")


def test_figures_show_every_model_its_rank_and_chance(whole):
    summary, _ = summarise(whole, MODELS)
    for name in summary["axis"].unique():
        _, ax = plt.subplots()
        part = summary[summary["axis"] == name]
        plotting.profile.profile_axis(part, ax)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["MLP", "CNN", "ViT"]
        ranks = [f"{rank:g}" for rank in part["rank"]] if AXES[name].better else [""] * len(part)
        assert [text.get_text() for text in ax.texts] == ranks + [AXES[name].null] * (name != "cost")
        dotted = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
        np.testing.assert_allclose(dotted, AXES[name].scale * part["chance"])
        points = [line.get_xdata()[0] for line in ax.lines if line.get_marker() in "so^"]
        np.testing.assert_allclose(points, AXES[name].scale * part["value"])
        plt.close()


def test_published_markers_are_hollow_and_where_the_numbers_are():
    (ax,) = plotting.texture_shape.report_2023(load_published("texture_shape")).axes
    assert [line.get_label() for line in ax.lines] == ["MLP", "CNN", "ViT"]
    assert all(line.get_markerfacecolor() == "none" and len(line.get_ydata()) == 5 for line in ax.lines)
    plt.close("all")
    (*axes,) = plotting.attacks.report_2023(load_published("adversarial")).axes
    line = next(line for line in axes[1].lines if line.get_label() == "MLP, 2023 report")  # PGD on CIFAR-10
    assert line.get_markerfacecolor() == "none" and line.get_ydata().max() == pytest.approx(94.1)
    assert line.get_xdata().max() == pytest.approx(255 * 0.022917)
    plt.close("all")


def test_the_profile_s_sentences_name_the_first(whole):
    summary, _ = summarise(whole, MODELS)
    said, n = sentences(summary, ["MLP", "CNN", "ViT"]), summary["axis"].nunique()
    assert len(said) == n == len(AXES) and said[0].startswith("Accuracy: best CNN; from end to end 25.1 %")
    figure = plotting.profile.profile(summary, dataset=DATASET)
    assert [ax.axison for ax in figure.axes] == [True] * n + [False] * (n % 2)
    plt.close("all")
