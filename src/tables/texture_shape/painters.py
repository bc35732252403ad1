"""Stylised images by who painted them: every painter against every judge, outsiders pooled, tables of older code."""

from pathlib import Path

import numpy as np
import pandas as pd

from src.names import is_outsider
from src.results import load_facts, load_table
from src.tables.texture_shape.conflicts import cues, shape_bias, validated

PIXELS = "nearest in pixels"  # a judge that takes the class of the image whose pixels are nearer


def stored_conflicts(folder: str | Path) -> pd.DataFrame:
    """The table cue_conflict of a folder, with the column painter; errors as of `load_table`.

    In tables of older code one network painted all stylised images: the parameter style_model of their facts.
    """
    table = load_table(folder, "03_texture_shape", "cue_conflict")
    if "painter" in table:
        return table
    painter = load_facts(folder, "03_texture_shape", "cue_conflict")["parameters"].get("style_model", "cnn")
    return table.assign(painter=np.where(table["condition"] == "stylised", painter, ""))


def stored_cutouts(folder: str | Path) -> pd.DataFrame:
    """The cut-outs of a folder's cue conflicts, and what each answer is worth: sample_id (the pair) and value.

    value: 1 for the shape, -1 for the texture, 0 for neither.  Raises FileNotFoundError, with the notebook to run, for
    tables without cut-outs, the one kind of conflict on which rules that follow one cue are told apart, and for those
    whose rules were not.
    """
    table = stored_conflicts(folder)
    table = table[table["condition"] == "cutout"]
    verdicts = validated(load_table(folder, "03_texture_shape", "calibration"))
    if table.empty or not verdicts.loc[verdicts["condition"] == "cutout", "valid"].any():
        why = "no cut-outs" if table.empty else "cut-outs on which a rule of shape or texture failed its check"
        raise FileNotFoundError(
            f"the cue conflicts of {Path(folder).name} have {why}, and no other kind is validated: no shape bias. "
            "Run 03_texture_shape_bias.ipynb to make it."
        )
    return table.assign(sample_id=table["pair"], value=cues(table).astype(float))


def by_outsiders(table: pd.DataFrame) -> pd.DataFrame:
    """The cue conflicts without the stylised images of painters that are compared themselves.

    >>> table = pd.DataFrame(dict(condition=["phase", "stylised", "stylised"], painter=["", "cnn", "random filters"]))
    >>> by_outsiders(table)["painter"].tolist()
    ['', 'random filters']
    """
    if "painter" not in table:
        return table
    return table[(table["condition"] != "stylised") | table["painter"].map(is_outsider)]


def painter_matrix(table: pd.DataFrame, *, among: str = "own", **options) -> pd.DataFrame:
    """What every judge makes of every painter's stylised images: a row for each painter and judge, outsiders first.

    table: cue conflicts with the column painter, one training seed.  among, options: of `shape_bias`.
    Columns: painter, outsider, judge, own (the judge painted these images itself), n, shape, texture, neither (shares
    of n), excess = shape - texture, low, high (of the excess, bootstrap over pairs).  Where the table says which source
    each image is nearer to, the judge PIXELS follows: what a rule that sees pixels alone would score, over all pairs.

    >>> pairs = dict(condition="stylised", shape_label=0, texture_label=1, prediction=[0, 1], pair=[0, 1])
    >>> painter_matrix(pd.DataFrame(pairs | dict(model="cnn", painter="cnn")))[["own", "excess"]].to_numpy().tolist()
    [[True, 0.0]]
    """
    table = table[table["condition"] == "stylised"]
    parts = [shape_bias(table, by=["painter", "model"], among=among, **options)]
    if "nearest" in table:
        first = table[table["model"] == table["model"].iloc[0]] if len(table) else table
        answers = np.where(first["nearest"] == "shape", first["shape_label"], first["texture_label"])
        rule = first.assign(model=PIXELS, prediction=answers)
        parts.append(shape_bias(rule, by=["painter", "model"], among="all pairs", **options))
    rows = pd.concat(parts, ignore_index=True).rename(columns={"model": "judge"})
    rows = rows.assign(outsider=rows["painter"].map(is_outsider), own=rows["painter"] == rows["judge"])
    for cue in ("shape", "texture"):
        rows[cue] = rows[cue] / rows["n"]
    rows = rows.drop(columns=["low", "high"]).rename(columns={"excess_low": "low", "excess_high": "high"})
    painters = sorted(table["painter"].unique(), key=is_outsider, reverse=True)
    rows["painter"] = pd.Categorical(rows["painter"], painters)
    rows = rows.sort_values("painter", kind="stable", ignore_index=True).astype({"painter": str})
    rows["neither"] = 1 - rows["shape"] - rows["texture"]
    return rows[["painter", "outsider", "judge", "own", "n", "shape", "texture", "neither", "excess", "low", "high"]]
