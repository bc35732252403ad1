"""Tables of the notebook's figures and sentences, from its stored logits: one row per network and scaling."""

import warnings
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from src.tables.calibration.bins import confidence_and_correct, reliability_bins
from src.tables.calibration.interval import contrast_interval, debiased_interval
from src.tables.calibration.measures import binned_gap, measure_all, risk_coverage
from src.tables.calibration.resampling import bootstrap, consistency_band, null_band, verdict
from src.tables.calibration.scaling import SCALINGS, NoScalingError
from src.tables.statistics import accuracy, added_by_seeds, first_seed, wilson_interval, with_holm

KEYS = ["model", "model_seed", "condition"]
N_BINS = (5, 10, 15, 20, 30, 50, 100)


def scaled(logits: pd.DataFrame, scalings: Sequence[str] = tuple(SCALINGS)) -> pd.DataFrame:
    """Probabilities of the judged half of the images, by scalings that are fitted on the other half.

    logits: columns model, model_seed, half ("fit" or "judged"), sample_id, label, logit_0, logit_1, …
    A scaling that does not exist for a network is left out of its rows, with a warning.
    Columns: KEYS (condition is the scaling), sample_id, label, confidence, correct, p_0, p_1, …

    >>> images = dict(sample_id=range(5), label=[0, 0, 0, 1, 0], half=["fit"] * 4 + ["judged"])
    >>> logits = dict(model="cnn", model_seed=0, logit_0=np.log(0.9), logit_1=np.log(0.1))
    >>> scaled(pd.DataFrame(images | logits), ["none", "temperature"])["confidence"].round(2).tolist()
    [0.9, 0.75]
    """
    parts, columns = [], [name for name in logits.columns if name.startswith("logit_")]
    for (model, model_seed), table in logits.groupby(["model", "model_seed"], sort=False):
        fit, judged = (table[table["half"] == half] for half in ("fit", "judged"))
        for name in scalings:
            try:
                scale = SCALINGS[name](fit[columns].to_numpy(), fit["label"].to_numpy())
            except NoScalingError as error:
                warnings.warn(f"{model}, training seed {model_seed}: {name} is left out, {error}", stacklevel=2)
                continue
            probs, labels = scale(judged[columns].to_numpy()), judged["label"].to_numpy()
            confidence, correct = confidence_and_correct(probs, labels)
            part = dict(model=model, model_seed=model_seed, condition=name, sample_id=judged["sample_id"].to_numpy())
            part = pd.DataFrame(part | dict(label=labels, confidence=confidence, correct=correct))
            parts.append(part.join(pd.DataFrame(probs).add_prefix("p_")))
    return pd.concat(parts, ignore_index=True)


