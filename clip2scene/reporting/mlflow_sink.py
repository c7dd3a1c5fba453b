"""MLflow, the mirror of the run files: finished runs are sent to it, and nothing is ever read back from it.

Sending is idempotent: a run is known by the tags ``run_key`` and ``fingerprint``. The store is made or
migrated by one process before any other: parallel first use corrupts a fresh SQLite store (MLflow 3.17). Two
tables share runs: of processes that send at once one waits, or both would send those.
"""

import fcntl
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.experiments import Run
from clip2scene.files import read_json
from clip2scene.layout import run_folder

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; these machines are often offline
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

_FILES = ("run.json", "metrics.json", "metrics.jsonl")
_BATCH = 1000  # MLflow's limit of metrics in a call; 100 parameters
_LONGEST = 6000  # MLflow's limit of characters in a parameter


def prepare_store(uri: str) -> None:
    """Make the tracking store of a database URI, or bring an older one up to date; a server does so itself.

    Raises:
        InputError: MLflow cannot do so by itself; it says what to do.
    """
    if uri.startswith("http"):
        return
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        MlflowClient(uri).search_experiments(max_results=1)  # makes the tables that are missing
    except MlflowException as error:
        raise InputError(f"tracking.uri: {uri}: {error}") from None


def send(config: Config, runs: list[Run]) -> dict[str, str]:
    """Send finished runs to MLflow, those that it has already excepted.

    Args:
        config: Names the store and the experiment.
        runs: Finished runs.

    Returns:
        MLflow's run id for every run key.
    """
    lock = config.results / "mlflow" / "sending.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        return _send_missing(config, runs)


def _send_missing(config: Config, runs: list[Run]) -> dict[str, str]:
    client = MlflowClient(config.tracking.uri)
    experiment = _experiment(client, config)
    sent = _sent(client, experiment)
    ids = {}
    for run in tqdm(runs, desc="mlflow", unit="run"):
        folder = run_folder(config, run)
        description, metrics = read_json(folder / "run.json"), read_json(folder / "metrics.json")
        identity = (run.key, metrics["fingerprint"])
        if identity not in sent:
            for key, fingerprint in [old for old in sent if old[0] == run.key]:
                client.delete_run(
                    sent.pop((key, fingerprint))
                )  # superseded: the folder holds another result now
            sent[identity] = _send(client, experiment, run, folder, description, metrics)
        ids[run.key] = sent[identity]
    return ids


def _experiment(client: MlflowClient, config: Config) -> str:
    if experiment := client.get_experiment_by_name(config.tracking.experiment):
        return experiment.experiment_id
    artifacts = (config.results / "mlflow" / "artifacts").absolute().as_uri()
    server = config.tracking.uri.startswith("http")  # which has an artifact store of its own
    return client.create_experiment(
        config.tracking.experiment, artifact_location=None if server else artifacts
    )


def _sent(client: MlflowClient, experiment: str) -> dict[tuple[str, str], str]:
    """Run ids of what MLflow has, by run key and fingerprint; only runs that were sent to the end."""
    found, token = {}, None
    while True:
        page = client.search_runs([experiment], "attributes.status = 'FINISHED'", page_token=token)
        found |= {
            (run.data.tags["run_key"], run.data.tags["fingerprint"]): run.info.run_id
            for run in page
            if "run_key" in run.data.tags
        }
        if not (token := page.token):
            return found


def _send(
    client: MlflowClient,
    experiment: str,
    run: Run,
    folder: Path,
    description: dict[str, Any],
    metrics: dict[str, Any],
) -> str:
    begin, end = (_milliseconds(description[name]) for name in ("started", "ended"))
    tags = {
        "run_key": run.key,
        "kind": run.kind,
        "fingerprint": metrics["fingerprint"],
        "config": description["config"],
        "code": description["code"],
        "commit": description.get("commit", ""),
        "dirty": description.get("dirty", ""),
        "device": description["device"],
        "mlflow.runName": "-".join(filter(None, (run.kind, run.method, run.recipe, run.key))),
    }
    run_id = client.create_run(experiment, start_time=begin).info.run_id
    params = [Param(name, str(value)[:_LONGEST]) for name, value in description["parameters"].items()]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    client.log_batch(run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])
    values = _steps(folder / "metrics.jsonl", end) + [
        Metric(f"final/{name}", value, end, 0) for name, value in _numbers(metrics).items()
    ]
    for start in range(0, len(values), _BATCH):
        client.log_batch(run_id, metrics=values[start : start + _BATCH])
    for name in _FILES:
        if (folder / name).exists():
            client.log_artifact(run_id, str(folder / name))
    client.set_terminated(run_id, end_time=end)
    return run_id


def _steps(path: Path, time: int) -> list[Metric]:
    """The logged steps as MLflow metrics."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Metric(name, value, time, int(line["step"]))
        for line in lines
        for name, value in line.items()
        if name != "step"
    ]


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Every number of nested metrics, named by its path; lists (the confusion matrix) are in the files."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name.replace(" ", "_")] = float(value)
    return found


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
