"""The workflow on a real Slurm, through sbatch: jobs killed, out of time and grouped end in the same tables.

Slurm is started for the test, on this machine and for the time of the test: `make test-slurm`.
"""

import os
import re
import subprocess
import tempfile
import time
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from checkouts import Site, checkout
from slurm import Cluster, missing

HERE = Path(__file__).parent
ROW = "finetune random  spvcnn  nuscenes 50 scene_skip  0 ablation long".replace(" ", "\t")
STEPS = 3000
"""Steps of a training that takes about two minutes alone. Its job gets half of that, and at least two."""
TABLES = [f"results/table_{name}.csv" for name in ("main", "cross_domain", "ablation")]

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not os.environ.get("CLIP2SCENE_SLURM"), reason="takes minutes: make test-slurm"),
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    pytest.mark.skipif(
        not find_spec("snakemake_executor_plugin_slurm"),
        reason="pip install --no-deps -r profiles/slurm/requirements.txt",
    ),
]


@pytest.fixture
def cluster():
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        found = Cluster(Path(folder), port=16817)
        yield found
        found.close()


def narrow(site: Site) -> None:
    """Leave rows that share nothing slow, add a training that takes longer than a job may, a run a job."""
    site.configure(share_process=False, variants={"long": {"finetune": {"minimum_steps": STEPS}}})
    path = site.folder / "config/experiments.tsv"
    header, *rows = path.read_text().splitlines()
    kept = [
        row for row in rows if re.match("annotation_free\tclip2scene|finetune\t(ppkt|random.*nuscenes)", row)
    ]
    path.write_text("\n".join([f"{header}\tvariant", *kept, ROW]) + "\n")


def profile(site: Site, minutes: int) -> None:
    """Bring the profile down to a machine of this size; everything else in it stays.

    Args:
        site: The checkout.
        minutes: Time of a fine-tuning's job.
    """
    path = site.folder / "profiles/slurm/config.yaml"
    values = yaml.safe_load(path.read_text())
    values |= {"cores": 2, "retries": 20, "latency-wait": 5, "slurm-status-command": "squeue"}
    values["slurm-init-seconds-before-status-checks"] = 5
    values["default-resources"] |= {"mem_mb": 1000, "runtime": 10, "slurm_extra": "'--signal=TERM@30'"}
    values["set-resources"] = {"finetune": {"runtime": minutes}}
    path.write_text(yaml.safe_dump(values))


VICTIMS = {"pretrain-clip2scene": [], "pretrain-ppkt": ["--signal=KILL", "--full"]}
"""Jobs that are killed, by the start of their names, and how `scancel` does it."""


class Watch:
    """Kills one job as `scancel` does, and another by SIGKILL, each once it has run for a while."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.killed = cluster, {}

    def look(self) -> None:
        for number, job in self.cluster.jobs("RUNNING").items():
            minutes, seconds = map(int, job["used"].split(":"))
            for name, options in VICTIMS.items():
                if name in job["comment"] and name not in self.killed and 60 * minutes + seconds >= 8:
                    self.killed[name] = number
                    self.cluster.run("scancel", *options, number)


def test_jobs_killed_out_of_time_and_grouped_end_in_the_same_tables(site, cluster, tmp_path):
    narrow(site)
    site.snakemake(*TABLES)  # computes the long run alone
    other = checkout(tmp_path / "slurm", HERE / "smallest.yaml", HERE / "smallest.tsv")
    narrow(other)
    times = (map(datetime.fromisoformat, (run["started"], run["ended"])) for run in site.made("finetune"))
    longest = max(end - start for start, end in times)
    # Slurm looks twice a minute and signals up to half a minute early: in a job of one minute, at once.
    profile(other, minutes=max(2, round(longest / timedelta(minutes=2))))

    log, watch = tmp_path / "log", Watch(cluster)
    command = ["snakemake", "--workflow-profile", "profiles/slurm", "--slurm-no-account", *TABLES]
    with log.open("w") as out:
        env = other.environment | cluster.environment
        env["PATH"] = f"{other.environment['PATH']}:/usr/sbin"
        process = subprocess.Popen(command, cwd=other.folder, env=env, stdout=out, stderr=out)
        while process.poll() is None:
            watch.look()
            time.sleep(1)
    said, jobs = log.read_text(), cluster.jobs()
    print(
        said,
        *(f"{job['id']:>3} {job['state']:<10} {job['used']:>5} {job['comment']}" for job in jobs.values()),
        sep="\n",
    )
    assert process.returncode == 0, said

    for name in TABLES:
        assert (other.folder / name).read_bytes() == (site.folder / name).read_bytes()
    assert watch.killed.keys() == VICTIMS.keys()
    states = {name: jobs[number]["state"] for name, number in watch.killed.items()}
    assert states["pretrain-clip2scene"] == "CANCELLED"
    assert states["pretrain-ppkt"] in ("FAILED", "CANCELLED", "NODE_FAIL")
    stopped = re.findall(rf"stopped by SIGTERM after step (\d+) of {STEPS}, which is saved", said)
    assert stopped
    assert sorted(map(int, stopped)) == list(map(int, stopped))  # each attempt went further
    grouped = [job for job in jobs.values() if re.match("rule_(short|tables)_", job["comment"])]
    planned = int(re.search(r"^total +(\d+)$", said, re.MULTILINE)[1])
    assert grouped
    assert sum(job["state"] == "COMPLETED" for job in jobs.values()) < planned
