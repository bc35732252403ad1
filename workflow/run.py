"""Run the graph of notebooks, one run at a time of a data set: python -m workflow.run, with Snakemake's arguments.

Snakemake's own lock outlives a process that is killed, and the next run would have to be told to break it. A lock of
the operating system ends with the process that holds it, however that ends, so the next run simply goes on.
"""

import fcntl
import os
import sys
from pathlib import Path

import yaml

from src.paths import ROOT


def main() -> None:
    config = sys.argv[sys.argv.index("--configfile") + 1]
    dataset = yaml.safe_load(Path(config).read_text())["dataset"]  # each has results of its own
    path = ROOT / ".snakemake" / f"{dataset}.lock"
    path.parent.mkdir(exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another run of the study on {dataset} is going on in {ROOT}; wait for it, or stop it")
    os.set_inheritable(lock, True)  # held on by Snakemake, which takes this process over
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:], "--nolock", "--rerun-incomplete"])


if __name__ == "__main__":
    main()
