"""Judge the claims of docs/hypotheses.md by the published tables: python -m workflow.claims, or `make claims`

Writes results/claims.parquet, docs/claims.md and what the README says was found, in under a minute and without torch.
"""

from pathlib import Path

import jinja2
import pandas as pd

from src import paths
from src.files import written_whole
from src.plotting.style import DATASETS
from src.tables.claims import CONTROLS, SEEDS, STATEMENTS, judge_claims
from src.tables.claims.judged import names_of, told, undone_by
from src.tables.profile import AXES, MODELS, profile, summarise
from workflow.gallery import README, between, label, listed

FOLDERS = {"base": "cifar10", "controls": "cifar10_controls", "other": "fashion_mnist"}
TABLE, PAGE = paths.RESULTS / "claims.parquet", paths.ROOT / "docs" / "claims.md"
VERDICTS = {
    "architecture": "Held with three seeds, at matched accuracy both ways, under both recipes and on other data:",
    "these networks": "Held as trained; a control is missing or open, so it speaks of these networks alone:",
    "accuracy": "Held as trained, and vanishes at matched accuracy: what it shows is the accuracy.",
    "recipe": "Held as trained, and vanishes under another recipe: what it shows is the recipe.",
    "accuracy and recipe": "Held as trained, and vanishes under a match of the accuracy and under another recipe:",
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
    "accuracy and recipe": "vanished under both",
    "refuted": "refuted",
    "open": "open",
    "not run": "not measured yet",
}
# what concludes something first; a finding of these networks alone last
HEADS = {
    "architecture": "Architecture",
    "accuracy": "Accuracy, not architecture",
    "recipe": "Recipe, not architecture",
    "accuracy and recipe": "Not at every accuracy, nor under every recipe",
    "refuted": "Expected, and refuted",
    "these networks": "These networks",
}
N_FINDINGS = 8  # told in the README


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
    left = {row["text"]: left_of(row) for row in table.to_dict("records")}
    shown = dict(by_verdict=by_verdict, said=said, left=left, controls=[SEEDS, *CONTROLS], table=table)
    shown |= dict(settled={row["text"]: settled_by(row) for row in table.to_dict("records")})
    return template.render(**shown, named=dict(zip(table["text"], names_of(table), strict=True)))


def with_findings(readme: str, table: pd.DataFrame) -> str:
    """The README with what was found as the table of `judge_claims` has it, and who leads on each axis."""
    counts = table["verdict"].value_counts()
    summed = listed([f"{counts[verdict]} {SHORT[verdict]}" for verdict in VERDICTS if counts.get(verdict)])
    lines = [
        f"- **{HEADS[row['verdict']]}.** {row['text']}: {number_of(row)}{left_of(row)}." for row in findings(table)
    ]
    told = f"Of {len(table)} statements written down before the tables that judge them: {summed}. Those that say most:"
    return between(readme, MARKS, "\n\n".join([MARKS[0], told, "\n".join(lines), leads(), MARKS[1]]))


def findings(table: pd.DataFrame) -> list[dict]:
    """At most N_FINDINGS rows, one of each measure and verdict, by verdict as in HEADS.

    All of architectures and the first of every other verdict come before the second of any; of one verdict that comes
    first which most controls hold, or, of the refuted, turn round.
    """
    table = table[table["verdict"].isin(HEADS)]
    kinds = {statement.text: statement.kind for statement in STATEMENTS}
    states, refuted = table[["state", SEEDS, *CONTROLS]], table["verdict"] == "refuted"
    held = (states == "holds").sum(axis=1).where(~refuted, (states == "reversed").sum(axis=1))
    order = table.assign(measure=table["text"].map(kinds), held=-held, place=table["verdict"].map([*HEADS].index))
    order = order.sort_values(["place", "held"], kind="stable").drop_duplicates(["measure", "verdict"])
    turns = order.groupby("verdict").cumcount().where(order["verdict"] != "architecture", 0).sort_values(kind="stable")
    return order[order.index.isin(turns.index[:N_FINDINGS])].to_dict("records")


def leads() -> str:
    """Who is ahead on each axis that has a better side, on each data set with published tables, in Markdown."""
    cells, attacked = {}, []
    for folder, dataset in DATASETS.items():
        summary, _ = summarise(profile(paths.RESULTS / folder, MODELS)[0], MODELS)
        for axis, part in summary[summary["rank"].notna()].groupby("axis", sort=False):
            tied = [" = ".join(map(label, same["model"])) for _, same in part.groupby("rank")]
            cells.setdefault(AXES[axis].label, {})[dataset] = " > ".join(tied)
            attacked += [f"{part['n'].iloc[0]:.0f}"] if axis == "robustness" else []
    table = pd.DataFrame.from_dict(cells, orient="index").rename_axis("the better first").fillna("–")
    legend = "`>`: surely behind one of those before it; `=`: not. Paired tests, one Holm family at 5 % a data set. "
    legend += f"The worst case is that of the ensemble at 2/255, on {listed(attacked)} images."
    return f"{table.to_markdown()}\n\n{legend}"


def number_of(row: dict) -> str:
    """Value and interval of a statement as trained in its unit, n and seeds; "–" where there is none."""
    if pd.isna(row["value"]):
        return "–"
    value, low, high = (told(row, end) for end in ("value", "low", "high"))
    seeds = f"{row['n_seeds']:.0f} seed{'s' * (row['n_seeds'] > 1)}"
    return f"{value} [{low}, {high}] {row['unit']}, n = {int(row['n']):,} {row['counted']}, {seeds}"


def settled_by(row: dict) -> str:
    """What would settle an open statement; "" for others, and where the tables cannot say.

    >>> settled_by(dict(needed=1234.0, needed_seeds=7.0, counted="images"))
    '; 1,234 images and 7 seeds would settle it with a chance of 80 %, if the number is the truth'
    """
    parts = [(row["needed"], row["counted"]), (row["needed_seeds"], "seeds")]
    told = " and ".join(f"{int(number):,} {counted}" for number, counted in parts if not pd.isna(number))
    return f"; {told} would settle it with a chance of 80 %, if the number is the truth" if told else ""


def left_of(row: dict) -> str:
    """What is left of a statement that held as trained under each control that undid it, and where it holds too."""
    if row["state"] != "holds":
        return ""
    numbers = {name: [told(row, end, name) for end in ("value", "low", "high")] for name in undone_by(row)}
    left = "".join(f"; {name}: {value} [{low}, {high}]" for name, (value, low, high) in numbers.items())
    held = [name for name in (SEEDS, *CONTROLS) if row[name] == "holds"]
    return left + f"; holds too: {', '.join(held)}" * bool(held)


if __name__ == "__main__":
    main()
