"""The numbers of each experiment as one table: a row a condition, a column a network, in the units of the figures.

A key table is tidy: columns row, column, value, low, high (95 %; NaN where nothing is estimated), n, unit. `as_text`
lays it out to be read, `as_csv` to be computed with.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from src.names import parse_models
from src.plotting import model_style
from src.plotting.texture_shape.rows import at_standing_level
from src.results import load_facts, load_table, load_tables
from src.tables import attacks, calibration, cka, efficiency, feature_vis, finetuning, texture_shape
from src.tables.statistics import accuracy, first_seed

COLUMNS = ["row", "column", "value", "low", "high", "n", "unit"]
WAYS = {"linear": "classifier alone", "full": "all weights", "scratch": "from random weights"}
STATES = {"trained": "trained", "untrained": "untrained", "excess": "trained less untrained"}
DIGITS = {"%": 1, "points": 1, "": 2}  # by unit; three that count of others
IMAGES = "over images, of the first training seed"
OVER = {"04a_cka": "over images and all training seeds", "06_efficiency": "over processes and repeats"}  # not IMAGES
N_RESAMPLES = 300
MOST = 4  # networks whose pairs are listed


def key_table(experiment: str, folder: Path) -> pd.DataFrame:
    """The key table of an experiment; FileNotFoundError, which names the notebook to run, where its tables are not."""
    rows = MAKERS[experiment](folder).reindex(columns=COLUMNS)
    networks = {model_style(name)["label"]: place for place, name in enumerate(_models(folder, experiment))}
    order = {name: networks.get(name, len(networks)) for name in rows["column"]}
    rows_in_order = {name: place for place, name in enumerate(dict.fromkeys(rows["row"]))}
    places = pd.DataFrame(dict(row=rows["row"].map(rows_in_order), column=rows["column"].map(order)))
    return rows.iloc[np.lexsort([places["column"], places["row"]])].reset_index(drop=True)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each row and unit, a column for each column: value [low, high] as text; and n, where it is one."""
    rows = table.assign(cell=[_cell(row.value, row.low, row.high, row.unit) for row in table.itertuples()])
    rows["row"] = rows["row"] + rows["unit"].map(lambda unit: f" ({unit})" if unit else "")
    wide = rows.pivot(index="row", columns="column", values="cell").fillna("–")
    wide = wide.loc[list(dict.fromkeys(rows["row"])), list(dict.fromkeys(rows["column"]))]
    counts = rows.groupby("row")["n"].agg(lambda n: n.dropna().unique().tolist())
    wide["n"] = [" / ".join(f"{n:,.0f}" for n in counts[row]) or "–" for row in wide.index]
    return wide.rename_axis(index=None, columns=None)


def as_csv(table: pd.DataFrame) -> str:
    """The same rows to compute with, six digits."""
    return table.to_csv(index=False, float_format="%.6g")


def _cell(value: float, low: float, high: float, unit: str) -> str:
    if np.isnan(value):
        return "–"
    digits = DIGITS.get(unit, max(0, 2 - int(np.floor(np.log10(max(abs(value), 1e-9))))))
    ends = "" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:,.{digits}f}{ends}".replace("-", "−")


def _models(folder: Path, experiment: str) -> list[str]:
    """The networks that the tables of an experiment were made with, by label."""
    found = sorted((folder / experiment).glob("*.json"))
    named = load_facts(folder, experiment, found[0].stem)["parameters"].get("models", []) if found else []
    return [model.label for model in parse_models(named)] if named else ["mlp", "cnn", "vit"]


def _percent(rows: pd.DataFrame, value: str, unit: str = "%") -> pd.DataFrame:
    """Rows with `value` and its ends times 100; the column is the network's label."""
    scaled = {name: 100 * rows[column] for name, column in (("value", value), ("low", "low"), ("high", "high"))}
    return rows.assign(**scaled, unit=unit, column=_labels(rows["model"]))


def _labels(models: pd.Series) -> pd.Series:
    return models.map(lambda name: model_style(name)["label"])


def _finetuning(folder: Path) -> pd.DataFrame:
    found = sorted((folder / "01_finetuning").glob("*_history.parquet"))
    backbone = found[0].stem.removesuffix("_history") if found else "vit"
    rows = finetuning.accuracies(load_table(folder, "01_finetuning", backbone))
    rows = _percent(rows.assign(model=backbone), "accuracy")
    return rows.assign(row=rows["measure"] + " accuracy", column=rows["condition"].map(WAYS))


def _attacks(folder: Path) -> pd.DataFrame:
    rows = _percent(attacks.ranks(attacks.stored_worst_case(folder)), "accuracy")
    parts = [rows.assign(row=rows["eps_255"].map("accuracy under the worst attack, {:g}/255".format))]
    fitted = attacks.additive_transfer(attacks.stored_transfer(folder))
    if len(fitted):
        fitted = fitted[(fitted["role"] == "target") & (fitted["attack"] == "mi_fgsm")]
        row = f"fooled by the {fitted['model'].nunique() - 1} others, beyond random signs"
        parts.append(_percent(fitted, "excess", "points").assign(row=row))
    return pd.concat(parts)


