"""MLflow, the mirror of the run files: finished runs are sent to it, and nothing is ever read back from it.

Sending is idempotent: a run is known by the tags ``run_key``, ``fingerprint`` and ``metric``. Nothing is
deleted: a run whose key has another fingerprint now gets the tag ``superseded``. One process at a time makes
or migrates the store and sends, whatever results folder it comes from: parallel first use corrupts a fresh
SQLite store (MLflow 3.17), and two processes would both send the runs that they share.
"""

import logging
import os
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.files import atomic, locked, reading
from clip2scene.layout import run_folder
from clip2scene.provenance import code_hash, digest
from clip2scene.reporting.base import read_scores
from clip2scene.run_files import finished, read_description, read_log, read_metrics
from clip2scene.runs import Run, flat
from clip2scene.study import Study

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; these machines are often offline
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a server that is away is named at once
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # seconds, of PostgreSQL's own library
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

_FILES = ("run.json", "metrics.json", "metrics.jsonl")
_BATCH = 1000  # MLflow's limit of metrics in a call; 100 parameters
_LONGEST = 6000  # MLflow's limit of characters in a parameter
_SQLITE = "sqlite:///"
_HEADER = b"SQLite format 3\0"  # of every database; an empty file is an empty database
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
database.MAX_RETRY_COUNT = 2  # MLflow's 10 take minutes, and what cannot be opened does not change meanwhile
logging.getLogger("mlflow.store.db").setLevel(logging.ERROR)  # it reports each try


def send(study: Study) -> dict[str, str]:
    """Send every finished run of a study to MLflow, except those that it has already.

    Args:
        study: The study. Its configuration names the store and the experiment.

    Returns:
        MLflow's run id for every run key.

    Raises:
        InputError: the store cannot be reached, made or written.
    """
    config = study.config
    uri = config.tracking.uri
    try:
        refuse_unusable(uri)
        with locked(_lock(uri), f"tracking store {uri}"):
            if (path := _file(uri)) and not (path.exists() and path.stat().st_size):
                _make(Path(os.path.realpath(path)))
            return _send_missing(study, MlflowClient(uri))
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"tracking.uri: {uri}: {error}; expected the driver of this database") from None
    except (MlflowException, OSError, ValueError, CommandError, SQLAlchemyError) as error:
        reason = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        expected = (
            "a server that answers" if uri.startswith("http") else "an MLflow store that can be written"
        )
        raise InputError(f"tracking.uri: {uri}: {reason[:400]}; expected {expected}") from None


def refuse_unusable(uri: str) -> None:
    """Raise an InputError for an address that names no store, or a file that is no database."""
    expected = "expected sqlite:///results/mlflow.db, or the address of a server such as https://host:5000"
    address = urlsplit(uri)
    scheme = address.scheme.partition("+")[0]
    if scheme not in _SCHEMES and uri != "databricks":
        raise InputError(f"tracking.uri: {uri}: found no kind of store that MLflow knows; {expected}")
    if scheme in ("http", "https") and not address.hostname:
        raise InputError(f"tracking.uri: {uri}: names no server; {expected}")
    if scheme != "sqlite":
        return
    if not uri.startswith(_SQLITE) or str(path := _file(uri)) in (".", ":memory:"):
        raise InputError(
            f"tracking.uri: {uri}: names no file; expected three slashes and a path, as in sqlite:///mlflow.db"
        )
    with suppress(FileNotFoundError):
        path.stat()  # a loop of links does not exist either
    if path.exists():
        with reading(path, "an MLflow store (tracking.uri)"), path.open("rb") as file:
            head = file.read(len(_HEADER))
        if head not in (b"", _HEADER):
            found = "a file that is no SQLite database"
            raise InputError(f"tracking.uri: {uri}: found {found}; expected MLflow's store, or no file yet")


def _file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for other stores."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def _make(path: Path) -> None:
    """Make a store, whole or not at all: MLflow takes a half-made one for an old one and refuses it."""
    with atomic(path) as temporary:
        try:
            MlflowClient(f"{_SQLITE}{temporary}").search_experiments(max_results=1)
        finally:
            temporary.with_name(f"{temporary.name}-journal").unlink(missing_ok=True)


