"""Two folders of tables side by side, as text and as one self-contained page: python -m workflow.compare A B

A and B are results/<data set> or runs/<run>; the page goes to runs/comparisons/<A>_<B>.html.
"""

import argparse
import io
import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from src import paths, plotting
from src.files import written_whole
from src.names import slug
from src.runs import find_tables, load_run
from src.tables import compare
from workflow import leaderboard
from workflow.embedding import Picture, embed_pixels, environment


def build_page(table: pd.DataFrame, facts: pd.DataFrame, *, a: str, b: str, dataset: str) -> str:
    """The page as HTML; table: of `compare.compare`, facts: of `compare.differing_facts`, a and b: names."""
    template = environment().get_template("compare.html.j2")
    return template.render(
        a=a,
        b=b,
        dataset=dataset,
        summary=compare.summary(table),
        sections=[section_of(name, part) for name, part in table.groupby("experiment") if part["difference"].count()],
        alone=compare.alone(compare.only_in_one(table)),
        facts=facts.to_dict("records"),
    )


def section_of(experiment: str, rows: pd.DataFrame) -> dict:
    """What the page says of one experiment."""
    changed = compare.largest(rows, len(rows))
    n, differ = int(rows["difference"].count()), int(rows["differs"].sum())
    if changed.empty:
        said = f"Nothing differs: all {n:,} rows are equal."
    else:
        said = f"{len(changed):,} of {n:,} rows are not equal; {differ or 'none'} count as different after Holm."
    return dict(
        name=experiment,
        said=said,
        figure=figure_of(rows) if len(changed) else None,
        caption=f"{experiment}: the largest differences, B − A, with 95 % intervals.",
        rows=[
            compare.numbers_of(row) | dict(label=compare.label_of(row), differs=row["differs"])
            for _, row in changed.iterrows()
        ],
    )


def figure_of(rows: pd.DataFrame) -> Picture:
    """`plotting.compare.differences` as a picture to embed."""
    plotting.use_style()
    figure, file = plotting.compare.differences(rows), io.BytesIO()
    figure.savefig(file, format="png", dpi=220)
    plt.close(figure)
    return embed_pixels(file.getvalue())


def as_text(table: pd.DataFrame, *, at_most: int = 3) -> list[str]:
    """The summary, the largest differences of each experiment, and what one folder alone has."""
    lines = compare.summary(table)
    for experiment, rows in table.groupby("experiment"):
        lines += [
            f"{experiment}: {compare.sentence(row)}"
            for _, row in compare.largest(rows, at_most, each=compare.EACH).iterrows()
        ]
    return lines + compare.alone(compare.only_in_one(table))


def page_path(a: Path, b: Path) -> Path:
    """Where the page of two folders goes; it has no run.json beside it, so that it is no run."""
    names = [slug(str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path)) for path in (a, b)]
    return paths.RUNS / "comparisons" / f"{names[0]}_{names[1]}.html"


def main() -> None:
    parser = argparse.ArgumentParser("make compare", usage="make compare A=results/cifar10 B=runs/mine")
    parser.add_argument("a", help="a folder of tables, such as results/cifar10")
    parser.add_argument("b", help="another on the same images, such as runs/mine")
    parser.add_argument("--out", type=Path, help="of the page (default: runs/comparisons/<A>_<B>.html)")
    asked = parser.parse_args()
    try:
        a, b = find_tables(asked.a), find_tables(asked.b)
        table, facts = compare.compare(a, b), compare.differing_facts(a, b)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    page = build_page(table, facts, a=asked.a, b=asked.b, dataset=load_run(a)["dataset"])
    out = asked.out or page_path(a, b)
    with written_whole(out) as partial:
        partial.write_text(page, encoding="utf-8")
    leaderboard.main()
    print("\n".join(as_text(table)))
    print(f"page: {out.relative_to(paths.ROOT) if out.is_relative_to(paths.ROOT) else out}")


if __name__ == "__main__":
    main()
