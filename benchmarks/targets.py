"""What users wait for against what was aimed at: a row for each target, before and after, from the benchmarks' tables.

    python -m benchmarks.targets --before ../earlier --tables cka attacks    # run in both, on one machine on one day

writes results/benchmarks/targets.csv.  Read are, of this and of an earlier checkout, the executed notebooks of
`make report` and the named tables in results/benchmarks.  What a checkout lacks stays as a machine of the same name
measured it earlier, or is left empty.
`python -m benchmarks.scaling` puts the table into docs/scaling.md.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd

from benchmarks.bench_report import row_of
from src.files import written_whole
from src.paths import RESULTS, ROOT
from src.runtime import provenance

AT_MOST, AT_LEAST = "at most", "at least"
SPEED, PRICE = "times the best peer's speed", "over its passes alone"
TARGETS = {
    "make report, embedded data, s": (AT_MOST, 360),
    "its slowest notebook, s": (AT_MOST, 75),
    "notebook 07, s": (AT_MOST, 15),
    "the slowest first figure, s": (AT_MOST, 30),
    "import src.tables, s": (AT_MOST, 1.5),
    "import src.plotting, s": (AT_MOST, 1.5),
    "import src.attacks, s": (AT_MOST, 4),
    "first batch from memory, s": (AT_MOST, 0.2),
    f"FGSM, cnn: {SPEED}": (AT_LEAST, 3.5),
    f"PGD-5, cnn: {SPEED}": (AT_LEAST, 7),
    f"PGD-5, cnn_robust: {SPEED}": (AT_LEAST, 2.5),
    f"PGD-10, cnn, every step: {SPEED}": (AT_LEAST, 1.3),
    f"APGD-CE-30, cnn: {SPEED}": (AT_LEAST, 4),
    f"PGD-10, cnn, every step: {PRICE}": (AT_MOST, 1.05),
    f"APGD-CE-30, cnn, every step: {PRICE}": (AT_MOST, 1.05),
    "CKA, ResNet-18 with itself: over forward passes": (AT_MOST, 1.15),
    "CKA, ResNet-18 with ViT-tiny: over forward passes": (AT_MOST, 1.3),
    "CKA, ResNet-18 with itself: times pytorch-cka's speed": (AT_LEAST, 1),
    "CKA, ResNet-18 with ViT-tiny: times pytorch-cka's speed": (AT_LEAST, 1),
    **{
        f"{operation}: times kornia's speed": (AT_LEAST, 1)
        for operation in ("grayscale", "occlusion_black", "patch_shuffle", "edges", "low_pass")
    },
}
PAGES = ("runs/embedded/report.html", "report/embedded.html")  # now, and once
BETWEEN = 60  # seconds from one notebook to the next; after more, the run had been interrupted
IMPORTS = 5  # fresh processes, of which the median counts


def of_report(checkout: Path) -> dict[str, float]:
    """Seconds of a checkout's report, when one notebook or several ran and until the page was there; of its notebooks.

    Counted from the first notebook's clock; of a run that was interrupted and went on, without the time between.
    """
    pages = [page for name in PAGES if (page := checkout / name).exists()]
    if not pages:
        return {}
    place = next(path for path in (checkout / "runs/embedded/notebooks", checkout / "report/embedded") if path.is_dir())
    read = {file.stem: nbformat.read(file, as_version=4) for file in sorted(place.glob("0*.ipynb"))}
    rows = pd.DataFrame([row_of(name, notebook) for name, notebook in read.items()]).set_index("notebook")
    clocks = [notebook.metadata["papermill"] for notebook in read.values()]
    spans = sorted(
        [datetime.fromisoformat(clock[f"{end}_time"]).timestamp() for end in ("start", "end")] for clock in clocks
    )
    whole, until = 0.0, spans[0][0]
    last, page = max(end for _, end in spans), pages[0].stat().st_mtime
    for start, end in [*spans, *([[last, page]] if page - last <= BETWEEN else [])]:  # later it was written again
        begins = start if start - until > BETWEEN else until
        whole, until = whole + max(0.0, end - begins), max(until, end)
    return {
        "make report, embedded data, s": whole,
        "its slowest notebook, s": rows["seconds"].max(),
        "notebook 07, s": rows.loc["07_plots", "seconds"],
        "the slowest first figure, s": rows["first_figure"].max(),
    }


def of_imports(checkout: Path) -> dict[str, float]:
    """Seconds to import a package of a checkout in a fresh process, Python's own start included."""
    found = {}
    for package in ("src.tables", "src.plotting", "src.attacks"):
        seconds = []
        for _ in range(IMPORTS):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", f"import {package}"], cwd=checkout, capture_output=True)
            seconds += [time.perf_counter() - start] * (done.returncode == 0)
        if seconds:  # an earlier checkout may have no such package
            found[f"import {package}, s"] = float(np.median(seconds))
    return found