def _lock(uri: str) -> Path:
    """Return the lock file of a store: beside an SQLite file, else in the system's temporary folder."""
    if path := _file(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f"{path.name}.lock")
    return Path(tempfile.gettempdir()) / f"clip2scene-mlflow-{os.getuid()}-{digest(uri)}.lock"


def _send_missing(study: Study, client: MlflowClient) -> dict[str, str]:
    experiment = _experiment(client, study.config)
    sent = _sent(client, experiment)
    metric = code_hash("clip2scene.evaluation.metrics")
    ids = {}
    for run in tqdm([run for run in study.runs.values() if _has_numbers(study, run)], "mlflow", unit="run"):
        description = read_description(run_folder(study.config, run))
        identity = (run.key, description["fingerprint"], metric)
        if identity not in sent:
            sent[identity] = _send(client, experiment, study, run, description, metric)
        results = [other for other in sent if other[0] == run.key]
        for other in results if len(results) > 1 else ():
            client.set_tag(sent[other], "superseded", str(other != identity))
        ids[run.key] = sent[identity]
    return ids


def _has_numbers(study: Study, run: Run) -> bool:
    """Say whether a run is finished and left numbers; an index or a subset leaves none."""
    folder = run_folder(study.config, run)
    return finished(folder) and any((folder / name).exists() for name in ("metrics.json", "confusion.npz"))


def _experiment(client: MlflowClient, config: Config) -> str:
    if experiment := client.get_experiment_by_name(config.tracking.experiment):
        return experiment.experiment_id
    artifacts = (config.results / "mlflow" / "artifacts").absolute().as_uri()
    server = config.tracking.uri.startswith("http")  # which has an artifact store of its own
    return client.create_experiment(
        config.tracking.experiment, artifact_location=None if server else artifacts
    )


def _sent(client: MlflowClient, experiment: str) -> dict[tuple[str, str, str], str]:
    """Return the run ids of what MLflow has, by key, fingerprint and metric; only runs sent to the end."""
    found, token = {}, None
    while True:
        page = client.search_runs([experiment], "attributes.status = 'FINISHED'", page_token=token)
        found |= {
            (tags["run_key"], tags["fingerprint"], tags.get("metric", "")): run.info.run_id
            for run in page
            if "run_key" in (tags := run.data.tags)
        }
        if not (token := page.token):
            return found


def _send(
    client: MlflowClient, experiment: str, study: Study, run: Run, description: dict[str, Any], metric: str
) -> str:
    folder = run_folder(study.config, run)
    begin = _milliseconds(description["started"])
    end = _milliseconds(description["ended"] or description["started"])
    tags = {
        "run_key": run.key,
        "kind": run.kind,
        "fingerprint": description["fingerprint"],
        "metric": metric,
        "study": study.name,
        "commit": description.get("commit", ""),
        "dirty": description.get("dirty", ""),
        "device": description["device"],
        "mlflow.runName": run.name,
    }
    run_id = client.create_run(experiment, start_time=begin).info.run_id
    parameters = flat({**description["fields"], "settings": description["settings"]})
    params = [Param(name, str(value)[:_LONGEST]) for name, value in parameters.items()]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    client.log_batch(run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])
    final = read_metrics(folder) if (folder / "metrics.json").exists() else {}
    if (folder / "confusion.npz").exists():
        final |= {name: scores.to_json() for name, scores in read_scores(study, run).items()}
    values = _steps(folder / "metrics.jsonl", end) + [
        Metric(f"final/{name}", value, end, 0) for name, value in _numbers(final).items()
    ]
    for start in range(0, len(values), _BATCH):
        client.log_batch(run_id, metrics=values[start : start + _BATCH])
    for name in _FILES:
        if (folder / name).exists():
            client.log_artifact(run_id, str(folder / name))
    client.set_terminated(run_id, end_time=end)
    return run_id


def _steps(path: Path, time: int) -> list[Metric]:
    """Return the logged steps as MLflow metrics."""
    if not path.exists():
        return []
    return [
        Metric(name, value, time, int(line["step"]))
        for line in read_log(path)
        for name, value in line.items()
        if name != "step"
    ]


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return every number of nested metrics, named by its path; lists (the confusion matrix) are in files."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name.replace(" ", "_")] = float(value)
    return found


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
