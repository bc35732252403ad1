"""The profile over all axes: each number from its table, the range over seeds, ranks, and what is missing."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from matplotlib import pyplot as plt

from src import plotting
from src.results import load_facts, load_published, load_table, noting_missing, save_table
from src.tables.profile import AXES, COLUMNS, MODELS, as_text, profile, sentences, summarise

DATASET = "cifar10"
TABLES = f"results/{DATASET}"


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    table, missing = profile(TABLES, MODELS)
    assert not missing and list(table.columns) == COLUMNS
    return table.set_index(["axis", "model"])


@pytest.mark.parametrize("model", MODELS)
def test_each_axis_is_its_table(whole, model):
    logits = load_table(TABLES, "05_calibration", model)
    right = logits["label"] == logits["prediction"]
    assert whole.loc[("accuracy", model), "value"] == pytest.approx(right.mean(), abs=1e-12)
    judged = logits[logits["half"] == "judged"]
    probs = torch.tensor(judged.filter(like="logit_").to_numpy(), dtype=torch.float64).softmax(1).numpy()
    pairs = np.stack([probs.max(1), probs.argmax(1) == judged["label"]])[:, np.argsort(probs.max(1))]
    square = 0.0
    for sure, right in np.array_split(pairs, 15, axis=1):
        square += len(sure) * ((sure.mean() - right.mean()) ** 2 - right.var(ddof=1) / len(sure))
    assert whole.loc[("calibration", model), "value"] == pytest.approx(np.sqrt(square / len(judged)), abs=1e-3)

    worst = load_table(TABLES, "02_attacks", "worst_case").query("model == @model and eps_255 == 2")
    kept = (worst["label"] == worst["prediction"]).mean()
    assert whole.loc[("robustness", model), "value"] == pytest.approx(kept, abs=1e-12)

    cues = load_table(TABLES, "03_texture_shape", "cue_conflict").query("condition == 'phase' and model == @model")
    shape, texture = ((cues["prediction"] == cues[f"{cue}_label"]).sum() for cue in ("shape", "texture"))
    assert whole.loc[("shape bias", model), "value"] == pytest.approx(shape / (shape + texture), abs=1e-12)

    times = load_table(TABLES, "06_efficiency", "timings").query(
        "sweep == 'latency' and model == @model and threads == 2"
    )
    assert whole.loc[("cost", model), "value"] == pytest.approx(times["ms"].median())


def test_fooled_by_others_is_the_target_of_the_additive_model(whole):
    """statsmodels' logistic regression on the images that all three get right, at the average source, less noise."""
    table = load_table(TABLES, "02_attacks", "transfer").query("source in @MODELS and target in @MODELS")
    wrong = table.loc[table["target_clean"] != table["label"], "sample_id"]
    rows = table[
        ~table["sample_id"].isin(wrong) & (table["attack"] == "mi_fgsm") & (table["source"] != table["target"])
    ]
    rows = rows.assign(fooled=(rows["prediction"] != rows["label"]).astype(int))
    fit = smf.logit("fooled ~ C(source, Sum) + C(target)", rows).fit(disp=False)
    audit = load_table(TABLES, "02_attacks", "audit").query("condition == 'noise' and sample_id in @rows.sample_id")
    base = fit.params["Intercept"]
    for model in MODELS:
        log_odds = base + fit.params.get(f"C(target)[T.{model}]", 0)
        expected = 1 / (1 + np.exp(-log_odds)) - (~audit.loc[audit["model"] == model, "holds"]).mean()
        assert whole.loc[("transferability", model), "value"] == pytest.approx(expected, abs=2e-3)
        assert whole.loc[("transferability", model), "n"] == rows["sample_id"].nunique() == 53


def test_likeness_is_the_mean_over_the_other_architectures(whole):
    hsic = load_table(TABLES, "04a_cka", "hsic").query(
        "model_a in @MODELS and model_b in @MODELS and condition == 'trained'"
    )
    sides = ["model_a", "layer_a", "model_b", "layer_b"]
    mean = hsic.groupby(sides)[["cross", "own_a", "own_b"]].mean()
    cka = mean["cross"] / np.sqrt(mean["own_a"] * mean["own_b"])
    pairs = cka.groupby(["model_a", "model_b"]).mean()
    expected = (pairs[("mlp", "vit")] + pairs[("cnn", "vit")]) / 2
    assert whole.loc[("similarity", "vit"), "value"] == pytest.approx(expected, abs=1e-9)


def test_intervals_hold_their_values(whole):
    assert (whole["low"] <= whole["value"]).all() and (whole["value"] <= whole["high"]).all()
    assert (whole["low"] < whole["high"]).all() and (whole["n"] > 0).all()


def rows(axis: str, values: dict) -> pd.DataFrame:
    found = [(axis, m, s, v, v - 0.1, v + 0.1, 100) for (m, s), v in values.items()]
    return pd.DataFrame(found, columns=COLUMNS)


def test_models_that_cannot_be_told_apart_share_a_rank():
    values = {("mlp", 0): 0.9, ("mlp", 1): 0.5, ("mlp", 2): 0.97, ("cnn", 0): 0.75, ("vit", 0): 0.6}
    more = summarise(rows("accuracy", values), MODELS).set_index("model")
    assert more["rank"].to_dict() == {"mlp": 1, "cnn": 1, "vit": 2}  # vit: behind mlp, not told from cnn
    assert more.loc["mlp", ["value", "seeds", "seed_low", "seed_high"]].tolist() == [0.9, 3, 0.5, 0.97]
    less = summarise(rows("cost", values), MODELS).set_index("model")
    assert less["rank"].to_dict() == {"mlp": 2, "cnn": 1, "vit": 1}
    text = as_text(summarise(rows("accuracy", values), MODELS), names={"mlp": "MLP"})
    assert text.loc["Accuracy (%) ↑", "MLP"] == "90.0 [80.0, 100.0]; seeds 50.0 to 97.0 (rank 1)"
    assert as_text(summarise(rows("accuracy", {}), MODELS)).empty


def test_no_rank_where_neither_way_is_better():
    summary = summarise(rows("similarity", {("mlp", 0): 0.9, ("cnn", 0): 0.1}), MODELS)
    assert summary["rank"].isna().all() and AXES["similarity"].better == 0
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


def test_figures_show_every_model_and_its_rank(whole):
    summary = summarise(whole.reset_index(), MODELS)
    for name in AXES:
        _, ax = plt.subplots()
        part = summary[summary["axis"] == name]
        plotting.profile.profile_axis(part, ax)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["MLP", "CNN", "ViT"]
        ranks = [f"{rank:g}" for rank in part["rank"]] if AXES[name].better else [""] * len(part)
        assert [text.get_text() for text in ax.texts] == ranks
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
    summary = summarise(whole.reset_index(), MODELS)
    said = sentences(summary, ["MLP", "CNN", "ViT"])
    assert len(said) == len(AXES) and said[0].startswith("Accuracy: best CNN; from end to end 25.4 %")
    figure = plotting.profile.profile(summary, dataset=DATASET)
    assert [ax.get_visible() for ax in figure.axes] == [True] * len(AXES) + [False] * (len(AXES) % 2)
    plt.close("all")
