"""The audit: whether an attack's own results can be believed."""

from itertools import pairwise

import numpy as np
import pandas as pd

from src.tables.statistics import first_seed, wilson_interval

AUDIT_STEPS = (5, 10, 40)  # of PGD
DRAWN_TOLERANCE = 0.05  # share of the images that the ensemble breaks and the drawn attack does not
DRAWN = "the drawn attack agrees with the ensemble"
ONCE = ("clean", "large", "zero", "again")  # conditions that belong to no radius of the audit
AT_EACH_RADIUS = ("more steps are never worse", "one step never beats many")
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
    Of several radii, "more steps" and "one step" tell of the one at which they fail most, as nothing saturates at small
    ones; the others of the largest.  Square is a check only where it breaks something: see `blunt_square`.
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
    """The checks of one model at the largest radius, those of AT_EACH_RADIUS at the one where they fail most."""
    radii = sorted(table.loc[~table["condition"].isin(ONCE), "eps"].unique())
    reports = [_judge_at(table[table["condition"].isin(ONCE) | (table["eps"] == eps)], tolerance) for eps in radii]
    report = reports[-1].copy()
    for i in report.index[report["check"].isin(AT_EACH_RADIUS)]:
        worst = max(reversed(reports), key=lambda other: other.loc[i, "low"])
        report.loc[i] = worst.loc[i]
    return report


def _judge_at(table: pd.DataFrame, tolerance: float) -> pd.DataFrame:
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
    if "square" in holds and (holds["clean"] & ~holds["square"]).any():
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
    from statsmodels.stats.weightstats import DescrStatsW  # a second to import

    difference = DescrStatsW(after.astype(float) - before.astype(float))
    return (difference.mean, *difference.tconfint_mean())


def _odds_ratio(a: pd.Series, b: pd.Series) -> tuple[float, float, float]:
    """Odds of a over those of b with Wald's interval of the logarithm, half an image added where a cell is empty.

    On the same images the two are not independent, so that the interval is, if anything, too wide.
    """
    from statsmodels.stats.contingency_tables import Table2x2

    odds = Table2x2(np.array([[a.sum(), (~a).sum()], [b.sum(), (~b).sum()]], dtype=float))
    return (odds.oddsratio, *odds.oddsratio_confint())


def blunt_square(audit: pd.DataFrame) -> pd.Series:
    """Queries of Square by model, where they broke no image: too few to check anything with."""
    square = audit[audit["condition"] == "square"].merge(
        audit.loc[audit["condition"] == "clean", ["model", "sample_id", "holds"]],
        on=["model", "sample_id"],
        suffixes=("", "_clean"),
    )
    broke = (square["holds_clean"] & ~square["holds"]).groupby(square["model"]).any()
    return square.groupby("model")["queries"].first()[~broke]


def judge_drawn(
    curves: pd.DataFrame, worst: pd.DataFrame, *, condition: str = "pgd", tolerance: float = DRAWN_TOLERANCE
) -> pd.DataFrame:
    """Whether the drawn attack agrees with the ensemble at every radius that both have: a row for each model.

    curves, worst: of `attacks.measure_curves` and `attacks.measure_worst_cases`, of which each model's first seed and
    the images that both hold count.  condition: of the curve that is drawn.
    The effect is the share of the images that the ensemble breaks and the drawn attack does not, with Wilson's interval
    (95 %), at the radius where it is surely largest; it fails where the whole interval lies above `tolerance`.
    Columns as of `judge_audit`.  A model without a radius and an image in common has no row.
    """
    keys = ["model", "model_seed", "sample_id", "eps"]
    drawn, theirs = (
        first_seed(table)[[*keys, "label_rank"]].round({"eps": 6})
        for table in (curves[curves["condition"] == condition], worst)
    )
    both = drawn[drawn["eps"] > 0].merge(theirs, on=keys, suffixes=("", "_worst"))
    both = both.assign(keeps=both["label_rank"] < 1, holds=both["label_rank_worst"] < 1)
    rows = []
    for (model, eps), part in both.groupby(["model", "eps"], sort=False):
        effect, low, high = _share(part["keeps"] & ~part["holds"])
        shares = f"{condition} {part['keeps'].mean():.1%}, ensemble {part['holds'].mean():.1%}"
        rows.append((model, effect, low, high, f"{shares} at {255 * eps:.3g}/255, n = {len(part)}", eps))
    table = pd.DataFrame(rows, columns=["model", "effect", "low", "high", "numbers", "eps"])
    table = table.sort_values("low", ascending=False, kind="stable").drop_duplicates("model")
    table = table.assign(check=DRAWN, passed=table["low"] <= tolerance, norm="Linf").sort_index(ignore_index=True)
    return table[["check", "passed", "effect", "low", "high", "numbers", "eps", "norm", "model"]]


def masked_models(
    audit: pd.DataFrame, curves: pd.DataFrame | None = None, worst: pd.DataFrame | None = None
) -> list[str]:
    """Models that fail a check of a stored audit, or of `judge_drawn` where curves and worst are given.

    Their drawn curves are not to be believed.
    """
    checks = judge_audit(audit)
    if curves is not None and worst is not None:
        checks = pd.concat([checks, judge_drawn(curves, worst)])
    return checks.loc[~checks["passed"].astype(bool), "model"].unique().tolist()
