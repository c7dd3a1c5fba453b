"""Stores of MLflow: reading back a study that was sent, and servers that a test can take away."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from mlflow import MlflowClient

from clip2scene import layout
from clip2scene.files import read_json, write_json

SERVER_SECONDS = 300


def content(study):
    """Return a client, the experiment, its parents by key, and its runs by key, without superseded ones."""
    client = MlflowClient(study.config.tracking.uri)
    experiment = client.get_experiment_by_name(study.config.tracking.experiment)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    by_row = {run.data.tags["row_key"]: run for run in found if "row_key" in run.data.tags}
    current = [run for run in found if run.data.tags["superseded"] == "False"]
    by_run = {run.data.tags["run_key"]: run for run in current if "run_key" in run.data.tags}
    return client, experiment, by_row, by_run


def models(client, experiment):
    found = client.search_logged_models([experiment.experiment_id], max_results=100)
    return {model.tags["run_key"]: model for model in found}


def of(run):
    (data,) = [item.dataset for item in run.inputs.dataset_inputs]
    return data.name, data.digest


def add_checkpoints(study):
    """Give every training a checkpoint, and what reads it the digest, as if it had been computed."""
    for run in study.runs.values():
        folder = layout.run_folder(study.config, run)
        values = read_json(folder / "run.json")
        if run.kind in ("pretrain", "finetune"):
            (folder / "checkpoint.pt").write_bytes(run.key.encode())
            values["files"]["checkpoint.pt"] = hashlib.sha256(run.key.encode()).hexdigest()
        for role, source in study.reads(run).items():
            if role == "network" and hasattr(source, "run"):
                network = study.keyed(source.run).key
                values["reads"][f"{role}: {source.file}"] = hashlib.sha256(network.encode()).hexdigest()
            if role == "index":
                values["reads"] |= {f"{role}: {name}": f"digest of {name}" for name in source.decisive}
        write_json(folder / "run.json", values)


def said(capfd):
    """Return the lines on standard error, but for the progress bar."""
    lines = capfd.readouterr().err.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("mlflow:")]


@contextmanager
def postgresql(folder):
    """Start a PostgreSQL of the test's own; yield its address."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(shutil.which("initdb") or "")
    ]
    if not programs[-1].is_file() or find_spec("psycopg2") is None:
        pytest.skip("PostgreSQL or psycopg2 is not installed: a server on PostgreSQL is not tested")
    as_user = {"user": "nobody"} if os.geteuid() == 0 else {}  # PostgreSQL refuses the superuser
    data = Path(tempfile.mkdtemp(prefix="clip2scene-pg-"))
    try:
        if as_user:
            shutil.chown(data, "nobody")
        start = [str(programs[-1]), "-D", str(data / "db"), "-A", "trust", "-U", "mlflow", "--no-sync"]
        subprocess.run(start, check=True, capture_output=True, cwd=data, **as_user)
        port = free_port()
        command = [
            str(programs[-1].with_name("postgres")),
            "-D",
            str(data / "db"),
            "-p",
            str(port),
            "-k",
            str(data),
        ]
        server = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=data, **as_user
        )
        try:
            wait_for(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close())
            yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(answer):
    end = time.monotonic() + SERVER_SECONDS
    while True:
        try:
            return answer()
        except (OSError, urllib.error.URLError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


class Server:
    """A real ``mlflow server``, which can be taken away and brought back at the same address."""

    def __init__(self, store, folder):
        self.store, self.folder, self.port = store, folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store,
            "--port", str(self.port), "--workers", "1",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )  # fmt: skip
        wait_for(lambda: urllib.request.urlopen(f"{self.uri}/health", timeout=5).read())

    def stop(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None
