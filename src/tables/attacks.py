"""Numbers from the tables of `src.attacks`: curves, breaking radii, transfer, comparisons and the audit; no torch."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.weightstats import DescrStatsW

from src.results import load_tables, table_path
from src.tables.statistics import accuracy, paired_test, wilson_interval, with_holm

# radii of the 2023 report, and those that the field compares at
FGSM_GRID = tuple(np.linspace(0, 0.25, 21).round(6).tolist())
PGD_GRID = tuple(np.linspace(0, 0.0229, 12).round(6).tolist())
LINF_GRID = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
L2_GRID = (0.0, 0.25, 0.5, 1.0)

TRANSFER_STEPS = 10  # of PGD and MI-FGSM
AUDIT_STEPS = (5, 10, 40)  # of PGD
SEVERAL = 3.0  # times the odds of noise to break an image, which a gradient must reach


def stored_curves(folder: str | Path, models: Sequence[str]) -> pd.DataFrame:
    """Stored curves of the models and, where there is one, of `cnn_robust`: one row per image, condition and radius.

    Raises FileNotFoundError, which names the notebook to run, for a model without a table.
    """
    robust = ["cnn_robust"] if table_path(folder, "02_attacks", "cnn_robust").exists() else []
    return load_tables(folder, "02_attacks", dict.fromkeys([*models, *robust]))


def _images(curve: pd.DataFrame) -> list[str]:
    return [name for name in ("model", "model_seed", "condition", "sample_id") if name in curve]


def cumulative(curve: pd.DataFrame, *, k: int = 1) -> pd.DataFrame:
    """The curve, sorted by image and radius, with every image broken at all radii from its first break on.

    k: an image is broken when its label is not among the top k.  Later rows repeat prediction, confidence, label_rank
    and distance of the first break.

    >>> curve = pd.DataFrame(dict(sample_id=7, eps=[0.0, 0.1, 0.2], label_rank=[0, 3, 0]))
    >>> cumulative(curve)["label_rank"].tolist()
    [0, 3, 3]
    """
    table = curve.sort_values([*_images(curve), "eps"], kind="stable", ignore_index=True)
    row = pd.Series(np.arange(len(table)))
    first = row.where(table["label_rank"] >= k).groupby([table[name] for name in _images(table)]).transform("min")
    facts = [name for name in ("prediction", "confidence", "label_rank", "distance") if name in table]
    table[facts] = table[facts].iloc[np.fmin(row, first).astype(int)].reset_index(drop=True)
    return table


def breaking_radius(curve: pd.DataFrame, *, k: int = 1) -> pd.DataFrame:
    """Smallest radius of the grid that breaks each image, inf for none: sample_id, label, eps, after model and seed.

    >>> curve = pd.DataFrame(dict(sample_id=[1, 1, 2, 2], label=0, eps=[0.0, 0.1] * 2, label_rank=[0, 4, 0, 0]))
    >>> breaking_radius(curve)["eps"].tolist()
    [0.1, inf]
    """
    radii = curve["eps"].where(curve["label_rank"] >= k, np.inf)
    keys = [curve[name] for name in [*_images(curve), "label"]]
    return radii.groupby(keys, sort="model" not in curve).min().rename("eps").reset_index()


def summarise_transfer(predictions: pd.DataFrame) -> pd.DataFrame:
    """Success of each attack, source and target on the images that both classify correctly when clean.

    predictions: of `attacks.transfer_predictions`.
    Columns: attack, eps, source, target, n (such images), fooled, success = fooled / n, low, high (Wilson, 95 %).

    >>> pair = dict(attack="pgd", eps=0.1, source="a", target="b", label=3, source_clean=3, target_clean=[3, 3, 5])
    >>> summarise_transfer(pd.DataFrame(pair | dict(prediction=[3, 4, 4])))[["n", "fooled", "success"]].values.tolist()
    [[2.0, 1.0, 0.5]]
    """
    label = predictions["label"]
    both = predictions[(predictions["source_clean"] == label) & (predictions["target_clean"] == label)]
    fooled = (both["prediction"] != both["label"]).rename("fooled")
    keys = ["attack", "eps", "source", "target"]
    table = fooled.groupby([both[key] for key in keys], sort=False).agg(n="size", fooled="sum").reset_index()
    low, high = wilson_interval(table["fooled"], table["n"])
    return table.assign(success=table["fooled"] / table["n"], low=low, high=high)


def compare_models(table: pd.DataFrame, *, by: str = "eps") -> pd.DataFrame:
    """McNemar's test of every two models on the same images: a row for each pair and value of `by`.

    table: predictions with one training seed of each model.  Columns: `by`, a, b, those of `paired_test`, and p_holm,
    corrected over all rows.  Empty for one model alone.

    >>> table = pd.DataFrame(dict(eps=0.1, sample_id=[0, 1] * 2, label=1, prediction=[1, 1, 1, 0], model=list("ccmm")))
    >>> compare_models(table)[["a", "b", "difference", "p_holm"]].values.tolist()
    [['c', 'm', 0.5, 1.0]]
    """
    rows = []
    for value, part in table.groupby(by):
        of = dict(list(part.groupby("model", sort=False)))
        rows += [{by: value, "a": a, "b": b} | paired_test(of[a], of[b]) for a, b in combinations(of, 2)]
    columns = [by, "a", "b", "n", "only_a", "only_b", "difference", "p_value"]
    return with_holm(pd.DataFrame(rows, columns=columns))


def less_printed(curves: pd.DataFrame, printed: pd.DataFrame, *, model: str) -> pd.DataFrame:
    """Accuracies of a network that the 2023 report has too, less those that it printed: condition, eps, n, difference.

    curves: stored curves of that network on one data set.  printed: `load_published("adversarial")`.  model: the name
    that the report gives it.  Radii that one of the two lacks are left out.
    """
    measured = accuracy(curves, by=["dataset", "condition", "eps"]).round({"eps": 6})
    theirs = printed[printed["model"] == model].round({"eps": 6})
    both = measured.merge(theirs, on=["dataset", "condition", "eps"], suffixes=("", "_printed"))
    both["difference"] = both["accuracy"] - both["accuracy_printed"]
    return both[["condition", "eps", "n", "difference"]]


def judge_audit(table: pd.DataFrame, *, tolerance: float = 0.01) -> pd.DataFrame:
    """Checks of an attack's own results: where one fails, gradients are masked, or too little was attacked to tell.

    table: rows of `attacks.audit_predictions`, of one model or, with the column model, of several.
    Returns a row per check (and model): check, passed, effect, low, high (95 %), numbers (a sentence), eps, norm.

    "Noise is far weaker" passes when the odds that PGD breaks a correctly classified image are surely SEVERAL times
    those of noise, so take a radius that breaks a fair share.  "Radius 0" is an identity and has to hold exactly.  The
    others are shares of the images, left at a large radius or, image by image, gained where none should be; they fail
    when their whole interval lies above `tolerance`.  For L2 that with Square is left out.  "Two passes agree" has to
    hold exactly, or the model is random and its gradients are noise; older tables, without "again", lack it.
    Sources: Athalye, Carlini & Wagner 2018, section 3.1; Carlini et al. 2019, section 5.

    >>> conditions = [("zero", 30), ("clean", 30), ("noise", 30), ("fgsm", 9), ("pgd5", 2), ("pgd10", 2), ("pgd40", 1)]
    >>> rows = [(i, name, i < n) for name, n in [*conditions, ("large", 0)] for i in range(30)]
    >>> table = pd.DataFrame(rows, columns=["sample_id", "condition", "holds"]).assign(eps=0.1, norm="L2", queries=0)
    >>> judge_audit(table)["passed"].tolist()
    [True, True, True, True, True]
    """
    if "model" in table:
        parts = table.groupby("model", sort=False)
        return pd.concat([_judge(rows, tolerance).assign(model=name) for name, rows in parts], ignore_index=True)
    return _judge(table, tolerance)


def _judge(table: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    holds = table.pivot(index="sample_id", columns="condition", values="holds")
    percent = {condition: f"{share:.1%}" for condition, share in holds.mean().items()}
    eps, queries = table.groupby("condition")["eps"].first(), table["queries"].iloc[0]
    pgd = [f"pgd{steps}" for steps in AUDIT_STEPS]
    best = holds[pgd].mean().idxmin()

    rises = [_gain(holds[more], holds[fewer]) for fewer, more in pairwise(pgd)]
    odds = _odds_ratio(*(~holds.loc[holds["clean"], name] for name in (best, "noise")))
    same = "bit for bit" if holds["zero"].all() else f"not in {(~holds['zero']).mean():.1%} of the images"
    steps = ", ".join(f"PGD-{steps} {percent[f'pgd{steps}']}" for steps in AUDIT_STEPS)
    noise = f"clean {percent['clean']}, noise {percent['noise']}, PGD {percent[best]}, odds ratio {odds[0]:.3g}"
    rows = [
        ("radius 0 is the clean image", *_share(~holds["zero"]), f"FGSM, PGD and noise: {same}"),
        ("a large radius leaves nothing", *_share(holds["large"]), f"PGD at {eps['large']:.3g}: {percent['large']}"),
        ("more steps are never worse", *max(rises, key=lambda rise: rise[1]), steps),
        (
            "one step never beats many",
            *_gain(holds[best], holds["fgsm"]),
            f"FGSM {percent['fgsm']}, PGD {percent[best]}",
        ),
        ("noise is far weaker than a gradient", *odds, f"{noise} [{odds[1]:.2g}, {odds[2]:.2g}]"),
    ]
    if "square" in holds:
        numbers = f"Square ({queries} queries) {percent['square']}, PGD {percent[best]}"
        rows.append(("black box never beats white box", *_gain(holds[best], holds["square"]), numbers))
    if "again" in holds:
        alike = holds["again"].astype(bool)
        same = "bit for bit" if alike.all() else f"not for {(~alike).mean():.1%} of the images"
        rows.append(("two passes agree", *_share(~alike), f"logits of two forward passes: {same}"))
    report = pd.DataFrame(rows, columns=["check", "effect", "low", "high", "numbers"])
    report.insert(1, "passed", report["low"] <= tolerance)
    report.loc[[0, 4], "passed"] = [holds["zero"].all(), odds[1] >= SEVERAL]
    report.loc[report["check"] == "two passes agree", "passed"] = report["effect"] == 0
    return report.assign(eps=eps["noise"], norm=table["norm"].iloc[0])


def _share(held: pd.Series) -> tuple[float, float, float]:
    low, high = wilson_interval(held.sum(), len(held))
    return held.mean(), float(low), float(high)


def _gain(after: pd.Series, before: pd.Series) -> tuple[float, float, float]:
    """Mean of after - before, image by image, with its t-interval."""
    difference = DescrStatsW(after.astype(float) - before.astype(float))
    return (difference.mean, *difference.tconfint_mean())


def _odds_ratio(a: pd.Series, b: pd.Series) -> tuple[float, float, float]:
    """Odds of a over those of b with Wald's interval of the logarithm, half an image added where a cell is empty.

    On the same images the two are not independent, so that the interval is, if anything, too wide.
    """
    odds = Table2x2(np.array([[a.sum(), (~a).sum()], [b.sum(), (~b).sum()]], dtype=float))
    return (odds.oddsratio, *odds.oddsratio_confint())


def masked_models(audit: pd.DataFrame) -> list[str]:
    """Models of a stored audit that fail a check, whose curves are not to be believed."""
    checks = judge_audit(audit)
    return checks.loc[~checks["passed"], "model"].unique().tolist()
