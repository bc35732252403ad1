"""Transfer beyond random signs: planted networks and tables, and the additive model against statsmodels."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from matplotlib import pyplot as plt
from torch import nn
from victims import Linear, some_images, trained_conv

from src import plotting
from src.attacks import measure_transfer, random_noise, transfer_predictions
from src.data.batches import Batch
from src.results import load_table
from src.tables.attacks import (
    NOISE,
    additive_transfer,
    compare_targets,
    stored_transfer,
    summarise_transfer,
    transfer_excess,
)


class Half(nn.Module):
    """Linear, and blind to the left or the right half."""

    def __init__(self, side: str):
        super().__init__()
        self.linear, mask = Linear(3 * 8 * 8, 2, seed=len(side)), torch.zeros(8)
        mask[slice(4) if side == "left" else slice(4, 8)] = 1
        self.register_buffer("mask", mask)

    def forward(self, pixels):
        return self.linear((pixels - 0.5) * self.mask)


@pytest.fixture(scope="module")
def halves() -> tuple[dict[str, nn.Module], Batch]:
    """Two networks that share no pixel, and a copy of the first, on images whose labels all of them give."""
    left, right = Half("left"), Half("right")
    pixels = torch.rand(600, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = left(pixels).argmax(1), right(pixels).argmax(1)
    chosen = (a == b).nonzero()[:, 0]
    return {"left": left, "right": right, "copy": deepcopy(left)}, Batch(pixels[chosen], a[chosen], chosen)


def test_where_nothing_transfers_noise_fools_more(halves):
    models, images = halves
    predictions = transfer_predictions(models, [images], eps=0.2, attacks=["fgsm"])
    pairs = transfer_excess(predictions).set_index(["source", "target"])
    for pair in (("left", "right"), ("right", "left")):  # not a pixel of the target is changed
        assert pairs.loc[pair, "success"] == 0 and pairs.loc[pair, "noise"] > 0.05
        assert pairs.loc[pair, "excess"] == -pairs.loc[pair, "noise"] and pairs.loc[pair, "high"] < 0
    assert pairs.loc[("left", "copy"), "excess"] > 0.5 and pairs.loc[("left", "copy"), "low"] > 0.4
    copied = pairs.loc[("left", "copy")]
    assert copied["success_at_source"] == 1 and copied["n_at_source"] == round(copied["success"] * copied["n"])
    assert (pairs["n"] == len(images.labels)).all()


def test_where_transfer_is_noise_its_excess_is_nothing(halves):
    """The same signs from a network that looks at no pixel of the target, planted in place of its examples."""
    models, images = halves
    noise = random_noise(None, images.pixels, None, eps=0.2, sample_ids=images.sample_ids, seed=9)
    predictions = transfer_predictions(models, [images], eps=0.2, attacks=["fgsm"])
    for target in ("right", "copy"):
        with torch.no_grad():
            found = models[target](noise).argmax(1).numpy()
        pair = (predictions["source"] == "left") & (predictions["target"] == target)
        predictions.loc[pair, "prediction"] = found
    pairs = transfer_excess(predictions).set_index(["source", "target"])
    for target in ("right", "copy"):
        row = pairs.loc[("left", target)]
        assert row["low"] <= 0 <= row["high"] and abs(row["excess"]) < 0.06 < row["success"]


def test_random_signs_are_those_of_the_control_and_have_no_source():
    images = some_images(40)
    table = transfer_predictions({"a": trained_conv(), "b": deepcopy(trained_conv())}, [images], eps=0.2, seed=4)
    noise = table[table["attack"] == NOISE]
    assert set(noise["source"]) == {""} and set(noise["source_clean"]) == {-1} and len(noise) == 2 * 40
    x = random_noise(None, images.pixels, None, eps=0.2, seed=4, sample_ids=images.sample_ids)
    with torch.no_grad():
        expected = trained_conv()(x).argmax(1).numpy()
    assert (noise.loc[noise["target"] == "a", "prediction"] == expected).mean() >= 0.97
    assert NOISE not in set(summarise_transfer(table)["attack"])  # successes are of networks


def planted(rates: np.ndarray, n: int, seed: int = 0) -> pd.DataFrame:
    """A table of k networks that are right on n of 1.25 n images, fooled at these rates [source, target]."""
    rng, k = np.random.default_rng(seed), len(rates)
    shared = dict(sample_id=np.arange(n + n // 4), label=1, eps=0.1)
    parts = []
    for t in range(k):
        clean = np.where(shared["sample_id"] < n, 1, 0 if t == 0 else 1)
        for s, attack in [*((s, "pgd") for s in range(k)), (-1, NOISE)]:
            rate = 0.1 if s < 0 else rates[s, t]
            facts = dict(source=f"m{s}" if s >= 0 else "", target=f"m{t}", attack=attack, target_clean=clean)
            parts.append(pd.DataFrame(shared | facts | dict(prediction=(rng.random(n + n // 4) > rate).astype(int))))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def additive() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    source, target = np.array([0.8, 0.0, -0.8, 0.0]), np.array([-1.0, 0.2, 0.3, 0.5])
    rates = 1 / (1 + np.exp(1 - source[:, None] - target[None]))
    return planted(rates, 2000), source, target


def test_the_additive_model_is_the_logistic_regression(additive):
    table, source, target = additive
    found = additive_transfer(table, n_resamples=200).set_index(["role", "model"])
    rows = table[(table["attack"] == "pgd") & (table["sample_id"] < 2000) & (table["source"] != table["target"])]
    rows = rows.assign(fooled=(rows["prediction"] != rows["label"]).astype(int))
    fit = smf.logit("fooled ~ C(source, Sum) + C(target, Sum)", rows).fit(disp=False)
    for role, planted_effects in (("source", source), ("target", target)):
        theirs = [fit.params[f"C({role}, Sum)[S.m{i}]"] for i in range(3)]
        ours = found.loc[role, "log_odds"]
        np.testing.assert_allclose(ours, [*theirs, -sum(theirs)], atol=1e-3)
        inside = (found.loc[role, "log_odds_low"] - 0.05 <= planted_effects) & (
            planted_effects <= found.loc[role, "log_odds_high"] + 0.05
        )
        assert inside.all()
        success = 1 / (1 + np.exp(-fit.params["Intercept"] - ours))
        np.testing.assert_allclose(found.loc[role, "success"], success, atol=1e-3)
    assert (found["n"] == 2000).all()  # without the images that m0 gets wrong
    np.testing.assert_allclose(found["excess"], found["success"] - found["noise"])
    noise = table[(table["attack"] == NOISE) & (table["sample_id"] < 2000)].groupby("target")["prediction"].mean()
    np.testing.assert_allclose(found.loc["target", "noise"], 1 - noise)


def test_cells_in_which_nobody_or_everybody_is_fooled_stay_finite():
    rates = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1.0]])
    found = additive_transfer(planted(rates, 40), n_resamples=50)
    assert np.isfinite(found.select_dtypes("number")).all(axis=None)
    none = additive_transfer(planted(np.zeros((3, 3)), 40), n_resamples=50)
    assert (none["success"] < 0.01).all() and (none["log_odds"].abs() < 0.01).all()


def test_two_networks_cannot_tell_source_from_target(additive):
    assert additive_transfer(additive[0], ["m0", "m1"]).empty
    assert len(transfer_excess(additive[0], ["m0", "m1"], n_resamples=20)) == 2


def test_a_table_without_random_signs_is_named_and_a_stored_one_takes_those_of_the_audit():
    table = planted(np.full((3, 3), 0.3), 20)
    with pytest.raises(FileNotFoundError, match="no random_signs at radius 0.1.*02_adversarial_robustness"):
        transfer_excess(table[table["attack"] != NOISE])
    stored = stored_transfer("results/cifar100")
    noise = stored[stored["attack"] == NOISE]
    assert len(noise) == 300 and not noise.duplicated(["target", "sample_id"]).any()
    audit = load_table("results/cifar100", "02_attacks", "audit").query("condition == 'noise'")
    both = noise.merge(audit, left_on=["target", "sample_id"], right_on=["model", "sample_id"], suffixes=("", "_audit"))
    assert ((both["prediction"] == both["label"]) == both["holds"]).all() and len(both) == 300


def test_the_figure_has_a_row_for_each_pair_and_target(additive):
    table = additive[0]
    (ax,) = plotting.attacks.transfer_excess(table).axes
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert len(names) == 12 + 4 and names[0] == "m0 → m1" and names[-1] == "average source → m3"
    pairs = transfer_excess(table)
    drawn = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(drawn, 100 * pairs["excess"])
    everyone_wrong = table.assign(source_clean=0, target_clean=0, label=1)
    for draw in (plotting.attacks.transfer, plotting.attacks.transfer_excess):
        assert draw(everyone_wrong).get_supxlabel() == "no image is right for all networks"
    plt.close("all")


def test_every_round_of_seeds_counts_as_a_seed_and_only_the_first_in_tables_of_pairs():
    rates = np.full((3, 3), 0.4)
    rounds = [planted(rates + [0, 0.1 * k, 0], 1500, seed=k).assign(round=k, source_clean=1) for k in range(3)]
    table = pd.concat(rounds, ignore_index=True)
    for of_pairs in (summarise_transfer, transfer_excess, additive_transfer):
        options = {} if of_pairs is summarise_transfer else dict(n_resamples=20)
        pd.testing.assert_frame_equal(of_pairs(table, **options), of_pairs(rounds[0], **options))
    found, alone = (compare_targets(some).set_index(["model", "other"]) for some in (table, rounds[0]))
    assert (found["seeds"] == 3).all() and (alone["seeds"] == 1).all() and (found["n"] == 1500).all()
    each = [compare_targets(some).set_index(["model", "other"])["value"] for some in rounds]
    np.testing.assert_allclose(found["value"], np.mean(each, axis=0))
    np.testing.assert_allclose(found[["seed_low", "seed_high"]], np.c_[np.min(each, axis=0), np.max(each, axis=0)])
    width, width_alone = (some["high"] - some["low"] for some in (found, alone))
    assert width["m1", ""] > 3 * width_alone["m1", ""]  # seeds part it by 10 points, and there are three of them
    assert width["m2", ""] < 2 * width_alone["m2", ""]
    low, high = found.loc[("m1", ""), ["low", "high"]]
    assert low < 0.4 < high  # 0.5 of average seeds, less noise's 0.1


def test_networks_with_fewer_seeds_are_left_out_of_later_rounds():
    zoo = {("a", 0): trained_conv(), ("a", 5): deepcopy(trained_conv()), ("b", 0): trained_conv()}
    images = some_images(20)
    alone = measure_transfer(zoo, [images], eps=0.1)
    assert set(alone["round"]) == {0}  # one network is no round
    table = measure_transfer(zoo | {("c", 2): trained_conv(), ("c", 3): trained_conv()}, [images], eps=0.1)
    seeds = table.groupby("round")[["model", "model_seed"]].agg(lambda of: list(dict.fromkeys(of)))
    assert seeds["model"].tolist() == [["a", "b", "c"], ["a", "c"]] and seeds.loc[0, "model_seed"] == [0, 2]
    assert seeds.loc[1, "model_seed"] == [5, 3] and (table["model"] == table["target"]).all()
    assert not table.duplicated(["round", "source", "attack", "target", "sample_id"]).any()
    assert compare_targets(table, n_resamples=10)["seeds"].unique().tolist() == [1]  # b is in the first round alone
