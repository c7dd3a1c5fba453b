"""Cost of a study: Snakemake's `benchmark:` files, a line of JSON a job."""

import json
from pathlib import Path

import pandas as pd

from clip2scene.errors import InputError
from clip2scene.files import read_text
from clip2scene.workflow import Workflow

COLUMNS = ("stage", "job", "runs", "minutes", "CPU minutes", "memory, GiB")


def read_jobs(workflow: Workflow) -> pd.DataFrame:
    """Return a row a job of the study that has a benchmark, in the order in which jobs come.

    Returns:
        Its stage, name, number of runs, minutes by the clock and of all processors, and largest memory.

    Raises:
        InputError: a file is damaged.
    """
    rows = []
    for job, runs in workflow.jobs.items():
        path = workflow.config.results / "benchmarks" / runs[0].kind / f"{job}.jsonl"
        if path.is_file():
            seconds, cpu, memory = _read(path)
            rows.append((runs[0].kind, job, len(runs), seconds / 60, cpu / 60, memory / 1024))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _read(path: Path) -> tuple[float, float, float]:
    """Return seconds by the clock, seconds of all processors and the largest resident set, MiB.

    Snakemake writes ``NA`` for what it could not measure of a job that ended at once; it counts as 0.
    """
    lines = read_text(path, "Snakemake's benchmark, a line of JSON").splitlines()
    try:
        values = json.loads(lines[-1])
        seconds, cpu, memory = (
            0.0 if values[name] in ("NA", None) else float(values[name])
            for name in ("s", "cpu_time", "max_rss")
        )
    except (ValueError, KeyError, IndexError, TypeError):
        raise InputError(
            f"{path}: found {lines[-1:]!r:.60}; expected a line of JSON with s, cpu_time and max_rss, as "
            "Snakemake writes it"
        ) from None
    return seconds, cpu, memory


def by_stage(jobs: pd.DataFrame) -> pd.DataFrame:
    """Return jobs, runs, hours, the longest job and the largest memory of each stage, and of all."""
    stages = jobs.groupby("stage", sort=False).agg(
        jobs=("job", "size"), runs=("runs", "sum"), hours=("minutes", "sum"), cpu=("CPU minutes", "sum"),
        longest=("minutes", "max"), memory=("memory, GiB", "max"),
    )  # fmt: skip
    stages.loc["all"] = [
        *stages[["jobs", "runs", "hours", "cpu"]].sum(), *stages[["longest", "memory"]].max()
    ]  # fmt: skip
    return pd.DataFrame({
        "stage": stages.index,
        "jobs": stages["jobs"].map("{:.0f}".format),
        "runs": stages["runs"].map("{:.0f}".format),
        "hours": (stages["hours"] / 60).map("{:.3f}".format),
        "CPU hours": (stages["cpu"] / 60).map("{:.3f}".format),
        "longest job, minutes": stages["longest"].map("{:.2f}".format),
        "largest memory, GiB": stages["memory"].map("{:.2f}".format),
    }).reset_index(drop=True)  # fmt: skip
