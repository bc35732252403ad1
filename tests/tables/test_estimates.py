"""The numbers of claims beside counts of the published tables' rows, by pandas and numpy alone."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from src.paths import ROOT
from src.results import save_table
from src.tables import attacks, cka
from src.tables.calibration.measures import debiased_ece
from src.tables.claims import estimates

BASE = ROOT / "results" / "cifar10"
NAMES = {name: name for name in ("mlp", "cnn", "vit")}
NETWORK = ["model", "model_seed"]


def rows(notebook: str, *files: str) -> pd.DataFrame:
    parts = [pd.read_parquet(BASE / notebook / f"{file}.parquet") for file in files]
    return pd.concat(parts, ignore_index=True)


def by_model(values: pd.Series) -> pd.Series:
    """Mean over seeds of what is indexed by model and seed."""
    return values.groupby("model").mean()


def share(table: pd.DataFrame, hit: pd.Series) -> pd.Series:
    return by_model(hit.groupby([table["model"], table["model_seed"]]).mean())


@pytest.mark.parametrize("radius", [0.25, 2])
def test_withstanding_the_ensemble_is_a_share_of_images(radius):
    table = rows("02_attacks", "worst_case").query("abs(255 * eps - @radius) < 1e-6")
    held = share(table, table["broken_by"] == "")
    found = estimates.robust(BASE, NAMES, "mlp", "cnn", eps_255=radius)
    assert found.value == pytest.approx(held["mlp"] - held["cnn"]) and found.low < found.value < found.high
    assert (found.n, found.seeds) == (table["sample_id"].nunique(), 3)


def test_a_cold_attack_flatters_by_what_the_ensemble_breaks_beyond_it():
    weak = rows("02_attacks", "mlp", "cnn").query("condition == 'pgd cold' and abs(255 * eps - 2) < 1e-6")
    worst = rows("02_attacks", "worst_case").query("abs(255 * eps - 2) < 1e-6")
    both = weak.merge(worst[[*NETWORK, "sample_id", "broken_by"]], on=[*NETWORK, "sample_id"])
    spared = (both["prediction"] == both["label"]).astype(int) - (both["broken_by"] == "").astype(int)
    flattered, found = share(both, spared), estimates.flattered(BASE, NAMES, "cnn", "mlp", eps_255=2)
    assert found.value == pytest.approx(flattered["cnn"] - flattered["mlp"])
    assert found.n == both["sample_id"].nunique() > 100


@pytest.fixture(scope="module")
def manipulated():
    table = rows("03_texture_shape", "mlp", "cnn", "vit")
    return table[table["condition"].isin(["clean", "patch_shuffle", "low_pass", "shift"])]


@pytest.mark.parametrize(("condition", "level"), [("patch_shuffle", 8), ("low_pass", 2)])
def test_retained_is_accuracy_over_clean_accuracy_of_each_network(manipulated, condition, level):
    def accuracies(some):
        return (some["prediction"] == some["label"]).groupby([some["model"], some["model_seed"]]).mean()

    one = manipulated.query("condition == @condition and level == @level")
    clean = manipulated[manipulated["condition"] == "clean"]
    clean = clean[clean["sample_id"].isin(one["sample_id"])]
    kept = by_model(accuracies(one) / accuracies(clean))
    found = estimates.retained(BASE, NAMES, "mlp", "vit", condition=condition, level=level)
    assert found.value == pytest.approx(kept["mlp"] - kept["vit"]) and found.n == one["sample_id"].nunique()


def test_the_interval_of_a_ratio_is_that_of_resampled_images(manipulated, tmp_path):
    """Of one seed, whose images are drawn and divided anew."""
    first = manipulated.query("model_seed == 0")
    for name in ("mlp", "vit"):
        facts = dict(parameters={}, provenance={})
        save_table(first[first["model"] == name], tmp_path, "03_texture_shape", name, **facts)
    found = estimates.retained(tmp_path, NAMES, "mlp", "vit", condition="patch_shuffle", level=8)
    hit = first.assign(hit=first["prediction"] == first["label"]).query("level in (0, 8)")
    wide = hit[hit["condition"].isin(["clean", "patch_shuffle"])].pivot(
        index="sample_id", columns=["model", "condition"], values="hit"
    )
    wide = wide.dropna().astype(float)
    drawn = np.random.default_rng(1).integers(0, len(wide), (4000, len(wide)))
    means = {key: wide[key].to_numpy()[drawn].mean(1) for key in product(("mlp", "vit"), ("clean", "patch_shuffle"))}
    ratios = {name: means[name, "patch_shuffle"] / means[name, "clean"] for name in ("mlp", "vit")}
    expected = np.quantile(ratios["mlp"] - ratios["vit"], [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(expected, abs=0.05 * (expected[1] - expected[0]))


def test_kept_is_the_share_of_predictions_that_a_shift_does_not_change(manipulated):
    keys = [*NETWORK, "sample_id"]
    moved = manipulated.query("condition == 'shift' and level == 4")
    before = manipulated.loc[manipulated["condition"] == "clean", [*keys, "prediction"]]
    both = moved.merge(before, on=keys, suffixes=("", "_before"))
    same = share(both, both["prediction"] == both["prediction_before"])
    found = estimates.kept(BASE, NAMES, "vit", "mlp", pixels=4)
    assert found.value == pytest.approx(same["vit"] - same["mlp"])
    beyond = estimates.kept(BASE, NAMES, "vit", "mlp", pixels=4, beyond=0.2)
    assert beyond.value == pytest.approx(found.value - 0.2)


def test_shape_is_followed_by_answers_for_it_less_those_for_the_texture():
    """Of the pairs whose two images both networks get right, with every seed."""
    table = rows("03_texture_shape", "cue_conflict").query("condition == 'cutout' and model in ('mlp', 'cnn')")
    table = table[table.groupby("pair")["clean_right"].transform("all")]
    decided = share(table, (table["prediction"] == table["shape_label"]).astype(int))
    decided -= share(table, (table["prediction"] == table["texture_label"]).astype(int))
    found = estimates.follows_shape(BASE, NAMES, "mlp", "cnn")
    assert found.value == pytest.approx(decided["mlp"] - decided["cnn"]) and found.n == table["pair"].nunique() > 300


def test_alike_within_is_a_difference_of_mean_kappas():
    table = rows("05_calibration", "mlp", "vit")
    right = table.assign(hit=table["prediction"] == table["label"]).pivot(
        index="sample_id", columns=NETWORK, values="hit"
    )

    def kappa(a, b):
        x, y = right[a].astype(float), right[b].astype(float)
        chance = x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean())
        return ((x == y).mean() - chance) / (1 - chance)

    def mean(pairs):
        return np.mean([kappa(*pair) for pair in pairs])

    mlps, vits = ([(name, seed) for seed in range(3)] for name in ("mlp", "vit"))
    within = (mean(combinations(mlps, 2)) + mean(combinations(vits, 2))) / 2
    found = estimates.alike_within(BASE, NAMES, "mlp", "vit")
    assert found.value == pytest.approx(within - mean(product(mlps, vits)), abs=1e-6) and found.seeds == 3


@pytest.fixture(scope="module")
def logits():
    return rows("05_calibration", "mlp", "cnn", "vit")


def of_classes(table: pd.DataFrame) -> np.ndarray:
    return table[[f"logit_{k}" for k in range(10)]].to_numpy(float)


@pytest.mark.parametrize("sign", [1, -1])
def test_sure_is_confidence_less_accuracy_on_the_judged_half(logits, sign):
    judged = logits.query("model == 'vit' and half == 'judged'")
    probs = softmax(of_classes(judged), axis=1)
    gap = share(judged, pd.Series(probs.max(1) - (probs.argmax(1) == judged["label"]), judged.index))["vit"]
    found = estimates.sure(BASE, NAMES, "vit", sign=sign)
    assert found.value == pytest.approx(sign * gap, abs=1e-6) and found.low < found.value < found.high


def test_calibrated_alike_leaves_the_largest_difference_of_debiased_errors(logits):
    def error(network):
        fit, judged = (network[network["half"] == half] for half in ("fit", "judged"))
        own, every = np.arange(len(fit)), of_classes(fit)
        loss = minimize_scalar(
            lambda t: -np.log(softmax(every / t, axis=1)[own, fit["label"]]).mean(), bounds=(0.2, 5), method="bounded"
        )
        probs = softmax(of_classes(judged) / loss.x, axis=1)
        return debiased_ece(probs, judged["label"].to_numpy())

    errors = by_model(pd.Series({key: error(part) for key, part in logits.groupby(NETWORK)}).rename_axis(NETWORK))
    found = estimates.calibrated_alike(BASE, NAMES, within=0.01)
    assert found.value == pytest.approx(0.01 - (errors.max() - errors.min()), abs=2e-4)
    assert found.low < found.value < found.high and found.n == 5_000


def test_dearer_is_a_ratio_of_typical_times():
    """Geometric means over processes of medians: of one image on one thread, and of one in the fastest batch of all."""
    table = rows("06_efficiency", "timings").query("model in ('mlp', 'cnn')")

    def typical(some):
        medians = some.groupby(["model", "process"])["ms"].median()
        return np.exp(np.log(medians).groupby("model").mean())

    one = typical(table.query("sweep == 'latency' and threads == 1"))
    batches = table[table["sweep"] == "batches"].assign(ms=lambda t: t["ms"] / t["batch_size"])
    keys = ["model", "batch_size"]
    batches = batches[batches.groupby(keys)["process"].transform("nunique") == 10]  # the largest was not always tried
    fastest = batches.groupby(keys)["images_per_s"].median().groupby("model").idxmax()
    many = typical(batches[pd.MultiIndex.from_frame(batches[keys]).isin(fastest)])
    latency, saturation = (float(np.log(times["cnn"] / times["mlp"])) for times in (one, many))
    expected = dict(latency=latency, saturation=saturation, growth=saturation - latency)
    for at, value in expected.items():
        found = estimates.dearer(BASE, NAMES, "cnn", "mlp", at=at)
        assert found.value == pytest.approx(value) and found.n == 10
        assert found.low < found.value < found.high


def test_transfer_has_a_direction_and_a_margin():
    options = dict(eps_255=8)
    table = attacks.stored_transfer(BASE)
    table = table[np.isclose(255 * table["eps"], 8) & table["attack"].isin(["mi_fgsm", attacks.NOISE])]
    table = table[table["source"].isin(["", *NAMES]) & table["target"].isin(NAMES)]
    excess = attacks.compare_targets(table, list(NAMES)).query("other == ''").set_index("model")["value"]
    one, other = (estimates.transferred(BASE, NAMES, *pair, **options) for pair in (("mlp", "cnn"), ("cnn", "mlp")))
    assert one.value == pytest.approx(excess["mlp"] - excess["cnn"]) and other.value == pytest.approx(-one.value)
    assert [other.low, other.high] == pytest.approx([-one.high, -one.low]) and one.p_value == other.p_value < 1
    margin = estimates.transferred(BASE, NAMES, "cnn", below=0.05, **options)
    assert margin.value == pytest.approx(0.05 - excess["cnn"]) and margin.low < margin.value < margin.high


def test_agreement_is_the_row_of_the_pair_and_of_what_is_subtracted():
    hsic = pd.read_parquet(BASE / "04a_cka" / "hsic.parquet")
    at_depth = cka.compare_at_depth(cka.rows_at_depth(hsic), list(NAMES), n_resamples=100)
    at_depth = at_depth.query("measure == 'deconfounded' and layers == 'depth'").set_index(["pair", "what"])["value"]
    found = estimates.agrees(BASE, NAMES, ("cnn", "vit"), "less {mlp}–{cnn}")
    assert found.value == pytest.approx(at_depth["cnn–vit", "less mlp–cnn"]) and found.seeds == 3
    with pytest.raises(FileNotFoundError, match="has no CKA of cnn@none"):
        estimates.agrees(BASE, NAMES | {"cnn": "cnn@none"}, ("cnn", "vit"), "less {mlp}–{cnn}")
    with pytest.raises(FileNotFoundError, match="no CKA of seeds unlike"):
        estimates.agrees(BASE, NAMES, ("cnn", "vit"), "seeds unlike")
