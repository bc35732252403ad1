"""Agreement at matched depth under each choice of what "the layers" of a network are."""

from collections.abc import Sequence

import pandas as pd

from src.tables.cka.depth import compare_at_depth
from src.tables.cka.hsic import EXAMPLE  # noqa: F401 -- EXAMPLE is of the docstrings


def by_choice(rows: pd.DataFrame, models: Sequence[str], **options) -> pd.DataFrame:
    """`compare_at_depth` of every two architectures under each choice of the layers.

    rows: of `cka.choices_table`.  options: of `compare_at_depth`.  Columns: choice, those of `compare_at_depth` but for
    layers ("depth" alone; "trained", "untrained" and "excess"), and same_as: an earlier choice that is the same layers
    of both networks, so that the two numbers are one; else "".

    >>> layers = dict(index_a=[0, 1], index_b=[0, 1], cross=[0.3, 0.5], batch=0)
    >>> rows = pd.concat(pd.DataFrame(EXAMPLE | layers | dict(choice=choice)) for choice in ("states", "outputs"))
    >>> by_choice(rows, ["mlp", "cnn"])[["choice", "what", "value", "same_as"]].values.tolist()
    [['states', 'trained', 0.5, ''], ['outputs', 'trained', 0.5, 'states']]
    """
    parts, earlier = [], {}
    for choice, part in rows.groupby("choice", sort=False):
        table = compare_at_depth(part, models, **options)
        kept = table["what"].isin(["trained", "untrained", "excess"]) & (table["layers"] == "depth")
        table = table[kept & table["pair"].map(lambda pair: len(set(pair.split("–"))) > 1)]
        layers = {pair: _layers(part, *pair.split("–")) for pair in table["pair"].unique()}
        same = {
            pair: next((other for other, of in earlier.items() if of.get(pair) == layers[pair]), "") for pair in layers
        }
        parts.append(table.assign(choice=choice, same_as=table["pair"].map(same)))
        earlier[choice] = layers
    columns = ["choice", *(name for name in parts[0] if name not in ("choice", "layers"))]
    return pd.concat(parts, ignore_index=True)[columns]


def range_over_choices(table: pd.DataFrame, *, choice: str = "states") -> pd.DataFrame:
    """How far the choice of the layers moves each number, beside how far images and seeds do.

    table: of `by_choice`.  Columns: measure, pair, what, value, low, high (of `choice`), least, most (of the values
    over all choices), times (how many times the width of that interval the range is).

    >>> table = pd.DataFrame(dict(measure="CKA", pair="mlp–cnn", what="excess", choice=["states", "added"],
    ...                           value=[0.1, -0.2], low=[0.0, -0.3], high=[0.2, -0.1]))
    >>> range_over_choices(table)[["value", "least", "most", "times"]].round(3).values.tolist()
    [[0.1, -0.2, 0.1, 1.5]]
    """
    keys = ["measure", "pair", "what"]
    found = table.groupby(keys, sort=False)["value"].agg(least="min", most="max").reset_index()
    own = table.loc[table["choice"] == choice, [*keys, "value", "low", "high"]]
    joined = own.merge(found, on=keys)
    return joined.assign(times=(joined["most"] - joined["least"]) / (joined["high"] - joined["low"]))


def _layers(rows: pd.DataFrame, a: str, b: str) -> list[tuple]:
    """The layers of two models that meet each other, in order."""
    own = rows[rows["model_a"].isin([a, b]) & rows["model_b"].isin([a, b]) & (rows["model_a"] != rows["model_b"])]
    names = ["model_a", "layer_a", "model_b", "layer_b"]
    return sorted(own[names].drop_duplicates().itertuples(index=False, name=None))
