"""Transfer: how often what fools one network fools another."""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from src.results import load_table
from src.tables.statistics import (
    added_by_seeds,
    bootstrap_counts,
    interval_over_seeds,
    percentile_interval,
    wilson_interval,
)

TRANSFER_STEPS = 10  # of PGD and MI-FGSM
NOISE = "random_signs"  # the attack that has no source
CONVERGED = 1e-9  # on the log-odds
RIDGE = 0.01  # on the coefficients of the additive model, against n images in each of its cells


def first_round(predictions: pd.DataFrame) -> pd.DataFrame:
    """Of `attacks.measure_transfer` the rows of the first training seeds; all where there is one round.

    >>> first_round(pd.DataFrame(dict(round=[0, 0, 1], prediction=[3, 4, 5])))["prediction"].tolist()
    [3, 4]
    """
    return predictions[predictions["round"] == predictions["round"].min()] if "round" in predictions else predictions


def summarise_transfer(predictions: pd.DataFrame) -> pd.DataFrame:
    """Success of each attack, source and target on the images that both classify correctly when clean.

    predictions: of `attacks.transfer_predictions`, or of `attacks.measure_transfer`, of which the first round counts.
    Columns: attack, eps, source, target, n (such images), fooled, success = fooled / n, low, high (Wilson, 95 %).

    >>> pair = dict(attack="pgd", eps=0.1, source="a", target="b", label=3, source_clean=3, target_clean=[3, 3, 5])
    >>> summarise_transfer(pd.DataFrame(pair | dict(prediction=[3, 4, 4])))[["n", "fooled", "success"]].values.tolist()
    [[2.0, 1.0, 0.5]]
    """
    predictions = first_round(predictions)
    label = predictions["label"]
    both = predictions[(predictions["source_clean"] == label) & (predictions["target_clean"] == label)]
    fooled = (both["prediction"] != both["label"]).rename("fooled")
    keys = ["attack", "eps", "source", "target"]
    table = fooled.groupby([both[key] for key in keys], sort=False).agg(n="size", fooled="sum").reset_index()
    low, high = wilson_interval(table["fooled"], table["n"])
    return table.assign(success=table["fooled"] / table["n"], low=low, high=high)


def stored_transfer(folder: str | Path) -> pd.DataFrame:
    """The stored table of transfer; in tables of before the random signs are those of the audit, the same draws.

    The audit has no predictions, so that -1 stands for a wrong one.
    """
    table = load_table(folder, "02_attacks", "transfer")
    if NOISE in set(table["attack"]):
        return table
    audit = load_table(folder, "02_attacks", "audit").rename(columns={"model": "target"})
    noise = audit[(audit["condition"] == "noise") & np.isclose(audit["eps"], table["eps"].iloc[0])]
    clean = table.drop_duplicates(["target", "sample_id"])[["target", "sample_id", "target_clean"]]
    noise = noise.merge(clean, on=["target", "sample_id"])
    noise = noise.assign(prediction=noise["label"].where(noise["holds"], -1), attack=NOISE, source="", source_clean=-1)
    noise["eps"] = table["eps"].iloc[0]
    return pd.concat([table, noise[[name for name in noise if name in table]]], ignore_index=True)


def _on_shared_images(
    predictions: pd.DataFrame, models: Sequence[str] | None
) -> Iterator[tuple[str, float, list[str], np.ndarray, np.ndarray]]:
    """Of each attack and radius on the images that all models get right: who is fooled.

    As attack, eps, models, fooled [image, source, target] and by_noise [image, target], 0 or 1.
    """
    models = list(predictions["target"].unique() if models is None else models)
    rows = predictions[predictions["target"].isin(models)]
    wrong = rows.loc[rows["target_clean"] != rows["label"], "sample_id"]
    rows = rows[~rows["sample_id"].isin(wrong)]
    rows = rows.assign(fooled=(rows["prediction"] != rows["label"]).astype(float))
    for (eps, attack), part in rows[rows["attack"] != NOISE].groupby(["eps", "attack"], sort=False):
        baseline = rows[(rows["attack"] == NOISE) & (rows["eps"] == eps)]
        if baseline.empty:
            raise FileNotFoundError(
                f"the table of transfer has no {NOISE} at radius {eps:g}, as older ones have not. "
                "Run 02_adversarial_robustness.ipynb to make it."
            )
        noise = baseline.pivot(index="sample_id", columns="target", values="fooled")[models]
        cells = part.pivot(index="sample_id", columns=["source", "target"], values="fooled")
        fooled = cells.loc[noise.index, list(product(models, models))].to_numpy()
        yield attack, eps, models, fooled.reshape(-1, len(models), len(models)), noise.to_numpy()


