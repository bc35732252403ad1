"""The worst case along the radius, its budgets, and the ranks that it gives."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from victims import Linear, in_batches, some_images, trained_conv

from src import plotting
from src.attacks import measure_worst_cases, worst_case
from src.data.batches import Batch
from src.paths import RESULTS
from src.results import load_facts
from src.tables.attacks import (
    BUDGETS,
    budget_of,
    compare_models,
    describe_budget,
    ranks,
    stored_curves,
    stored_worst_case,
)
from src.tables.statistics import first_seed

FEW = dict(steps=6, n_targets=2, queries=20)
FOLDERS = ("results/cifar10", "results/cifar10_controls")


@pytest.fixture(scope="module")
def linear() -> tuple[Linear, Batch, np.ndarray]:
    """A linear network of two classes, images in mid-grey, and the exact radius that breaks each."""
    model = Linear(3 * 8 * 8, 2)
    pixels = 0.4 + 0.2 * torch.rand(80, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(pixels)
    labels, (a, b) = logits.argmax(1), model.layer.weight.detach()
    radius = (logits[:, 0] - logits[:, 1]).abs() / (a - b).abs().sum()
    return model, Batch(pixels, labels, torch.arange(80)), radius.numpy()


def test_along_the_radius_a_linear_network_breaks_where_it_must(linear):
    """No radius within a hundredth of an image's own, so that rounding decides nothing."""
    model, images, exact = linear
    grid = (1.02 * np.quantile(exact, (0.1, 0.3, 0.5, 0.8))).tolist()
    table = worst_case(model, in_batches(images, 30), eps=grid[::-1], **FEW)
    assert table["eps"].tolist() == [eps for eps in sorted(grid) for _ in range(80)]
    for eps, rows in table.groupby("eps"):
        sure = np.abs(exact / eps - 1) > 0.01
        np.testing.assert_array_equal((rows["label_rank"] >= 1)[sure], (exact < eps)[sure])
        assert (rows["distance"] <= eps + 1e-6).all() and rows["sample_id"].tolist() == list(range(80))


def test_an_image_is_attacked_down_to_the_radius_at_which_it_holds():
    images = some_images(60)
    table = worst_case(trained_conv(), [images], eps=[2 / 255, 6 / 255, 16 / 255], **FEW)
    assert ((table["broken_by"] == "") == (table["label_rank"] < 1)).all()
    columns = ("label_rank", "n_evaluations", "broken_by")
    rank, tried, by = (table.pivot(index="sample_id", columns="eps", values=name).to_numpy() for name in columns)
    broken = rank >= 1
    assert (broken[:, 1:] >= broken[:, :-1]).all() and 0 < broken.mean() < 1  # once broken, so in every wider ball
    clean = (by == "clean").any(1)
    assert (by[clean] == "clean").all() and (tried[clean] == 0).all() and 0 < clean.sum() < 60
    assert (tried[~clean, -1] > 0).all() and (tried[broken & ~clean[:, None]] > 0).all()
    spared = ~broken[:, :-1] & ~broken[:, 1:]  # all three held already in the wider ball
    assert (tried[:, :-1][spared] == 0).all() and spared.sum() > 5
    every = (1 + FEW["steps"]) * (1 + FEW["n_targets"]) + 1 + FEW["queries"]
    held = ~broken & (np.c_[broken[:, 1:], np.ones(60, bool)])  # all three failed here, with all that they may spend
    assert (tried[held & ~clean[:, None]] == every).all() and held.sum() > 20


def test_the_curve_breaks_no_less_than_each_radius_alone():
    images, radii = some_images(80), [2 / 255, 8 / 255]
    table = worst_case(trained_conv(), [images], eps=radii, **FEW)
    for eps in radii:
        alone = worst_case(trained_conv(), [images], eps=eps, **FEW)
        along = table[table["eps"] == eps]
        assert (along["label_rank"] >= 1).mean() >= (alone["label_rank"] >= 1).mean() - 0.04


@pytest.mark.parametrize("twice", [[2, 8, 2], [2, 2.0]])
def test_a_radius_is_named_once(twice):
    with pytest.raises(ValueError, match="eps_255 names 2 twice"):
        measure_worst_cases({"conv": trained_conv()}, [some_images(20)], eps_255=twice)
    with pytest.raises(ValueError, match="radii above 0"):
        measure_worst_cases({"conv": trained_conv()}, [some_images(20)], eps_255=[0, 2])


def test_budgets_go_by_name():
    assert budget_of("standard") == dict(steps=100, n_targets=9, queries=5000)  # of AutoAttack, Croce & Hein 2020
    assert budget_of("quick", steps=7, n_targets=None, queries=0) == BUDGETS["quick"] | dict(steps=7, queries=0)
    with pytest.raises(ValueError, match="unknown budget 'fast'; choose from quick, standard"):
        budget_of("fast")
    table = worst_case(trained_conv(), [some_images(20)], eps=0.1, **budget_of("quick"))
    assert describe_budget(table).startswith("budget quick: APGD-CE 20 steps, APGD-T 20 steps × 3 targets, no Square")
    assert not set(table["broken_by"]) - {"", "clean", "apgd", "apgd-t"}


