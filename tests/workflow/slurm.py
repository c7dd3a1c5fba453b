"""A Slurm of one node on this machine: munged, slurmctld and slurmd, in a folder of their own.

Debian and Ubuntu: ``apt install slurm-wlm``. slurmd has to be root, as it starts jobs as their owner.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PLACE = Path("/etc/slurm/slurm.conf")
"""Place where Slurm's commands look: Snakemake's executor passes no SLURM_CONF on to the steps of a job."""
PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch")
CONFIG = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmdPort={next_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# no control groups: they need more of the machine than its root, in a container or a virtual machine
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
MinJobAge=600
KillWait=30
NodeName=localhost CPUs={cpus} RealMemory=8000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return in a line why Slurm cannot be started here, or nothing."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if lacking:
        return f"{', '.join(lacking)} not found (Debian: apt install slurm-wlm)"
    if os.geteuid() != 0:
        return "slurmd needs root"
    return f"{PLACE} is there: this machine has a Slurm already" if PLACE.exists() else ""


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Cluster:
    """A running Slurm; close it to end its daemons and what runs in them.

    Args:
        folder: An empty folder, with a short path: munged's socket lies in it.
        port: First of two ports of this machine.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir()
        text = CONFIG.format(folder=folder, port=port, next_port=port + 1, cpus=os.cpu_count())
        (folder / "slurm.conf").write_text(text)
        PLACE.unlink(missing_ok=True)  # a link to nowhere, of a run that was killed
        PLACE.symlink_to(folder / "slurm.conf")
        self.environment = {"PATH": _path()}
        self._daemons: list[subprocess.Popen] = []
        key = folder / "munge.key"
        self.run("mungekey", "--create", f"--keyfile={key}")
        files = {"key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        options = [f"--{option}={folder}/munge.{ending}" for option, ending in files.items()]
        # the folder may lie below one that anybody may write
        self._start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *options)
        self._until(lambda: (folder / "munge.socket").exists())
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D", "-N", "localhost")
        self._until(lambda: self.run("sinfo", "--noheader", "--format=%T", check=False).strip() == "idle")

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands and return what it printed."""
        env = os.environ | self.environment
        done = subprocess.run(command, env=env, text=True, capture_output=True, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def jobs(self, states: str = "all") -> dict[str, dict[str, str]]:
        """Return state, comment and used time of every job, by its number."""
        names = ("id", "state", "comment", "used", "reason")
        lines = self.run("squeue", f"--states={states}", "--noheader", "--format=%i|%T|%k|%M|%r").splitlines()
        return {line.split("|")[0]: dict(zip(names, line.split("|"), strict=True)) for line in lines}

    def close(self) -> None:
        """End the jobs and the daemons."""
        self.run("scancel", "--user=root", check=False)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(60)
        PLACE.unlink()

    def _start(self, *command: str) -> None:
        name = command[0]
        log = (self.folder / f"{name}.out").open("w")
        env = os.environ | self.environment
        self._daemons.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))

    def _until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            ended = [daemon.args[0] for daemon in self._daemons if daemon.poll() is not None]
            assert not ended, f"{ended}: see {self.folder}/*.out"
            assert time.monotonic() < end, f"Slurm does not come up: see {self.folder}/*.log"
            time.sleep(0.2)