def measured(judged: pd.DataFrame, *, n_bins: int = 15, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One row per network and scaling: KEYS, the keys of `verdict`, wrong, the measures of `measure_all`.

    judged: of `scaled`.  wrong: the share of wrong predictions, with wrong_low and wrong_high (Wilson).

    >>> rows = dict(model="cnn", model_seed=0, condition="none", label=[0] * 10, confidence=0.9, correct=True)
    >>> table = measured(pd.DataFrame(rows | dict(p_0=0.9, p_1=0.1)), n_bins=5, n_resamples=10)
    >>> table[["debiased", "ece", "gap", "wrong", "Brier"]].round(2).to_numpy().tolist()
    [[0.1, 0.1, -0.1, 0.0, 0.02]]
    """
    rows = []
    for keys, part in _networks(judged):
        probs = np.ascontiguousarray(part.filter(regex=r"^p_\d+$").to_numpy())
        said = verdict(part["confidence"], part["correct"], n_bins=n_bins, n_resamples=n_resamples, seed=seed)
        wrong, n = int((~part["correct"]).sum()), len(part)
        share = dict(zip(("wrong", "wrong_low", "wrong_high"), (wrong / n, *wilson_interval(wrong, n)), strict=True))
        rows.append(keys | said | share | measure_all(probs, part["label"].to_numpy(), n_bins=n_bins))
    return pd.DataFrame(rows)


def reliability(judged: pd.DataFrame, *, n_bins: int = 15, **drawing) -> pd.DataFrame:
    """`reliability_bins` of each network and scaling, and null_low, null_high of `consistency_band`.

    drawing: level, n_resamples and seed of that band.

    >>> rows = dict(model="cnn", model_seed=0, condition="none", confidence=[1.0, 1.0], correct=[True, False])
    >>> reliability(pd.DataFrame(rows), n_bins=5, n_resamples=2)[["n", "accuracy", "null_low"]].to_numpy().tolist()
    [[2.0, 0.5, 1.0]]
    """
    parts = []
    for keys, part in _networks(judged):
        bins = reliability_bins(part["confidence"], part["correct"], n_bins=n_bins)
        band = consistency_band(part["confidence"], n_bins=n_bins, **drawing).add_prefix("null_")
        parts.append(bins.join(band.set_index("null_bin"), on="bin").assign(**keys))
    return pd.concat(parts, ignore_index=True)


def errors_by_bins(judged: pd.DataFrame, counts: Sequence[int] = N_BINS, **drawing) -> pd.DataFrame:
    """The ECE and the mean of a calibrated model's by numbers of bins: KEYS, n_bins, ece, null_mean.

    drawing: n_resamples, seed, norm and equal_mass, as of `null_band`.

    >>> rows = dict(model="cnn", model_seed=0, condition="none", confidence=[1.0, 1.0], correct=[True, False])
    >>> errors_by_bins(pd.DataFrame(rows), [2], n_resamples=2)[["n_bins", "ece", "null_mean"]].to_numpy().tolist()
    [[2.0, 0.5, 0.0]]
    """
    rows = []
    for keys, part in _networks(judged):
        for n_bins in counts:
            ece = binned_gap(part["confidence"], part["correct"], n_bins=n_bins)
            null = null_band(part["confidence"], n_bins=n_bins, **drawing)
            rows.append(keys | dict(n_bins=n_bins, ece=ece, null_mean=null.mean()))
    return pd.DataFrame(rows)


def coverage(judged: pd.DataFrame) -> pd.DataFrame:
    """`risk_coverage` of each network and scaling: KEYS, coverage, risk, threshold.

    >>> rows = dict(model="cnn", model_seed=0, condition="none", confidence=[0.9, 1.0], correct=[False, True])
    >>> coverage(pd.DataFrame(rows))["risk"].tolist()
    [0.0, 0.5]
    """
    parts = [risk_coverage(part["confidence"], part["correct"]).assign(**keys) for keys, part in _networks(judged)]
    return pd.concat(parts, ignore_index=True)


def errors_over_seeds(
    judged: pd.DataFrame,
    *,
    n_bins: int = 15,
    level: float = 0.95,
    null: float = 0.0,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Debiased error of each model over its training seeds, and the difference of every two, with intervals.

    judged: of `scaled`, the same images in the same order for all.  Columns: condition, then those of
    `statistics.two_level_bootstrap`; p_value is that of a difference whose size is `null`.  Intervals join those of the
    networks' `debiased_interval` with the correlation of their errors over resamples of the same images
    (`contrast_interval`).

    >>> rows = dict(model=["a", "b"] * 9, model_seed=0, condition="none", confidence=[1, 0.9] * 9, correct=True)
    >>> errors_over_seeds(pd.DataFrame(rows), n_resamples=10)[["model", "other", "value"]].round(2).values.tolist()
    [['a', '', 0.0], ['b', '', 0.1], ['a', 'b', -0.1]]
    """
    rows, options = [], dict(n_bins=n_bins, n_resamples=n_resamples, seed=seed, norm="l2", equal_mass=True)
    for condition, table in judged.groupby("condition", sort=False):
        networks = list(table.groupby(["model", "model_seed"], sort=False))
        sure = [(part["confidence"], part["correct"]) for _, part in networks]
        ends = np.array([debiased_interval(*pair, n_bins=n_bins, level=level, seed=seed) for pair in sure])
        drawn = np.array([bootstrap(*pair, **options) for pair in sure])
        with np.errstate(invalid="ignore"):  # an error that no resample changes goes with none
            together = np.nan_to_num(np.corrcoef(np.atleast_2d(drawn)).reshape(len(sure), -1))
        names = np.array([model for (model, _), _ in networks])
        models = list(dict.fromkeys(names.tolist()))
        own = {model: names == model for model in models}
        added = {model: added_by_seeds(ends[of, 0], drawn[of].T) for model, of in own.items()}
        for model, other in [*((model, "") for model in models), *combinations(models, 2)]:
            parts = [name for name in (model, other) if name]
            weights = sum(sign * own[name] / own[name].sum() for name, sign in zip(parts, (1, -1), strict=False))
            *found, p_value = contrast_interval(
                ends, weights, together, [part for name in parts for part in added[name]], level=level, null=null
            )
            fewest = min(int(own[name].sum()) for name in parts)
            rows.append((condition, model, other, *found, p_value if other else np.nan, len(sure[0][0]), fewest))
    return pd.DataFrame(rows, columns=["condition", "model", "other", "value", "low", "high", "p_value", "n", "seeds"])


def compared(judged: pd.DataFrame, **options) -> pd.DataFrame:
    """Each two models by scaling, the better first: the differences of `errors_over_seeds`, Holm's over all rows.

    options: of `errors_over_seeds`.  Columns: condition, better, worse, difference (of their debiased errors), low,
    high, p_value, n, seeds, p_holm (Holm 1979), separated (whether that is below 0.05).

    >>> rows = dict(model=["a", "b"] * 9, model_seed=0, condition="none", confidence=[1, 0.9] * 9, correct=True)
    >>> compared(pd.DataFrame(rows), n_resamples=10).iloc[:, :4].round(2).to_numpy().tolist()
    [['none', 'a', 'b', 0.1]]
    """
    rows = errors_over_seeds(judged, **options)
    rows = with_holm(rows[rows["other"] != ""].rename(columns={"value": "difference"}).reset_index(drop=True))
    ahead = rows["difference"] <= 0
    flipped = rows.rename(columns=dict(model="worse", other="better"))
    as_is = rows.assign(difference=-rows["difference"], low=-rows["high"], high=-rows["low"])
    as_is = as_is.rename(columns=dict(model="better", other="worse"))
    rows = pd.concat([as_is[ahead], flipped[~ahead]]).sort_index().assign(separated=lambda t: t["p_holm"] < 0.05)
    names = [
        "condition",
        "better",
        "worse",
        "difference",
        "low",
        "high",
        "p_value",
        "n",
        "seeds",
        "p_holm",
        "separated",
    ]
    return rows[names]


def under_shift(table: pd.DataFrame, condition: str, *, level: str = "level") -> pd.DataFrame:
    """Accuracy with its interval and mean confidence by model and strength of a shift, of the first training seeds.

    table: predictions of notebook 02 or 03.  level: its column that holds the strength.
    Columns: condition, model, level, n, correct, accuracy, low, high, confidence.

    >>> rows = dict(model="cnn", model_seed=0, condition="fgsm", eps=0.1, confidence=0.9, label=0, prediction=[0, 1])
    >>> under_shift(pd.DataFrame(rows), "fgsm", level="eps")[["level", "accuracy", "confidence"]].to_numpy().tolist()
    [[0.1, 0.5, 0.9]]
    """
    part = first_seed(table[table["condition"] == condition])
    part, by = part.assign(level=part[level].astype(float)), ["condition", "model", "level"]
    return accuracy(part, by=by).merge(part.groupby(by, as_index=False)["confidence"].mean(), on=by)


def _networks(judged: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    for keys, part in judged.groupby(KEYS, sort=False):
        yield dict(zip(KEYS, keys, strict=True)), part