def _texture_shape(folder: Path) -> pd.DataFrame:
    table = first_seed(load_tables(folder, "03_texture_shape", _models(folder, "03_texture_shape")))
    parts = [_manipulated(table)]
    if table["condition"].isin(texture_shape.TRANSFORMATIONS).any():
        kept = texture_shape.predictions_kept(table)
        kept = kept[(kept["condition"] == "shift") & (kept["level"] == 4)]
        parts.append(_percent(kept, "kept").assign(row="predictions kept under a shift of 4 px"))
    conflicts = texture_shape.by_outsiders(first_seed(texture_shape.stored_conflicts(folder)))
    conflicts = conflicts[conflicts["condition"].isin(["cutout", "stylised"])]
    if conflicts.empty:
        return pd.concat(parts)
    scores = texture_shape.shape_bias(conflicts, by=["condition", "level", "model"])
    scores = scores.drop(columns=["low", "high"], errors="ignore").rename(
        columns={"excess_low": "low", "excess_high": "high"}
    )
    parts.append(_percent(scores, "excess", "points").assign(row="shape less texture, " + scores["condition"]))
    return pd.concat(parts)


def _manipulated(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on images as they are, and on each manipulation at the level that stands for it."""
    at = {"clean": None} | texture_shape.STANDING
    shown = [name in at and at[name] in (None, level) for name, level in table[["condition", "level"]].to_numpy()]
    rows = accuracy(table[np.array(shown)], by=["condition", "level", "model"])
    rows = rows.sort_values("condition", kind="stable", key=lambda names: names.map(list(at).index))
    return _percent(rows, "accuracy").assign(row="accuracy, " + rows["condition"].map(at_standing_level))


def _cka(folder: Path) -> pd.DataFrame:
    models = _models(folder, "04a_cka")[:MOST]
    table = cka.compare_at_depth(load_table(folder, "04a_cka", "hsic"), models, n_resamples=N_RESAMPLES)
    rows = table[(table["layers"] == "depth") & table["what"].isin(list(STATES))]
    rows = rows.sort_values("pair", kind="stable", key=lambda pairs: pairs.map(list(pairs.unique()).index))
    beyond = rows["measure"].map({"CKA": "", "deconfounded": ", inputs taken away"})
    return rows.assign(row=rows["pair"].map(_pair) + beyond, column=rows["what"].map(STATES), unit="")


def _pair(pair: str) -> str:
    a, b = (model_style(name)["label"] for name in pair.split("–"))
    return f"{a} and {b}" if a != b else f"two seeds of {a}"


def _feature_vis(folder: Path) -> pd.DataFrame:
    classes = first_seed(load_table(folder, "04b_feature_vis", "classes"))
    means = feature_vis.mean_over_seeds(classes, ["p_shift"], by=["model", "condition"])
    rows = _percent(means, "mean")
    rows = rows.assign(row="probability after a shift of 3 px, " + rows["condition"])
    inverted = first_seed(load_table(folder, "04b_feature_vis", "inversion"))
    areas = feature_vis.survival(inverted[inverted["condition"] == "fourier"], "ssim")
    kept = areas.groupby("model", sort=False)["survival"].agg(value="mean", n="size").reset_index()
    kept = kept.assign(row="SSIM of rebuilt images, mean over the depth", column=_labels(kept["model"]), unit="")
    return pd.concat([rows, kept])


def _calibration(folder: Path) -> pd.DataFrame:
    models = _models(folder, "05_calibration")
    judged = first_seed(calibration.scaled(load_tables(folder, "05_calibration", models), ["none", "temperature"]))
    rows = calibration.measured(judged, n_resamples=N_RESAMPLES)
    after = rows["condition"].map({"none": "as trained", "temperature": "after temperature scaling"})
    gaps = rows.drop(columns=["low", "high"]).rename(columns={"gap_low": "low", "gap_high": "high"})
    parts = [_percent(rows, "debiased").assign(row="calibration error, " + after)]
    parts += [_percent(gaps, "gap", "points").assign(row="confidence less accuracy, " + after)]
    return pd.concat(parts).assign(n=judged.groupby(["model", "condition"]).size().max())


def _efficiency(folder: Path) -> pd.DataFrame:
    costs, timings = (load_table(folder, "06_efficiency", name) for name in ("costs", "timings"))
    said = {"MACs": ("operations of one image", "million MACs"), "saturation": ("time an image, large batches", "ms")}
    said |= {"latency": ("time of one image, networks in turns", "ms"), "alone": ("time of one image, alone", "ms")}
    rows = efficiency.headline(costs, timings)
    rows = rows[rows["what"].isin(list(said))]
    rows = rows.sort_values("what", kind="stable", key=lambda names: names.map(list(said).index))
    threads = rows["threads"].map(lambda n: "" if np.isnan(n) else f", {n:g} thread{'s' if n > 1 else ''}")
    names, units = (rows["what"].map(lambda what, k=k: said[what][k]) for k in (0, 1))
    return rows.assign(row=names + threads, column=_labels(rows["model"]), unit=units)


MAKERS = {
    "01_finetuning": _finetuning,
    "02_attacks": _attacks,
    "03_texture_shape": _texture_shape,
    "04a_cka": _cka,
    "04b_feature_vis": _feature_vis,
    "05_calibration": _calibration,
    "06_efficiency": _efficiency,
}
