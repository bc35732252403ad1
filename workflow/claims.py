"""Judge the claims of docs/hypotheses.md by the published tables: python -m workflow.claims, or `make claims`

Writes results/claims.parquet, docs/claims.md and what the README says was found, in under a minute and without torch.
"""

from pathlib import Path

import jinja2
import pandas as pd

from src import paths
from src.files import written_whole
from src.tables.claims import CONTROLS, SEEDS, judge_claims
from src.tables.claims.judged import told
from workflow.gallery import README, between, listed

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
MARKS = "<!-- findings: written by `make claims` -->", "<!-- end of the findings -->"
SHORT = {
    "architecture": "held for the architectures under all controls",
    "these networks": "held for these networks, some control missing or open",
    "accuracy": "vanished at matched accuracy",
    "recipe": "vanished under another recipe",
    "accuracy and recipe": "vanished under either",
    "refuted": "refuted",
    "open": "open",
    "not run": "not measured yet",
}
HEADS = {
    "architecture": "Of the architectures: held over seeds, recipes, accuracy and data",
    "these networks": "Of these networks, until the controls are in",
    "refuted": "Expected, and refuted",
}


def main() -> None:
    table = judge_claims(folders())
    with written_whole(TABLE) as partial:
        table.to_parquet(partial)
    with written_whole(PAGE) as partial:
        partial.write_text(as_page(table), encoding="utf-8")
    with written_whole(README) as partial:
        partial.write_text(with_findings(README.read_text(encoding="utf-8"), table), encoding="utf-8")
    print(table["verdict"].value_counts().to_string())


def folders() -> dict[str, Path]:
    """The published tables that are there, as `judge_claims` takes them."""
    return {name: paths.RESULTS / folder for name, folder in FOLDERS.items() if (paths.RESULTS / folder).is_dir()}


def as_page(table: pd.DataFrame) -> str:
    """docs/claims.md from the table of `judge_claims`."""
    said = {row["text"]: number_of(row) for row in table.to_dict("records")}
    by_verdict = [(verdict, words, table[table["verdict"] == verdict]) for verdict, words in VERDICTS.items()]
    template = jinja2.Template((Path(__file__).parent / "claims.md.j2").read_text(encoding="utf-8"), trim_blocks=True)
    shown = dict(by_verdict=by_verdict, said=said, controls=[SEEDS, *CONTROLS], table=table)
    return template.render(**shown, named=dict(zip(table["text"], names_of(table), strict=True)))


def with_findings(readme: str, table: pd.DataFrame) -> str:
    """The README with what was found as the table of `judge_claims` has it: a sentence a claim, under its verdict."""
    counts = table["verdict"].value_counts()
    summed = listed([f"{counts[verdict]} {SHORT[verdict]}" for verdict in VERDICTS if counts.get(verdict)])
    parts = [MARKS[0], f"Of {len(table)} statements written down before they were measured: {summed}."]
    for verdict in ("architecture", "these networks", "refuted"):
        rows = table[table["verdict"] == verdict]
        lines = [f"- {row['text']}: {number_of(row)}." for row in rows.to_dict("records")]
        parts += [f"**{HEADS[verdict]}**", "\n".join(lines)] if lines else []
    return between(readme, MARKS, "\n\n".join([*parts, MARKS[1]]))


def names_of(table: pd.DataFrame) -> list[str]:
    """C1, C2, …; C10a, C10b where a claim has several statements."""
    place, many = table.groupby("claim").cumcount(), table.groupby("claim")["claim"].transform("size") > 1
    return [name + "abcdefghi"[i] * several for name, i, several in zip(table["claim"], place, many, strict=True)]


def number_of(row: dict) -> str:
    """Value and interval of a statement as trained in its unit, n and seeds; "–" where there is none."""
    if pd.isna(row["value"]):
        return "–"
    value, low, high = (told(row, end) for end in ("value", "low", "high"))
    seeds = f"{row['n_seeds']:.0f} seed{'s' * (row['n_seeds'] > 1)}"
    return f"{value} [{low}, {high}] {row['unit']}, n = {int(row['n']):,} {row['counted']}, {seeds}"


if __name__ == "__main__":
    main()
