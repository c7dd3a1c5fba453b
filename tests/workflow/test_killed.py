"""A workflow that is killed again and again ends in the same tables, byte for byte.

The long test takes as many kills as the environment variable CLIP2SCENE_KILLS says: `make test-killed`.
"""

import itertools
import math
import os
import random
import re
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from checkouts import Site, checkout

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent
KILLS = int(os.environ.get("CLIP2SCENE_KILLS", 0))
SECONDS = (1, 25)
"""Shortest and longest time that a workflow is left alone, after its first job has started.

On a slow machine nothing may be finished in that time: the longest then grows until something is."""
INTO_A_RUN = (0.01, 3.0)
"""Shortest and longest time, seconds, that a run is left alone of a stage in which no kill has fallen before.

Every second kill waits for one: most of the time of so small a study goes into the start of processes, and so
do nearly all kills at moments that only a clock draws. Some stages compute for a tenth of a second only."""


def start(site: Site, log: Path) -> subprocess.Popen:
    """Start the workflow as a user does, in a group of processes that a signal reaches as a whole."""
    with log.open("w") as out:
        return subprocess.Popen(
            ["snakemake", "--cores", "all", "results/table_main.csv", "results/table_cross_domain.csv"],
            cwd=site.folder, env=site.environment, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip


def kill(process: subprocess.Popen) -> bool:
    """Kill the workflow and all its jobs; returns whether it was still at work."""
    at_work = process.poll() is None
    if at_work:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return at_work


def wait_for_a_job(process: subprocess.Popen, log: Path) -> None:
    """Wait until Snakemake says that a job has started."""
    while process.poll() is None and not re.search(r"^Job \d+:", log.read_text(), re.MULTILINE):
        time.sleep(0.1)


def wait_for_a_stage(process: subprocess.Popen, site: Site, began: str, reached: set[str]) -> None:
    """Wait until a run is under way of a stage that no kill has reached."""
    while process.poll() is None and not under_way(site, began) - reached:
        time.sleep(0.02)


def under_way(site: Site, began: str) -> set[str]:
    """Return the stages of runs under way; those that started earlier were left by another kill."""
    runs = site.runs().values()
    return {run["kind"] for run in runs if run["status"] == "running" and run["started"] >= began}


def jobs_at_work(log: Path) -> list[str]:
    """Return Snakemake's words for the jobs that had started and not ended."""
    text = log.read_text()
    ended = re.findall(r"^Finished jobid: (\d+)", text, re.MULTILINE)
    jobs = re.findall(r"^Job (\d+): ([\w -]+)", text, re.MULTILINE)
    return sorted({name.strip() for number, name in jobs if number not in ended})


@pytest.mark.skipif(not KILLS, reason="kills workflows for minutes: make test-killed")
def test_kills_at_random_moments_change_no_table(finished, tmp_path):
    site = checkout(tmp_path / "killed", HERE / "smallest.yaml", HERE / "smallest.tsv")
    shutil.copytree(finished.folder / "data/kitti", site.folder / "data/kitti")
    site.configure(checkpoint_minutes=0.02)  # changes no number, so that it is the same study
    draws, log, done, longest = random.Random(0), tmp_path / "log", set(), SECONDS[1]
    killed, reached = [], set()
    for attempt in itertools.count():
        if len(killed) == KILLS:
            break
        began = datetime.now(UTC).isoformat(timespec="seconds")
        process = start(site, log)
        wait_for_a_job(process, log)
        if attempt % 2:
            wait_for_a_stage(process, site, began, reached)
            time.sleep(math.exp(draws.uniform(*map(math.log, INTO_A_RUN))))
        else:
            time.sleep(draws.uniform(SECONDS[0], longest))
        if not kill(process):  # it has ended: in success, or the test fails
            assert process.returncode == 0, log.read_text()
            for name in ("runs", "receipts"):  # begin anew
                shutil.rmtree(site.results / name)
            for path in site.results.glob("table_*"):  # with its tables there, a study has nothing to do
                path.unlink()
            continue
        runs = site.runs()
        before, done = done, {key for key, run in runs.items() if run["status"] == "finished"}
        longest = SECONDS[1] if done != before else 1.5 * longest
        stages, jobs = sorted(under_way(site, began)), jobs_at_work(log)
        reached |= {*stages}
        killed.append(f"in {', '.join(stages)}" if stages else f"no run under way ({', '.join(jobs) or '-'})")
        print(f"kill {len(killed)}: {killed[-1]}", flush=True)
        site.run("snakemake", "--unlock")
    print("killed", *(f"{killed.count(what):2} x {what}" for what in sorted(set(killed))), sep="\n  ")
    assert len(reached) >= min(6, KILLS // 4), "nearly all kills fell between runs"
    site.snakemake()
    for name in ("table_main.csv", "table_cross_domain.csv"):
        assert (site.results / name).read_bytes() == (finished.results / name).read_bytes()
    assert "main: verified" in site.clip2scene("verify", "main")
    assert {run["status"] for run in site.runs().values()} == {"finished"}
    hidden = [path for path in site.results.rglob(".*") if not path.name.startswith(".snakemake")]
    assert hidden == []


def test_unlock_and_report_work_as_snakemake_says(site, tmp_path):
    """After a kill, Snakemake asks for `snakemake --unlock`; neither it nor --report computes anything."""
    for path in [*site.results.glob("receipts/*.json"), *site.results.glob("table_*.csv")]:
        path.unlink()
    log = tmp_path / "log"
    process = start(site, log)
    wait_for_a_job(process, log)
    assert kill(process)
    assert "--unlock" in site.snakemake(fails=True)
    site.run("snakemake", "--unlock")
    site.snakemake()
    site.run("snakemake", "--report", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size > 10_000
