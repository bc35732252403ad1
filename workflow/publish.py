"""Put the tables of a run into results/<data set>/, as nothing else does: python -m workflow.publish RUN

A run of other networks than the study's own goes beside it: --to cifar10_controls.

Nothing is copied unless every table of the run is whole and was made by today's code.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

from src import paths
from src.files import sha256, written_whole
from src.names import check_run, slug
from src.results import NOTEBOOKS, load_facts, load_table
from src.runs import code_hash, find_tables, load_run

DATA = ("checksum", "classes")  # facts of the images in run.json


def problems_of(folder: Path) -> list[str]:
    """Why the tables of a run cannot be published: nothing, if all are whole and of one state of the code."""
    problems = []
    for experiment in experiments_of(folder):
        today = code_hash(NOTEBOOKS[experiment])
        names = [path.stem for path in (folder / experiment).glob("*.parquet")]
        parts = [name for name in names if re.search(r"\.\d+of\d+$", name)]
        if parts:
            problems.append(f"{experiment} has parts that are not put together, as {min(parts)}; let the run end")
        for name in sorted(set(names) - set(parts)):
            try:
                load_table(folder, experiment, name)
                code = load_facts(folder, experiment, name)["provenance"].get("code")
            except (FileNotFoundError, ValueError) as error:
                problems.append(str(error))
            else:
                if code != today:
                    problems.append(f"{experiment}/{name} was made by other code than today's; make the run again")
    return problems


def experiments_of(folder: Path) -> list[str]:
    return [experiment for experiment in NOTEBOOKS if any((folder / experiment).glob("*.parquet"))]


def publish(run: str, to: str = "") -> list[str]:
    """Copy the tables of a run to results/<data set>; returns a line for each file: new, replaced, as before, removed.

    to: another folder of results/.
    Experiments that the run has are replaced whole; others stay.  Raises FileNotFoundError for an unknown run and
    ValueError for one that cannot be published, with every reason.
    """
    folder = find_tables(paths.RUNS / check_run(run))
    about, experiments = load_run(folder), experiments_of(folder)
    if not experiments:
        raise ValueError(f"run {run!r} holds no tables")
    if problems := problems_of(folder):
        raise ValueError(f"run {run!r} is not published:\n  " + "\n  ".join(problems))
    target, said = paths.RESULTS / (check_run(to) if to else slug(about["dataset"])), []
    if target.exists() and not (target / "run.json").exists():
        raise ValueError(f"results/{target.name} holds no tables of a run; take another name")
    if target.exists() and any(load_run(target)["data"].get(key) != about["data"].get(key) for key in DATA):
        raise ValueError(f"results/{target.name} holds tables of other images or classes; take another name, with TO=")
    for experiment in experiments:
        new = {path.name for path in (folder / experiment).iterdir() if path.suffix in (".parquet", ".json", ".npz")}
        old = {path.name for path in (target / experiment).glob("*") if path.is_file()}
        for name in sorted(new | old):
            source, place = folder / experiment / name, target / experiment / name
            if name not in new:
                place.unlink()
                said.append(f"removed   {experiment}/{name}")
                continue
            same = name in old and sha256(source) == sha256(place)
            said.append(f"{'as before' if same else 'replaced ' if name in old else 'new      '} {experiment}/{name}")
            copy(source, place)
    copy(folder / "run.json", target / "run.json")
    return said


def copy(source: Path, place: Path) -> None:
    with written_whole(place) as partial:
        shutil.copyfile(source, partial)


def main() -> None:
    usage = "make publish RUN=name [TO=folder]"
    parser = argparse.ArgumentParser("make publish", usage=usage, description=__doc__.split(":")[0])
    parser.add_argument("run", help="the name of a run, a folder under runs/")
    parser.add_argument("--to", default="", help="a folder under results/ (default: the run's data set)")
    asked = parser.parse_args()
    try:
        print("\n".join(publish(asked.run, asked.to)))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
