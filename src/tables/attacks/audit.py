"""The audit: whether an attack's own results can be believed."""

from itertools import pairwise

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.weightstats import DescrStatsW

from src.tables.statistics import wilson_interval

AUDIT_STEPS = (5, 10, 40)  # of PGD
SEVERAL = 3.0  # times the odds of noise to break an image, which a gradient must reach


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