def test_a_table_of_before_gets_its_budget_from_its_parameters():
    table = stored_worst_case("results/cifar100")
    assert describe_budget(table).startswith("APGD-CE 50 steps, APGD-T 50 steps × 5 targets, Square 500 queries")


def rows_of(model: str, eps_255: float, held: int, n: int = 60) -> pd.DataFrame:
    prediction = np.where(np.arange(n) < held, 1, 0)
    return pd.DataFrame(
        dict(sample_id=range(n), label=1, prediction=prediction, model=model, model_seed=0, eps=eps_255 / 255)
    )


def test_ranks_turn_along_the_radius_and_ties_share_one():
    held = {0.5: dict(a=30, b=55, c=54), 2: dict(a=25, b=10, c=1), 8: dict(a=0, b=0, c=0)}
    worst = pd.concat(rows_of(m, eps, k) for eps, models in held.items() for m, k in models.items())
    table = ranks(worst).set_index(["eps_255", "model"])["rank"].unstack()
    assert table.loc[0.5].to_dict() == {"a": 3, "b": 1, "c": 1}
    assert table.loc[2.0].to_dict() == {"a": 1, "b": 2, "c": 3}
    assert table.loc[8.0].to_dict() == {"a": 1, "b": 1, "c": 1}
    tests = compare_models(worst.assign(eps_255=(255 * worst["eps"]).round(3)), by="eps_255")
    assert len(tests) == 9  # one family over pairs and radii
    alone = ranks(worst[worst["model"] == "a"])
    assert (alone["rank"] == 1).all() and len(alone) == 3


def test_the_figure_says_its_budget_and_draws_every_radius():
    table = stored_worst_case("results/cifar10")
    figure, ranked = plotting.attacks.ensemble(table), ranks(table)
    left, right = figure.axes
    n = table["sample_id"].nunique()
    said = figure.get_supxlabel()
    assert f"n = {n}" in said and "APGD-T 50 steps × 5 targets" in said and "each line is a training seed" in said
    assert "training seed" not in plotting.attacks.ensemble(first_seed(table)).get_supxlabel()
    line = next(line for line in left.lines if line.get_label() == "MLP")
    mlp = ranked[ranked["model"] == "mlp"].sort_values("eps_255")
    np.testing.assert_allclose(line.get_xydata(), np.c_[mlp["eps_255"], 100 * mlp["accuracy"]])
    assert len(mlp) == 6 and len(right.lines) == 4
    places = next(each for each in right.lines if each.get_color() == line.get_color()).get_ydata()
    assert [round(y) for y in places] == mlp["rank"].tolist()
    plt.close("all")


def test_the_ensemble_gives_the_same_verdicts_on_two_machines():
    """Of the networks that are among CIFAR-10's tables and the controls'."""
    keys = ["model", "model_seed", "sample_id", "eps_255"]
    one, other = (
        table.assign(held=table["broken_by"] == "", eps_255=(255 * table["eps"]).round(3))[[*keys, "held"]]
        for table in map(stored_worst_case, FOLDERS)
    )
    both = one.merge(other, on=keys)
    assert set(both["model"]) == {"mlp", "vit"} and len(both) >= 600
    assert (both["held_x"] == both["held_y"]).all() and 0.2 < both["held_x"].mean() < 0.8


def test_pgd_gives_the_same_verdicts_on_two_machines():
    """Of the same networks and images, attacked in float32."""
    keys = ["model", "model_seed", "condition", "sample_id", "eps_255"]
    one, other = (
        rows.assign(
            broken=rows["label_rank"] >= rows["condition"].map({"pgd top-5": 5}).fillna(1),
            eps_255=(255 * rows["eps"]).round(3),
        )[[*keys, "broken"]]
        for folder in FOLDERS
        for rows in [stored_curves(folder, ["mlp", "vit"]).query("condition.str.startswith('pgd')")]
    )
    dtypes = {load_facts(folder, "02_attacks", "mlp")["parameters"]["dtype"] for folder in FOLDERS}
    both = one.merge(other, on=keys)
    assert dtypes == {"float32"} and len(both) == 6120 and both["sample_id"].nunique() == 60
    assert (both["broken_x"] != both["broken_y"]).mean() < 0.001


def test_what_is_said_of_smaller_budgets_is_the_benchmark_s():
    table = pd.read_csv(RESULTS / "benchmarks" / "budgets.csv")
    assert (table["n"] == 100).all() and (table["missed"] == 0).all()  # notebook 02 and docs/measures.md
    assert table.groupby("model")["held"].unique().map(list).to_dict() == {"mlp": [44], "cnn_robust": [30]}
    seconds = table.set_index(["budget", "model"])["seconds"]
    times = (seconds["standard and FAB-T"] / seconds["standard"]).round(1)
    assert times.to_dict() == {"mlp": 2.0, "cnn_robust": 1.5}
