"""Claims: planted zoos in which architecture, recipe, accuracy or nothing makes the difference, and what is said."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src import paths
from src.names import slug
from src.results import load_table, save_table
from src.tables.claims import CONTROLS, SEEDS, STATEMENTS, judge_claims, needed, state_of, verdict_of
from src.tables.claims.estimates import Estimate, mean_of
from src.tables.claims.statements import MATCHED_AT_VIT, NAMES
from workflow import claims

N = 400
C1, C2, C3 = STATEMENTS[:3]


def zoo(folder, held: dict[str, float], *, seeds: int = 3, right: dict[str, int] | None = None):
    """A table of the ensemble at 2/255: a network holds images whose mean of two uniform numbers is below its own.

    right: how many of N images a network classifies right as they are, if not 300.
    """
    rng, parts = np.random.default_rng(0), []
    hard = rng.random(N)  # images that are hard for one are so for all
    for name, share in held.items():
        for seed in range(seeds):
            holds = 0.5 * hard + 0.5 * rng.random(N) < share
            facts = dict(model=name, model_seed=seed, sample_id=range(N), eps=2 / 255, steps=5, n_targets=2, queries=0)
            parts.append(pd.DataFrame(facts | dict(broken_by=np.where(holds, "", "apgd"))))
        n_right = (right or {}).get(name, 300)
        facts = dict(
            model=name, model_seed=0, sample_id=range(N), label=0, dataset="planted", condition="clean", seed=0
        )
        facts |= dict(prediction=(np.arange(N) >= n_right).astype(int), dataset="planted", seed=0)
        save_table(pd.DataFrame(facts), folder, "05_calibration", slug(name), parameters={}, provenance={})
    table = pd.concat(parts, ignore_index=True).assign(dataset="planted", condition="worst case", seed=0)
    save_table(table, folder, "02_attacks", "worst_case", parameters={}, provenance={})
    return folder


def labels(*kinds: str) -> list[str]:
    matched = [label for names in MATCHED_AT_VIT.values() for label in names.values()]
    of_controls = [label for where, names in CONTROLS.values() if where == "controls" for label in names.values()]
    return sorted({*matched, *of_controls} if not kinds else {x for x in of_controls if x.endswith(kinds)})


def judged(tmp_path, base: dict, controls: dict, other: dict, **more) -> pd.Series:
    """What is said of C1, the MLP against the CNN."""
    folders = {"base": base, "controls": controls, "other": other}
    there = {name: zoo(tmp_path / name, held, **more) for name, held in folders.items() if held}
    return judge_claims(there, (C1, C2, C3)).set_index("claim").loc["C1"]


BASE = {"mlp": 0.6, "cnn": 0.3, "vit": 0.45}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "architecture"),
        ({"cnn@common": 0.6}, "recipe"),
        ({"cnn@common": 0.9}, "recipe"),
        ({"cnn@plain": 0.6}, "recipe"),
        ({"cnn@w2": 0.6}, "accuracy"),
        ({"cnn@short67": 0.6}, "accuracy"),
        ({"cnn@short67": 0.6, "cnn@common": 0.6}, "accuracy and recipe"),
    ],
)
def test_what_makes_the_difference_is_named(tmp_path, changed, verdict):
    controls = {label: BASE[label.partition("@")[0]] for label in labels()}
    row = judged(tmp_path, BASE, controls | changed, BASE)
    assert (row["state"], row["verdict"], row["n_seeds"]) == ("holds", verdict, 3)
    assert row["value"] == pytest.approx(0.5, abs=0.08)  # of sums of two uniform numbers: .68 - .18
    assert row["low"] < row["value"] < row["high"]


@pytest.mark.parametrize(("n_right", "state"), [(304, "open"), (296, "open"), (305, "not run"), (295, "not run")])
def test_accuracies_more_than_a_point_apart_are_not_matched(tmp_path, n_right, state):
    controls = {label: BASE[label.partition("@")[0]] for label in labels()} | {"cnn@w2": BASE["mlp"]}
    row = judged(tmp_path, BASE, controls, BASE, right={"cnn@w2": n_right})
    assert row["accuracy matched (narrow)"] == state and row["accuracy matched (short)"] == "holds"
    assert row["verdict"] == ("accuracy" if state == "open" else "these networks")


def test_what_a_control_leaves_open_for_want_of_images_has_not_vanished():
    row = dict(state="holds", value=0.2, low=0.1, high=0.3) | dict.fromkeys([SEEDS, *CONTROLS], "holds")
    row |= {"common recipe": "open", "common recipe value": 0.05, "common recipe low": -0.02}
    assert verdict_of(row | {"common recipe high": 0.12}) == "recipe"
    assert verdict_of(row | {"common recipe high": 0.35}) == "these networks"


def test_a_control_that_was_not_run_leaves_these_networks(tmp_path):
    row = judged(tmp_path, BASE, {}, BASE)
    assert row["verdict"] == "these networks" and row["common recipe"] == "not run" and row["other data"] == "holds"
    assert np.isnan(row["common recipe value"])


def test_what_other_data_turns_round_is_no_claim_on_architectures(tmp_path):
    controls = {label: BASE[label.partition("@")[0]] for label in labels()}
    assert judged(tmp_path, BASE, controls, BASE | {"mlp": 0.2})["verdict"] == "these networks"


def test_one_seed_is_said(tmp_path):
    folder = zoo(tmp_path / "one", BASE, seeds=1)
    row = judge_claims({"base": folder}, (C1,)).iloc[0]
    assert row["n_seeds"] == 1 and row[SEEDS] == "not run" and row["verdict"] == "these networks"


def test_the_expectation_that_turns_round_is_refuted_at_any_n(tmp_path):
    row = judged(tmp_path, BASE | {"mlp": 0.1}, {}, {})
    assert (row["state"], row["verdict"]) == ("reversed", "refuted")


def test_nothing_that_is_open_is_called_more(tmp_path):
    row = judged(tmp_path, BASE | {"mlp": 0.3}, {}, {})
    assert row["state"] == row["verdict"] == "open" and row["needed"] > N  # 400 images were not the 1,000 promised


def test_open_refutes_at_the_images_promised_unless_it_is_of_something_small():
    row = dict(state="open", low=-0.1, n=1000, n_promised=1000, small=False)
    row |= dict.fromkeys([SEEDS, *CONTROLS], "not run")
    assert verdict_of(row) == "refuted" and verdict_of(row | {"n": 999}) == "open"
    assert verdict_of(row | {"small": True}) == "open"
    assert verdict_of(row | {"low": 0.01}) == "open"  # above 0, and not sure after Holm's correction


def test_the_families_p_values_are_holms(tmp_path):
    """Two of three p-values just under 5 % are not, once there are three."""
    close = {"mlp": 0.46, "cnn": 0.4, "vit": 0.4}
    table = judge_claims({"base": zoo(tmp_path / "close", close, seeds=1)}, (C1, C2, C3))
    p = table["p_value"].to_numpy()
    order = np.argsort(p)
    expected = np.minimum(1, np.maximum.accumulate(p[order] * [3, 2, 1]))
    np.testing.assert_allclose(table["p_holm"].to_numpy()[order], expected)
    assert (table.loc[table["p_holm"] >= 0.05, "state"] == "open").all()


def test_the_number_needed_is_that_of_a_normal_test():
    """(1.96 + .84) standard errors: of ±.1 at 100 images, a value of .05 needs 100 · (2.8 · .051 / .05)²."""
    row = dict(state="open", value=0.05, low=-0.05, high=0.15, n=100, n_seeds=1)
    assert needed(row) == pytest.approx((817, np.nan), rel=0.01, nan_ok=True)
    assert np.isnan(needed(row | {"state": "holds"})).all()


def test_seeds_are_needed_where_they_are_in_the_interval():
    row = dict(state="open", value=0.05, low=-0.05, high=0.15, n=100, n_seeds=2)
    assert needed(row) == pytest.approx((817, 17), rel=0.01)
    assert np.isnan(needed(row | {"unit": "CKA"})).all()  # two seeds have no spread there
    assert needed(row | {"unit": "CKA", "n_seeds": 3}) == pytest.approx((np.nan, 25), rel=0.01, nan_ok=True)


def test_what_only_holms_correction_leaves_open_needs_more():
    """An interval just above 0 is settled against one test with what there is, against twenty with more."""
    row = dict(state="open", value=0.1, low=0.01, high=0.19, n=100, n_seeds=1)
    assert needed(row)[0] < needed(row, tests=20)[0]
    assert needed(row | {"low": 0.08, "high": 0.12})[0] == 100


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [
        (0.1, 0.2, "holds"),
        (-0.2, -0.1, "reversed"),
        (-0.1, 0.1, "open"),
        (0.1, 0.1, "open"),
        (3e-18, 0.1, "open"),  # the least of resampled shares that are 0, but for the order of a sum
        (-0.1, -3e-18, "open"),
        (0.1, 0.1 + 3e-17, "open"),
        (np.nan,) * 2 + ("not run",),
    ],
)
def test_a_state_is_where_the_interval_lies(low, high, state):
    assert state_of(Estimate((low + high) / 2, low, high, 0.5, 10)) == state


def test_a_mean_beyond_something_is_subtracted_and_ordered():
    rows = dict(model=["b"] * 100 + ["a"] * 100, model_seed=0, sample_id=[*range(100)] * 2)
    values = pd.DataFrame(rows | dict(value=[0.0, 1.0] * 50 + [1.0] * 100))
    found = mean_of(values, "a", "b", beyond=0.2)
    assert found.value == pytest.approx(0.3) and found.n == 100 and found.low < 0.3 < found.high
    assert mean_of(values, "b", "a").value == pytest.approx(-0.5)
    assert mean_of(values, "b").value == pytest.approx(0.5)


def test_few_seeds_leave_a_p_value_that_student_would():
    """Two seeds far apart: one degree of freedom, where the normal would be sure."""
    rows = dict(model="a", model_seed=[0] * 200 + [1] * 200, sample_id=[*range(200)] * 2)
    found = mean_of(pd.DataFrame(rows | dict(value=[0.9] * 200 + [1.1] * 200)), "a")
    assert found.p_value == pytest.approx(2 * stats.t.sf(10, 1), rel=0.01) and found.low < 0 < found.high


@pytest.mark.parametrize("radius, fits", [(8 / 255, True), (2 / 255, False)])
def test_transfer_is_judged_at_the_radius_of_the_claim(tmp_path, radius, fits):
    table = load_table(claims.folders()["base"], "02_attacks", "transfer").assign(eps=radius)
    save_table(table, tmp_path, "02_attacks", "transfer", parameters={}, provenance={})
    row = judge_claims({"base": tmp_path}, [of for of in STATEMENTS if of.claim == "C6"]).iloc[0]
    assert row["text"].startswith("At 8/255") and (row["state"] == "holds") == fits and (row["n"] > 0) == fits


def test_every_claim_of_the_hypotheses_is_judged_and_no_other():
    text = (paths.ROOT / "docs" / "hypotheses.md").read_text()
    stated = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| C")}
    assert {statement.claim for statement in STATEMENTS} == stated
    assert all(set(statement.of) <= set(NAMES) for statement in STATEMENTS)
    assert len({statement.text for statement in STATEMENTS}) == len(STATEMENTS)


@pytest.fixture(scope="module")
def published():
    return pd.read_parquet(claims.TABLE)


def test_the_table_is_that_of_the_published_tables(published):
    today = judge_claims(claims.folders())
    states = ["claim", "text", "state", SEEDS, *CONTROLS, "verdict"]
    pd.testing.assert_frame_equal(today[states], published[states])
    pd.testing.assert_frame_equal(
        today[["value", "low", "high", "n"]], published[["value", "low", "high", "n"]], rtol=1e-3
    )


def test_the_page_is_the_table(published):
    assert claims.PAGE.read_text(encoding="utf-8") == claims.as_page(published)


def test_the_page_says_no_more_than_the_verdicts(published):
    """Each statement stands once, under its own verdict."""
    page = claims.PAGE.read_text(encoding="utf-8").partition("## Every statement")[0]
    for row in published.to_dict("records"):
        before, _, after = page.partition(row["text"])
        assert after and row["text"] not in after
        assert before.rpartition("\n## ")[2].split("\n")[0] == row["verdict"].capitalize()


def test_the_readme_says_what_was_found_and_no_more(published):
    assert claims.with_findings(claims.README.read_text(encoding="utf-8"), published) == claims.README.read_text(
        encoding="utf-8"
    )


def test_the_readme_tells_one_statement_of_each_measure_and_verdict(published):
    """A statement that a control has decided is told before one that only holds of these networks."""
    planted = published.assign(verdict=["not run", *["these networks"] * (len(published) - 3), "open", "accuracy"])
    told = claims.findings(planted)
    assert told[0]["text"] == planted["text"].iloc[-1] and len(told) <= claims.N_FINDINGS
    assert {row["verdict"] for row in told} == {"accuracy", "these networks"}
    measures = {statement.text: statement.kind for statement in STATEMENTS}
    assert len({(measures[row["text"]], row["verdict"]) for row in told}) == len(told) > 3


def test_the_readme_tells_all_that_is_of_architectures(published):
    kinds = published["text"].map({statement.text: statement.kind for statement in STATEMENTS})
    some = kinds.drop_duplicates().index[:5]
    verdicts = pd.Series(["refuted", "recipe", "open"] * len(published))[: len(published)]
    told = claims.findings(published.assign(verdict=verdicts.where(~published.index.isin(some), "architecture")))
    assert {row["text"] for row in told if row["verdict"] == "architecture"} == set(published.loc[some, "text"])


def test_vit_and_cnn_are_matched_at_the_mlp_s_accuracy_where_none_are_at_the_vit_s(tmp_path):
    """C3, whose pair at the ViT's accuracy says the opposite of the one at the MLP's."""
    at_mlp, at_vit = {"vit@short67": 0.6, "cnn@short67": 0.3}, {"vit": 0.3, "cnn@short81": 0.6}
    base = zoo(tmp_path / "base", BASE)
    for held, state in ((at_mlp, "holds"), (at_vit, "reversed"), (at_mlp | at_vit, "reversed")):
        controls = zoo(tmp_path / state / str(len(held)), held)
        (row,) = judge_claims({"base": base, "controls": controls}, (C3,)).to_dict("records")
        assert row["accuracy matched (short)"] == state
