"""Progress of the workflow: what it says after each job, and that Snakemake feeds it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clip2scene.progress import Progress, duration


@pytest.fixture
def feed():
    """Return a function that hands an event at a time, seconds, to a Progress, and the lines it wrote."""
    lines = []
    handler = Progress(lines.append)

    def event(name, seconds, **values):
        record = logging.LogRecord("snakemake.logging", logging.INFO, "", 0, None, None, None)
        vars(record).update(values, event=name, created=1000.0 + seconds)
        handler.handle(record)
        return lines[-1] if lines else ""

    def job(number, rule, start, end, done, total):
        event(
            "job_info", start, jobid=number, rule_name=rule, rule_msg=f"Do {rule} {number} (progress: a.log)"
        )
        event("job_finished", end, job_id=number)
        return event("progress", end, done=done, total=total)

    return event, job


def test_time_left_is_that_of_the_jobs_to_come_at_the_speed_of_their_rule(feed):
    """By hand: 2 of `train` at 100 s each are to come, one job at a time."""
    event, job = feed
    event("run_info", 0, stats={"index": 1, "train": 3, "all": 1, "total": 5})
    # nothing is known of `train` yet, so there is only a lower bound
    assert job(1, "index", 0, 10, 1, 5) == "[1 of 5 steps, 10 s, more than 0 s left] Do index 1 took 10 s"
    line = job(2, "train", 10, 110, 2, 5)
    assert line == "[2 of 5 steps, 2 min, about 3 min left] Do train 2 took 2 min"
    assert job(3, "train", 110, 210, 3, 5).startswith("[3 of 5 steps, 4 min, about 2 min left]")
    assert job(4, "train", 210, 310, 4, 5) == "[4 of 5 steps, 5 min] Do train 4 took 2 min"


def test_jobs_that_run_at_once_halve_the_time_left(feed):
    """By hand: two jobs of 100 s ran at once; four are to come, so two rounds."""
    event, _ = feed
    event("run_info", 0, stats={"train": 6, "total": 6})
    for number in (1, 2):
        event("job_info", 0, jobid=number, rule_name="train", rule_msg=None)
    for number in (1, 2):
        event("job_finished", 100, job_id=number)
    line = event("progress", 100, done=2, total=6)
    assert line == "[2 of 6 steps, 2 min, about 3 min left] train took 2 min"


def test_what_runs_already_counts_for_what_it_has_done(feed):
    """By hand: of two jobs to come, one is half done."""
    event, job = feed
    event("run_info", 0, stats={"train": 3, "index": 1, "total": 4})
    job(1, "train", 0, 60, 1, 4)
    event("job_info", 60, jobid=2, rule_name="train", rule_msg=None)
    line = job(3, "index", 60, 90, 2, 4)  # 2 * 60 - 30 s of work; (60 + 30 + 30) s were done in 90 s
    assert "about 68 s left" in line


def test_a_failed_job_is_named_with_the_last_line_of_its_log(feed, tmp_path):
    event, _ = feed
    log = tmp_path / "job.log"
    log.write_text("step 1\nerror: data/a.bin: no such file\n\n")
    event("job_info", 0, jobid=1, rule_name="index", rule_msg="Index nuscenes")
    assert event("job_error", 1, jobid=1, rule_name="index", log=[str(log)]) == (
        f"  {log}: error: data/a.bin: no such file"
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7500, "2 h 05 min")]
)
def test_durations_are_said_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("quiet", "lines"),
    [((), 3), (("rules", "host", "reason"), 3), (("rules", "progress"), 0), (("all",), 0)],
)
def test_snakemake_says_it_to_a_log_file(tmp_path, quiet, lines):
    """A line a finished job; with `--quiet rules`, as `make table` has it, little else."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *(("--quiet", *quiet) if quiet else ())]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    said = [line for line in done.stderr.splitlines() if "of 3 steps, " in line]
    assert len(said) == lines
    assert not lines or said[0].startswith("[1 of 3 steps, ")
    assert not lines or "] Make " in said[0]
    assert done.stderr.count("Finished jobid") == (0 if quiet else 3)


SNAKEFILE = """
from clip2scene import progress
progress.watch(workflow.output_settings.quiet)

rule all:
    input: "a.txt", "b.txt"

rule make:
    output: "{name}.txt"
    message: "Make {wildcards.name}"
    shell: "touch {output}"
"""
