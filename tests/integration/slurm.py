"""A SLURM of one node, from Debian's packages, in namespaces of its own.

What a job starts sees nothing of this machine's other processes and ports. So ``ray symmetric-run``, which ends every
Ray of its machine, ends no other; and when the first process of the namespace ends, all do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "unshare", "nsenter", "ip"]
ADDRESS = "192.168.77.1"
CONFIGURATION = """
ClusterName=here
SlurmctldHost={host}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName={host} NodeAddr={address} CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
DAEMONS = """
set -e
ip link set lo up
ip link add here type veth peer name there
ip address add {address}/24 dev here
ip link set here up
ip link set there up
mount --bind $1/hosts /etc/hosts
munged --foreground --force --key-file=$1/munge/key --socket=$1/munge/socket --pid-file=$1/munge/pid \
    --log-file=$1/munge/log --seed-file=$1/munge/seed &
while [[ ! -S $1/munge/socket ]]; do sleep 0.1; done
slurmctld -D &
slurmd -D &
wait
"""


class Slurm:
    """The cluster. Its first process has this number."""

    def __init__(self, pid: int, environment: dict[str, str]) -> None:
        """Remember it."""
        self._pid = pid
        self._environment = environment

    def __call__(self, *command: str) -> str:
        """Run a command of SLURM, and return what it prints."""
        done = subprocess.run(
            ["nsenter", f"--target={self._pid}", "--net", "--pid", "--mount", *command],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """Return what is known of a job."""
        return dict(part.split("=", 1) for part in self("scontrol", "show", "job", number).split() if "=" in part)


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Slurm]:
    """Run a cluster of this machine, whose jobs have this environment."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    assert not missing, (
        f"{missing} are missing: apt-get install slurmd slurmctld slurm-client munge iproute2 util-linux"
    )
    assert os.geteuid() == 0, "namespaces and munge want root"
    folder.mkdir()
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o400)
    host = os.uname().nodename.partition(".")[0]
    text = CONFIGURATION.format(folder=folder, host=host, address=ADDRESS, cpus=os.cpu_count())
    (folder / "slurm.conf").write_text(text)
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{ADDRESS} {os.uname().nodename} {host}\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, **environment, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    namespaces = ["unshare", "--pid", "--net", "--mount-proc", "--fork", "--kill-child"]
    with (folder / "daemons.log").open("w") as log:
        daemons = subprocess.Popen(
            [*namespaces, "bash", "-c", DAEMONS.format(address=ADDRESS), "-", str(folder)],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            first = int(until(lambda: Path(f"/proc/{daemons.pid}/task/{daemons.pid}/children").read_text()))
            slurm = Slurm(first, env)
            until(lambda: daemons.poll() is None and is_up(slurm))
            yield slurm
        finally:
            daemons.kill()
            daemons.wait(240)


def is_up(slurm: Slurm) -> bool:
    try:
        return "idle" in slurm("sinfo", "--noheader")
    except AssertionError:
        return False


def until(found: Callable[[], str | bool], deadline_s: float = 120.0) -> str | bool:
    """Return what is found, as soon as it is."""
    deadline = time.monotonic() + deadline_s
    while not (one := found()):
        if time.monotonic() > deadline:
            pytest.fail("nothing is found")
        time.sleep(0.1)
    return one
