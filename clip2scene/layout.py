"""Paths of a study's files."""

from pathlib import Path

from clip2scene.config import Config
from clip2scene.runs import Run


def run_folder(config: Config, run: Run | str) -> Path:
    """Return the folder of a run."""
    return config.results / "runs" / _key(run)


def superseded(config: Config, run: Run | str) -> Path:
    """Return the folder in which a run's earlier results are kept, each in a folder of its fingerprint."""
    return config.results / "superseded" / _key(run)


def lock(config: Config, run: Run | str) -> Path:
    """Return the lock file that a process holds while it computes a run."""
    return config.results / "locks" / f"{_key(run)}.lock"


def receipt(config: Config, job: str) -> Path:
    """Return the receipt of a job: which runs it found finished or finished itself."""
    return config.results / "receipts" / f"{job}.json"


def shown(config: Config, table: str) -> Path:
    """Return the file that says of which study a table in the results folder is, from which runs."""
    return config.results / "receipts" / f"{table}.json"


def wanted(config: Config, table: str) -> Path:
    """Return the note that says which study's table was asked for last, if another one's was there."""
    return config.results / "receipts" / f"{table}.wanted.json"


def study_folder(config: Config, name: str) -> Path:
    """Return the folder that holds the configuration and the table of experiments of a study."""
    return config.results / "config" / name


def _key(run: Run | str) -> str:
    return run if isinstance(run, str) else run.key