def transfer_excess(
    predictions: pd.DataFrame, models: Sequence[str] | None = None, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """How much more examples made on one network fool another than random signs of the same radius do.

    predictions: as of `summarise_transfer`.  models: those compared, all if not given; every number is of the one set
    of images that all of them get right when clean.
    Columns: attack, eps, source, target, n; success and noise (shares fooled), excess = success - noise with low, high
    (95 %, bootstrap over images); and the same on the images whose example fools its source, n_at_source of them:
    success_at_source, excess_at_source, low_at_source, high_at_source.  Empty where no image is right for all.
    """
    out = []
    for attack, eps, names, fooled, noise in _on_shared_images(first_round(predictions), models):
        counts = bootstrap_counts(len(noise), n_resamples, seed)
        for s, t in permutations(range(len(names)), 2):
            hit, gain, at_source = fooled[:, s, t], fooled[:, s, t] - noise[:, t], fooled[:, s, s]
            row = dict(attack=attack, eps=eps, source=names[s], target=names[t], n=len(noise))
            row |= dict(success=hit.mean(), noise=noise[:, t].mean())
            for end, chosen in (("", np.ones(len(noise))), ("_at_source", at_source)):
                with np.errstate(invalid="ignore"):  # none fools its source: no number
                    drawn = (counts @ (gain * chosen)) / (counts @ chosen)
                    row[f"excess{end}"] = (gain @ chosen) / chosen.sum()
                    shares = {} if not end else {f"success{end}": (hit @ chosen) / chosen.sum()}
                row |= shares | dict(zip((f"low{end}", f"high{end}"), percentile_interval(drawn), strict=True))
            out.append(row | dict(n_at_source=int(at_source.sum())))
    return pd.DataFrame(out)


def additive_transfer(
    predictions: pd.DataFrame, models: Sequence[str] | None = None, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Transfer as source + target on the log-odds of fooling: a row for each attack, role and model.

    Each network faces other sources, so a mean over them compares unlike things; the model asks what each target
    suffers from an average source, and what each source does to an average target.  It is fitted to the pairs of
    different networks on the images that all get right, with a ridge of RIDGE; intervals (95 %) are of the bootstrap
    over images.
    Columns: attack, eps, role ("source", "target"), model, n; log_odds (less the mean of its role), log_odds_low,
    log_odds_high; success (at the average of the other role), noise (random signs on the same targets), excess =
    success - noise, low, high.  Empty below three networks, which cannot tell source from target.
    Arguments as of `transfer_excess`.
    """
    out = []
    for facts, names, effects, success, baseline in _additive_draws(
        first_round(predictions), models, n_resamples, seed
    ):
        for role, i in product(("source", "target"), range(len(names))):
            row = facts | dict(role=role, model=names[i])
            for value, start, drawn in (
                ("log_odds", "log_odds_", effects[role][:, i]),
                ("excess", "", (success[role] - baseline[role])[:, i]),
            ):
                low, high = percentile_interval(drawn[1:])
                row |= {value: drawn[0], f"{start}low": low, f"{start}high": high}
            out.append(row | dict(success=success[role][0, i], noise=baseline[role][0, i]))
    columns = ["attack", "eps", "role", "model", "n", "log_odds", "log_odds_low", "log_odds_high"]
    return pd.DataFrame(out, columns=[*columns, "success", "noise", "excess", "low", "high"])


def compare_targets(
    predictions: pd.DataFrame, models: Sequence[str] | None = None, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Excess of each target of `additive_transfer`, and the difference of every two on the same resampled images.

    Every round that all the models are in counts as a training seed of each; the images are those that the models get
    right in all of them.
    Columns: attack, eps, model, other ("" for the excess itself, or the target that is subtracted), value, low, high
    (over images and seeds), p_value (of a difference), n, seeds, seed_low and seed_high (smallest and largest value of
    a round).  Empty below three networks.  Arguments as of `transfer_excess`.
    """
    models = list(first_round(predictions)["target"].unique() if models is None else models)
    rows = predictions[predictions["target"].isin(models)]
    wrong = rows.loc[rows["target_clean"] != rows["label"], "sample_id"]
    rows = rows[~rows["sample_id"].isin(wrong)]
    rounds = [part for _, part in rows.groupby(rows["round"] if "round" in rows else np.zeros(len(rows)))]
    rounds = [part for part in rounds if part["target"].nunique() == len(models)]
    out = []
    for of_rounds in zip(*(_additive_draws(part, models, n_resamples, seed) for part in rounds), strict=True):
        facts, names, *_ = of_rounds[0]
        excess = np.stack([success["target"] - baseline["target"] for *_, success, baseline in of_rounds])
        facts = {name: facts[name] for name in ("attack", "eps", "n")} | dict(seeds=len(rounds))
        for model, other in [*((name, "") for name in names), *combinations(names, 2)]:
            values = excess[..., names.index(model)] - (excess[..., names.index(other)] if other else 0)
            by_round, drawn = values[:, 0], values[:, 1:].T
            seeds = added_by_seeds(by_round, drawn)
            low, high, p_value = interval_over_seeds(by_round.mean(), drawn.mean(1), seeds)
            found = dict(value=by_round.mean(), low=low, high=high, p_value=p_value if other else np.nan)
            found |= dict(seed_low=by_round.min(), seed_high=by_round.max())
            out.append(facts | dict(model=model, other=other) | found)
    columns = ["attack", "eps", "model", "other", "value", "low", "high", "p_value", "n", "seeds"]
    return pd.DataFrame(out, columns=[*columns, "seed_low", "seed_high"])


def _additive_draws(
    predictions: pd.DataFrame, models: Sequence[str] | None, n_resamples: int, seed: int
) -> Iterator[tuple[dict, list[str], dict, dict, dict]]:
    """Of each attack and radius: facts, models, and by role effects on the log-odds, success and that of random signs.

    Each [1 + n_resamples, models]: first of the images as they are, then of those that a bootstrap draws.
    """
    for attack, eps, names, fooled, noise in _on_shared_images(predictions, models):
        if len(names) < 3:
            return
        n = len(noise)
        counts = np.vstack([np.ones(n), bootstrap_counts(n, n_resamples, seed)])
        mean, *effects = _additive_fit((counts @ fooled.reshape(n, -1)).reshape(-1, len(names), len(names)), n)
        effects = dict(zip(("source", "target"), effects, strict=True))
        success = {role: expit(mean[:, None] + effect) for role, effect in effects.items()}
        by_noise = counts @ noise / n
        baseline = dict(source=by_noise.mean(1, keepdims=True).repeat(len(names), 1), target=by_noise)
        yield dict(attack=attack, eps=eps, n=n), names, effects, success, baseline


def _additive_fit(fooled: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Newton's method for r tables at once: mean log-odds [r], effects of sources and of targets, each [r, k], mean 0.

    fooled: numbers of the n images, [r, source, target], whose diagonal is not looked at.
    """
    k = fooled.shape[1]
    source, target = (~np.eye(k, dtype=bool)).nonzero()
    design = np.column_stack([np.ones(len(source)), np.eye(k)[source], np.eye(k)[target]])
    seen, beta = fooled[:, source, target], np.zeros((len(fooled), 1 + 2 * k))
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    for _ in range(50):
        share = expit(beta @ design.T)
        slope = (seen - n * share) @ design - RIDGE * beta
        curvature = (n * share * (1 - share)) @ squares
        curvature = curvature.reshape(len(beta), *2 * design.shape[1:]) + RIDGE * np.eye(design.shape[1])
        step = np.linalg.solve(curvature, slope[..., None])[..., 0].clip(-2, 2)
        beta += step
        if np.abs(step).max() < CONVERGED:
            break
    parts = beta[:, 1 : 1 + k], beta[:, 1 + k :]
    means = [part.mean(1) for part in parts]
    return beta[:, 0] + sum(means), *(part - mean[:, None] for part, mean in zip(parts, means, strict=True))
