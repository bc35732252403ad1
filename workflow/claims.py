"""Judge the claims of docs/hypotheses.md by the published tables: python -m workflow.claims, or `make claims`

Writes results/claims.parquet and docs/claims.md, in under a minute and without torch.
"""

from pathlib import Path

import jinja2
import pandas as pd

from src import paths
from src.files import written_whole
from src.tables.claims import CONTROLS, SEEDS, judge_claims
from src.tables.claims.judged import OPEN

FOLDERS = {"base": "cifar10", "controls": "cifar10_controls", "other": "fashion_mnist"}
TABLE, PAGE = paths.RESULTS / "claims.parquet", paths.ROOT / "docs" / "claims.md"
VERDICTS = {
    "architecture": "Held with three seeds, at matched accuracy both ways, under both recipes and on other data:",
    "these networks": "Held as trained; a control is missing or open, so it speaks of these networks alone:",
    "accuracy": "Held as trained, and not at matched accuracy: what it shows is the accuracy.",
    "recipe": "Held as trained, and not under another recipe: what it shows is the recipe.",
    "accuracy and recipe": "Held as trained, and neither at matched accuracy nor under another recipe:",
    "refuted": "Expected, and refuted:",
    "open": "Open; more images than promised, or more seeds, would have to tell:",
    "not run": "Not measured yet, as a table is missing:",
}


def main() -> None:
    table = judge_claims(folders())
    with written_whole(TABLE) as partial:
        table.to_parquet(partial)
    with written_whole(PAGE) as partial:
        partial.write_text(as_page(table), encoding="utf-8")
    print(table["verdict"].value_counts().to_string())


def folders() -> dict[str, Path]:
    """The published tables that are there, as `judge_claims` takes them."""
    return {name: paths.RESULTS / folder for name, folder in FOLDERS.items() if (paths.RESULTS / folder).is_dir()}


def as_page(table: pd.DataFrame) -> str:
    """docs/claims.md from the table of `judge_claims`."""
    said = {row["text"]: number_of(row) for row in table.to_dict("records")}
    by_verdict = [(verdict, words, table[table["verdict"] == verdict]) for verdict, words in VERDICTS.items()]
    template = jinja2.Template((Path(__file__).parent / "claims.md.j2").read_text(), trim_blocks=True)
    shown = dict(by_verdict=by_verdict, said=said, controls=[SEEDS, *CONTROLS], table=table, still_open=OPEN)
    return template.render(**shown, named=dict(zip(table["text"], names_of(table), strict=True)))


def names_of(table: pd.DataFrame) -> list[str]:
    """C1, C2, …; C10a, C10b where a claim has several statements."""
    place, many = table.groupby("claim").cumcount(), table.groupby("claim")["claim"].transform("size") > 1
    return [name + "abcdefghi"[i] * several for name, i, several in zip(table["claim"], place, many, strict=True)]


def number_of(row: dict, control: str = "") -> str:
    """Value and interval of a statement as trained or under a control, in its unit; "–" where there is none."""
    value, low, high = (row.get(f"{control} {end}".strip()) for end in ("value", "low", "high"))
    if value is None or pd.isna(value):
        return "–"
    digits = 1 if row["scale"] == 100 else 2
    return "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*(row["scale"] * x for x in (value, low, high)), d=digits)


if __name__ == "__main__":
    main()
