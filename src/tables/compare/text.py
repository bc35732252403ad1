"""A comparison in words: what a row is of, sentences for the largest differences, and what one folder alone has."""

from collections.abc import Sequence

import pandas as pd

from src.tables.compare.samples import COUNTS, MEASURES

EACH = ("table", "model", "model_seed", "condition", "source", "other", "measure")


def largest(table: pd.DataFrame, n: int, *, each: Sequence[str] = ()) -> pd.DataFrame:
    """The n rows of `compare` that say most: those that differ, then the largest differences; none that are 0.

    each: columns by which only the first is kept, as EACH for one row of all radii or levels.

    >>> rows = pd.DataFrame(dict(difference=[0.0, 0.2, -0.1], differs=[False, False, True]))
    >>> largest(rows, 2)["difference"].tolist()
    [-0.1, 0.2]
    """
    moved = table[table["difference"].notna() & table["difference"].ne(0)]
    order = moved.assign(size=moved["difference"].abs()).sort_values(["differs", "size"], ascending=False)
    kept = order.drop_duplicates(list(each)) if each else order
    return moved.loc[kept.index[:n]]


def label_of(row: pd.Series) -> str:
    """Measure, model and condition of a row in a few words.

    >>> label_of(pd.Series(dict(table="cnn", measure="accuracy", model="cnn", model_seed=1, condition="pgd", eps=0.5)))
    'accuracy · cnn, seed 1 · pgd, eps 0.5'
    """
    model = str(row["model"]) + f", seed {row['model_seed']}" * bool(row["model_seed"])
    if "other" in row and pd.notna(row["other"]):
        model += f" with {row['other']}" + f", seed {row['other_seed']:g}" * bool(row["other_seed"])
    where = [str(row["condition"])] + ["of the audit"] * (row["table"] == "audit")
    said = dict(eps="eps {:.3g}", level="level {:g}", source="made on {}", threads="threads: {:g}")
    said |= dict(batch_size="batch of {:g}", sweep="{}")
    where += [form.format(row[name]) for name, form in said.items() if name in row and pd.notna(row[name])]
    return " · ".join([row["measure"], model, ", ".join(where)])


def numbers_of(row: pd.Series) -> dict[str, str]:
    """For print: a, b, difference, interval, n and p of a row, in its units."""
    how, exact = MEASURES[row["measure"]], row["measure"] in COUNTS.values()
    percent, unit = how.unit == "points", f" {how.unit}".rstrip()
    a, b = (f"{x:,.0f}" if exact else f"{100 * x:.2f} %" if percent else f"{x:.4g}" for x in (row["a"], row["b"]))
    change, low, high = (
        f"{how.scale * row[name]:+.2f}" if how.scale > 1 else f"{row[name]:+.3g}"
        for name in ("difference", "low", "high")
    )
    interval = "exact" if exact else "no interval" if pd.isna(row["low"]) else f"[{low}, {high}]"
    lot = f"{row['n']:,} pairs" if row["paired"] else f"{row['n_a']:,} and {row['n_b']:,}, not paired"
    p = "not tested" if pd.isna(row["p_holm"]) else "< 0.0001" if row["p_holm"] < 1e-4 else f"{row['p_holm']:.2g}"
    return dict(a=a, b=b, difference=change + unit, interval=interval, n="counted" if exact else lot, p=p)


def sentence(row: pd.Series) -> str:
    """A row of `compare` with its interval and what it rests on."""
    of = numbers_of(row)
    tested = of["p"] if of["p"] == "not tested" else f"p {'' if of['p'][0] == '<' else '= '}{of['p']} after Holm"
    return f"{label_of(row)}: {of['a']} in A, {of['b']} in B, {of['difference']} {of['interval']} ({of['n']}; {tested})"


def summary(table: pd.DataFrame) -> list[str]:
    """How many rows were compared, tested and differ, or that nothing does."""
    both, tested = table[table["difference"].notna()], table["p_holm"].notna()
    exact = int((table["differs"] & ~tested).sum())
    told = int((table["differs"] & tested).sum())
    lines = [
        f"{len(both):,} rows are in both, {int(both['paired'].sum()):,} of them in pairs; "
        f"{int(tested.sum()):,} were tested, as one family."
    ]
    if told or exact:
        lines.append(
            f"{told:,} differ after Holm's correction, at 0.05"
            + f"; exact counts that differ: {exact:,}" * (exact > 0)
            + "."
        )
    elif both["difference"].fillna(0).eq(0).all():
        lines.append("Nothing differs: every difference is 0." if len(both) else "Nothing is in both.")
    else:
        lines.append("Nothing differs after Holm's correction, at 0.05.")
    times = both[both["measure"].eq("time") & both["difference"].ne(0)]
    if len(times):
        lines.append(
            f"Times are of two runs of the clock and are not tested: the median changed by "
            f"{100 * times['difference'].min():+.0f} % to {100 * times['difference'].max():+.0f} %."
        )
    return lines


def alone(rows: pd.DataFrame) -> list[str]:
    """A line for each row of `only_in_one`.

    >>> row = dict(side="A", experiment="02_attacks", table="cnn", model="cnn", model_seed=0, condition="pgd")
    >>> alone(pd.DataFrame([row | dict(part=True, rows=3)]))
    ['only in A: 02_attacks/cnn, cnn, seed 0, pgd, at some settings (3 rows)']
    """
    lines = []
    for row in rows.itertuples():
        parts = [f"{row.experiment}/{row.table}" if pd.notna(row.table) else row.experiment]
        if pd.notna(row.model):
            parts += [str(row.model), f"seed {row.model_seed:g}"]
        parts += [str(row.condition)] * pd.notna(row.condition) + ["at some settings"] * bool(row.part)
        lines.append(f"only in {row.side}: {', '.join(parts)} ({row.rows:,} rows)")
    return lines