def of_attacks(table: pd.DataFrame) -> dict[str, float]:
    """Speed against the fastest peer, and where no image ends early, against the passes that the steps need."""
    found = {}
    for row in table.to_dict("records"):
        name = f"{row['workload'].partition(',')[0]}, {row['model']}"
        name += {"ours": "", "ours, all steps": ", every step"}.get(row["contender"], ", by another")
        found |= {f"{name}: {SPEED}": row["speed_up_over_best_peer"], f"{name}: {PRICE}": row["ratio_to_floor"]}
    return found


def of_cka(table: pd.DataFrame) -> dict[str, float]:
    """Of all layers of two networks, the rows of most processes."""
    found, most = {}, table[table["runs"] == table["runs"].max()]
    for case, rows in most.groupby("case"):
        times = rows.set_index("contender")["times_forward"]
        found[f"CKA, {case}: over forward passes"] = times["ours"]
        found[f"CKA, {case}: times pytorch-cka's speed"] = times["pytorch-cka"] / times["ours"]
    return found


def of_manipulations(table: pd.DataFrame) -> dict[str, float]:
    rows = table[table["contender"] == "kornia"]
    return {f"{row.operation}: times kornia's speed": row.speed_up_of_ours for row in rows.itertuples()}


def of_loaders(table: pd.DataFrame) -> dict[str, float]:
    return {"first batch from memory, s": table.set_index("loader").loc["memory", "first_batch_s"]}


# file -> its reader; manipulations and loaders were once the names of the last two
FILES = {"attacks": of_attacks, "cka": of_cka, "texture_shape": of_manipulations, "manipulations": of_manipulations}
FILES |= {"data": of_loaders, "loaders": of_loaders}


def measured(checkout: Path, names: Sequence[str]) -> dict[str, float]:
    """What a checkout's tables say, those of `names`; of its report and its imports besides."""
    found = of_report(checkout) | of_imports(checkout)
    for name in names:
        path = checkout / "results" / "benchmarks" / f"{name}.csv"
        found |= FILES[name](pd.read_csv(path)) if path.exists() else {}
    return found


def with_earlier(table: pd.DataFrame, earlier: pd.DataFrame) -> pd.DataFrame:
    """The table with what it lacks from `earlier`, of the same device and CPUs; rows without news keep their time."""
    of_this = earlier.merge(table[["device", "cpus"]].drop_duplicates()).set_index("what")
    new = table[["before", "after"]].notna().any(axis=1)
    old = {name: table["what"].map(of_this[name]) for name in ("before", "after", "time")}
    filled = {name: table[name].fillna(old[name]) for name in ("before", "after")}
    return table.assign(**filled, time=old["time"].mask(new).fillna(table["time"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an earlier state")
    parser.add_argument("--after", type=Path, default=ROOT, help="by default this one")
    parser.add_argument("--tables", nargs="+", choices=FILES, default=[], help="made on this machine, on this day")
    asked = parser.parse_args()
    facts = provenance("cpu")
    before, after = (measured(checkout, asked.tables) for checkout in (asked.before, asked.after))
    rows = [
        dict(what=what, aim=aim, target=target, before=before.get(what, np.nan), after=after.get(what, np.nan))
        for what, (aim, target) in TARGETS.items()
    ]
    table = pd.DataFrame(rows).assign(device=facts["device"], cpus=facts["cpus"], time=facts["time"])
    place = RESULTS / "benchmarks" / "targets.csv"
    if place.exists():
        table = with_earlier(table, pd.read_csv(place))
    reached = np.where(table["aim"] == AT_MOST, table["after"] <= table["target"], table["after"] >= table["target"])
    table.insert(5, "reached", np.where(table["after"].isna(), "not measured", np.where(reached, "yes", "no")))
    print(table.drop(columns=["device", "cpus", "time"]).to_string(index=False, float_format="%.3g"))
    with written_whole(place) as path:
        table.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
