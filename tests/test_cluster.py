"""The graph on a real one-node Slurm gives the tables of a run on this machine.

`make test-cluster` runs this. It starts a private munge, slurmctld and slurmd on the loopback address and stops them;
the packages slurm-wlm and munge have to be there. Jobs find the cluster through /etc/slurm/slurm.conf, so nothing is
done on a machine that has one.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from graph import finish, make_copy, start

SYSTEM_CONFIG = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
CONFIG = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.log
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=7000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
STUDY = {
    "study": "killed",
    "dataset": "fashion_mnist",
    "notebooks": ["02_adversarial_robustness", "05_model_calibration"],
    "02_adversarial_robustness": dict(
        models=["mlp"], n_curve=20, n_worst=20, pgd_steps=2, apgd_steps=2, n_targets=1, queries=3
    ),
    "05_model_calibration": dict(models=["mlp"], n_test=200, n_resamples=20),
}
# what a user would put into the profile for this cluster; it has no accounts and no GPUs
HERE = ("--default-resources", "slurm_account=none", "slurm_partition=main", "mem_mb=3000", "runtime=20")
HERE += ("--slurm-status-command", "squeue", "--latency-wait", "10")
HERE += ("--set-resources", "page:runtime=5")  # instead of those of the profile, which ask for GPUs
HERE += ("--slurm-init-seconds-before-status-checks", "5", "--seconds-between-status-checks", "3")


def why_not() -> str:
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing:
        return f"needs {', '.join(missing)} (packages slurm-wlm and munge)"
    if os.getuid():
        return "needs root, to start Slurm"
    if SYSTEM_CONFIG.exists():
        return f"{SYSTEM_CONFIG} is there: this machine belongs to a cluster"
    return ""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder of a running private cluster of this machine alone."""
    reason = why_not()
    if reason and os.environ.get("REQUIRE_SLURM"):
        pytest.fail(f"REQUIRE_SLURM is set, but this {reason}")
    if reason:
        pytest.skip(reason)
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="run `make cluster`")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    host = socket.gethostname().split(".")[0]
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, ports=ports, folder=folder, cpus=os.cpu_count()))
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munge = ["munged", "--force", "--foreground", f"--key-file={key}"]
    munge += [
        f"--{name}={folder}/munge/{name.split('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")
    ]
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin", "SLURM_CONF": str(config)}
    SYSTEM_CONFIG.parent.mkdir(exist_ok=True)
    SYSTEM_CONFIG.symlink_to(config)
    daemons = []
    try:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D"]):
            quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            daemons.append(subprocess.Popen(command, env=environment, **quiet))
            time.sleep(1)
        for _ in range(60):
            said = subprocess.run(
                ["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False
            )
            if said.stdout.strip() == "idle":
                break
            time.sleep(0.5)
        else:
            pytest.fail(f"Slurm did not start: {(folder / 'slurmctld.log').read_text()[-2000:]}")
        yield folder
    finally:
        SYSTEM_CONFIG.unlink()
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=20)


def test_three_shards_give_the_tables_of_a_local_run(cluster, tmp_path):
    here, there = make_copy(tmp_path / "here", STUDY), make_copy(tmp_path / "there", STUDY | {"shards": 3})
    finish(here)
    finish(there, profile="slurm", more=HERE)
    jobs = (cluster / "jobs.log").read_text()
    # three shards and what gathers them for each of two notebooks, and the page
    assert jobs.count("JobState=COMPLETED") >= 2 * 4 + 1 and "FAILED" not in jobs
    expected, found = tables_in(here), tables_in(there)
    assert expected.keys() == found.keys() and len(expected) == 5
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=False, rtol=0, atol=2e-6)
    assert (there / "report" / "killed.html").exists()
    assert "Nothing to be done" in finish(there, profile="slurm", more=HERE)


def tables_in(folder: Path) -> dict[str, pd.DataFrame]:
    """Every result table below a folder, by its place there."""
    return {str(path.relative_to(folder)): pd.read_parquet(path) for path in folder.glob("results/**/*.parquet")}


def test_a_job_that_asks_for_too_much_fails_and_says_so(cluster, tmp_path):
    run = start(
        make_copy(tmp_path / "copy", STUDY | {"notebooks": ["05_model_calibration"]}),
        profile="slurm",
        more=(*HERE, "--retries", "0", "--set-resources", "calibration:mem_mb=900000"),
    )
    said, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    assert "Memory specification can not be satisfied" in said or "configuration is not available" in said
