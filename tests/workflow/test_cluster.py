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
from graph import CONFIG, TABLES, finish, make_copy, start, tables_of

from src.results import load_facts

SYSTEM_CONFIG = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
SLURM_CONFIG = """
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
    config.write_text(SLURM_CONFIG.format(host=host, ports=ports, folder=folder, cpus=os.cpu_count()))
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


def test_three_shards_give_the_tables_of_a_local_run(cluster, undisturbed, tmp_path):
    """The notebook that goes image by image in three jobs and one that gathers, the other in one."""
    folder = make_copy(tmp_path / "copy", CONFIG | {"shards": 3})
    finish(folder, profile="slurm", more=HERE)
    jobs = (cluster / "jobs.log").read_text()
    assert jobs.count("JobState=COMPLETED") >= 3 + 1 + 1 + 1 and "FAILED" not in jobs  # and the page
    local, there = tables_of(undisturbed[0]), tables_of(folder)
    for key in TABLES:
        pd.testing.assert_frame_equal(
            there[key].select_dtypes(exclude="float"), local[key].select_dtypes(exclude="float")
        )
        for name, column in local[key].select_dtypes("float").items():  # jobs have other threads: sums of HSIC round
            near = 2e-6 + 1e-7 * column.abs().max()
            pd.testing.assert_series_equal(there[key][name], column, check_exact=False, rtol=1e-6, atol=near)
    facts = load_facts(folder / "runs" / "killed", "05_calibration", "mlp")
    assert len(facts["provenance"]["parts"]) == 3 and not list(folder.glob("runs/killed/0*/*.*of3.*"))
    assert (folder / "runs" / "killed" / "report.html").exists()
    assert "Nothing to be done" in finish(folder, profile="slurm", more=HERE)


def test_a_job_that_asks_for_too_much_fails_and_says_so(cluster, tmp_path):
    run = start(
        make_copy(tmp_path / "copy", CONFIG | {"notebooks": ["05_model_calibration"]}),
        profile="slurm",
        more=(*HERE, "--retries", "0", "--set-resources", "calibration:mem_mb=900000"),
    )
    said, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    assert "Memory specification can not be satisfied" in said or "configuration is not available" in said
