"""Run the graph of notebooks, one graph at a time of a run: python -m workflow.run, with Snakemake's arguments.

A line is printed for each notebook that is done; all that is said meanwhile goes to runs/<run>/log.txt. Snakemake's own
lock outlives a process that is killed, and the next run would have to be told to break it. A lock of the operating
system ends with the processes that hold it, however they end, so the next run simply goes on.
"""

import argparse
import fcntl
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import yaml

from src.paths import ROOT, RUNS
from workflow.checks import read_settings

# minutes of each rule in the embedded study on two cores, to tell how much is left
MINUTES = dict(finetuning=1.2, attacks=2, texture_shape=1.5, cka=2.5, feature_vis=1, calibration=1.5, efficiency=1)
SHOWN_AT_ONCE = ("-n", "--dry-run", "--dryrun", "--summary", "--dag", "--rulegraph", "--list")


def read_config(path: Path) -> dict:
    """A run's configuration; exits with one line for a file that is not there, or that cannot be run."""
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
        if twice := named_twice(yaml.compose(text, yaml.SafeLoader)):
            raise ValueError(f"it names {' and '.join(twice)} twice; keep one of the two")
        read_settings(config)
    except yaml.YAMLError as error:
        sys.exit(f"{path} cannot be used: it is no YAML: {' '.join(str(error).split())}")
    except (OSError, ValueError) as error:
        sys.exit(f"{path} cannot be used: {error}")
    return config


def named_twice(config: yaml.Node) -> list[str]:
    """Keys that stand twice in a configuration, or in a section of it: YAML takes the last without a word."""
    pairs = config.value if isinstance(config, yaml.MappingNode) else []
    keyed = [pairs, *(section.value for _, section in pairs if isinstance(section, yaml.MappingNode))]
    names = [[key.value for key, _ in part] for part in keyed]
    return sorted({name for part in names for name in part if part.count(name) > 1})


def lock(path: Path) -> int:
    """The lock of a run, held until this process and those it starts have ended; exits where another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"run {path.parent.name} is going on already in {ROOT}; wait for it, or stop it")
    return held


def sweep(folder: Path) -> None:
    """Remove what killed runs left half-written: partial files (`written_whole`) of processes that are gone."""
    for partial in folder.rglob("*.partial"):
        writer = partial.stem.rpartition(".")[2]
        if not writer.isdecimal():
            continue
        try:
            os.kill(int(writer), 0)
        except ProcessLookupError:
            partial.unlink(missing_ok=True)
        except PermissionError:  # another user's process, which is there
            continue


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def follow(process: subprocess.Popen, log: Path) -> None:
    """Print a line for each job that is done, until the process ends: minutes taken, and an estimate of those left."""
    began = time.monotonic()
    planned: dict[str, int] = {}
    started: dict[str, list[float]] = {}  # jobs of a rule, which may run side by side
    done: list[str] = []
    with open(log, encoding="utf-8", errors="replace") as lines:
        while True:
            line = lines.readline()
            if not line:
                if process.poll() is not None:
                    return
                time.sleep(0.2)
                continue
            if not done and (job := re.fullmatch(r"(?!total|all)(\w+) +(\d+)\n", line)):
                planned[job[1]] = int(job[2])  # Snakemake's table of jobs
            elif job := re.match(r"(?:local)?rule (\w+):", line):
                started.setdefault(job[1], []).append(time.monotonic())
            elif job := re.match(r"Finished jobid: \d+ \(Rule: (\w+)\)", line):
                done.append(job[1])
                now = time.monotonic()
                taken, spent = now - (started.get(job[1]) or [began]).pop(0), now - began
                if job[1] != "all":
                    left = estimate(planned, done, spent)
                    print(f"{job[1]:<20} {minutes(taken):>6}   {minutes(spent):>6} in all, {left}", flush=True)


def estimate(planned: dict[str, int], done: list[str], seconds: float) -> str:
    """The time that is left, by what the jobs that are done have taken against MINUTES."""
    weight = {rule: MINUTES.get(rule.removesuffix("_shard"), 0.3) for rule in planned}
    ahead = sum(weight[rule] * max(0, n - done.count(rule)) for rule, n in planned.items())
    behind = sum(weight.get(rule, 0.3) for rule in done)
    return f"about {minutes(seconds * ahead / behind)} left" if ahead > 0 else "nothing left"


def main() -> None:
    about = "Run the graph of notebooks into runs/<run>/."
    parser = argparse.ArgumentParser("make report", description=about, allow_abbrev=False)
    parser.add_argument("--configfile", type=Path, required=True, help="what is run, as in workflow/config/")
    asked, more = parser.parse_known_args()
    if refused := {"--config", "-C"} & {word.partition("=")[0] for word in more}:
        parser.error(f"{' '.join(refused)} is not taken: put the values into a copy of {asked.configfile}")
    config, arguments = read_config(asked.configfile), [*more, "--configfile", str(asked.configfile)]
    folder = RUNS / config["run"]
    held = lock(folder / ".lock")
    sweep(folder)
    command = [sys.executable, "-m", "snakemake", *arguments, "--nolock", "--rerun-incomplete"]
    if set(SHOWN_AT_ONCE) & set(arguments):
        sys.exit(subprocess.run(command, pass_fds=[held], check=False).returncode)
    log = folder / "log.txt"
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, pass_fds=[held])
    try:
        follow(process, log)
    except KeyboardInterrupt:
        process.wait()
    said = log.read_text(encoding="utf-8", errors="replace")
    if process.returncode:
        lines = [line for line in said.splitlines() if not line.startswith("Cannot restore")]  # of files that were new
        print("\n".join(lines[-60:]))
        sys.exit(f"The run did not end well; all that was said is in {log.relative_to(ROOT)}")
    if "Nothing to be done" in said:
        print("Nothing to be done: all tables, figures and pages of this run are up to date.")
    print(f"Done. Open {folder.relative_to(ROOT)}/report.html")


if __name__ == "__main__":
    main()
