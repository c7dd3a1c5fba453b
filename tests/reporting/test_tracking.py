"""A study in MLflow as people see it: names, parents, inputs, models, views; a server that goes away."""

import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
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
from sqlalchemy import event

from clip2scene import layout
from clip2scene.config import load_config
from clip2scene.errors import InputError
from clip2scene.files import read_json, write_json
from clip2scene.study import Study
from clip2scene.tracking.rows import rows
from clip2scene.tracking.sync import sync
from clip2scene.tracking.words import named

ROOT = Path(__file__).parents[2]
ROWS = (
    {
        "protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes",
        "percent": "100", "seeds": "0 1",
    },
    {
        "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
        "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0 1",
    },
)  # fmt: skip
SERVER_SECONDS = 300


@pytest.fixture
def make(tmp_path, make_study, finish):
    """Return a function that makes a finished study which is sent to an address."""

    def _make(uri, **tracking):
        made = make_study(tmp_path, *ROWS, tracking={"uri": uri, **tracking})
        finish(made)
        return made

    return _make


@pytest.fixture
def study(make, tmp_path):
    return make(f"sqlite:///{tmp_path}/store/mlflow.db")


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


def test_names_tell_the_runs_of_the_embedded_study_apart():
    config = load_config(ROOT / "config/config.yaml")
    study = Study(config.model_copy(update={"experiments": ROOT / config.experiments}))
    runs = [run for run in study.runs.values() if run.kind in ("pretrain", "finetune", "predict")]
    names = {named(run, run.kind): run for run in runs}
    assert len(names) == len(runs)
    for name, run in names.items():
        words = name.replace(",", "").split()
        assert {run.method, *run.target.split(), f"{run.percent:g}" if run.percent else "seed"} <= {*words}
        assert f"{run.pretrain_seed}/{run.seed}" in words or str(run.seed) in words
    rows_ = [row.name for row in rows(study) if row.experiment]
    assert len(set(rows_)) == len(rows_) == len(study.experiments)
    assert len({name[:48] for name in rows_}) == len(rows_)  # letters that the view has room for


def test_the_experiment_is_one_of_model_training_with_views_that_compare_methods(study):
    report = sync(study)
    client, experiment, by_row, by_run = content(study)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "workflowType=machine_learning" in report.link
    view = report.link.rpartition("viewStateShareKey=")[2]
    state = json.loads(json.loads(experiment.tags[f"mlflow.sharedViewState.{view}"])["state"])
    shown = client.search_runs([experiment.experiment_id], state["searchFilter"])
    assert {run.info.run_id for run in shown} == {
        run.info.run_id for run in by_row.values() if run.data.tags["kind"] == "row"
    }
    have = {f"metrics.`{name}`" for run in shown for name in run.data.metrics}
    have |= {f"params.`{name}`" for run in by_run.values() for name in run.data.params} | {"params.`rule`"}
    assert {*state["selectedColumns"]} <= have
    assert state["selectedColumns"][0] == "metrics.`mIoU`"


def test_runs_are_grouped_under_a_parent_that_has_the_mean_over_seeds(study):
    sync(study)
    _, _, by_row, by_run = content(study)
    parent_of = {key: run.data.tags.get("mlflow.parentRunId") for key, run in by_run.items()}
    for row in rows(study):
        parent = by_row[row.key]
        assert {parent_of[run.key] for run in row.runs} == {parent.info.run_id}
        assert parent.info.run_name == row.name
        assert parent.info.status == "FINISHED"
        if row.experiment:
            assert parent.data.metrics["mIoU"] == 31  # of 30 and 32
            assert parent.data.metrics["mIoU_std"] == 1.41
            assert parent.data.metrics["IoU/car"] == 31
            assert parent.data.metrics["runs"] == 2
    assert {row.name for row in rows(study)} == {
        "random, nuscenes 100 % (spvcnn)", "clip2scene fixed, nuscenes without labels (spvcnn)",
        "clip2scene fixed, nuscenes (pretrain spvcnn)",
    }  # fmt: skip


def test_a_parent_follows_its_runs(study, write_run, scored):
    sync(study)
    (row, *_) = rows(study)
    run = next(run for run in row.runs if run.kind == "predict" and run.seed == 0)
    write_run(study, run, {"all": scored(50)}, code="changed")
    sync(study)
    _, _, by_row, _ = content(study)
    assert by_row[row.key].data.metrics["mIoU"] == 41  # of 50 and 32
    write_run(study, run, {"all": scored(30)})
    sync(study)
    assert content(study)[2][row.key].data.metrics["mIoU"] == 31


def test_a_checkpoint_is_a_model_with_the_scores_of_what_predicts_with_it(study, write_run, finish):
    add_checkpoints(study)
    sync(study)
    client, experiment, _, by_run = content(study)
    found = models(client, experiment)
    assert found.keys() == {run.key for run in study.runs.values() if run.kind in ("pretrain", "finetune")}
    for run in study.runs.values():
        if run.kind in ("predict", "annotation_free"):
            network = study.parents(run)["network"]
            model = found[network.key]
            assert model.source_run_id == by_run[network.key].info.run_id
            scores = {metric.key: metric.value for metric in model.metrics}
            assert scores["mIoU"] == pytest.approx(30 + 2 * run.seed)
            (data,) = {(metric.dataset_name, metric.dataset_digest) for metric in model.metrics}
            assert data == of(by_run[run.key])
            path = Path(model.tags["checkpoint"])
            assert path.read_bytes() == network.key.encode()
            assert client.list_logged_model_artifacts(model.model_id) == []


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


def test_weights_are_sent_where_that_is_asked_for(make, tmp_path):
    study = make(f"sqlite:///{tmp_path}/mlflow.db", checkpoints=True)
    add_checkpoints(study)
    sync(study)
    client, experiment, _, _ = content(study)
    for model in models(client, experiment).values():
        (file,) = client.list_logged_model_artifacts(model.model_id)
        assert file.path == "checkpoint.pt"


def test_inputs_are_known_by_digests_of_what_was_read(study, tmp_path):
    add_checkpoints(study)
    sync(study)
    _, _, _, by_run = content(study)
    predictions = [by_run[run.key] for run in study.runs.values() if run.kind == "predict"]
    (found,) = {of(run) for run in predictions}  # one split, whichever seed
    assert found[0] == "nuscenes val"
    for run in study.runs.values():
        for item in by_run[run.key].inputs.dataset_inputs if run.key in by_run else ():
            (tag,) = item.tags
            evaluates = run.kind in ("predict", "annotation_free")
            assert (tag.key, tag.value) == ("mlflow.data.context", "evaluation" if evaluates else "training")
            assert str(tmp_path) in json.loads(item.dataset.source)["uri"]
            assert str(tmp_path) not in item.dataset.digest + item.dataset.profile


def test_a_second_sync_writes_nothing(study, monkeypatch):
    add_checkpoints(study)
    sync(study)
    for name in dir(MlflowClient):
        if name.startswith(("log_", "create_", "set_", "update_", "delete_", "finalize_")):
            monkeypatch.setattr(
                MlflowClient, name, lambda *arguments, name=name, **options: pytest.fail(name)
            )
    report = sync(study)
    assert report.sent == 0
    assert len(report.ids) == 8  # two rows of two seeds, trained and judged


def test_a_deleted_experiment_is_one_line(study):
    sync(study)
    client, experiment, _, _ = content(study)
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(
        InputError, match=r"tracking.experiment: 'clip2scene' was deleted in .*; expected one"
    ):
        sync(study)
    client.restore_experiment(experiment.experiment_id)
    assert sync(study).sent == 0


def test_a_run_that_was_deleted_in_the_web_page_is_sent_again(study):
    ids = sync(study).ids
    client = MlflowClient(study.config.tracking.uri)
    client.delete_run(next(iter(ids.values())))
    assert sync(study).sent == 1


def test_a_store_that_may_not_be_written_is_one_line(study, make, write_run, scored, tmp_path, capfd):
    sync(study)
    store = tmp_path / "read-only.db"  # MLflow keeps open what it opened under the old name
    Path(study.config.tracking.uri.removeprefix("sqlite:///")).rename(store)
    study = make(f"sqlite:///{store}")
    run = next(run for run in study.runs.values() if run.kind == "predict")
    write_run(study, run, {"all": scored(50)}, code="changed")
    store.chmod(0o444)
    if os.access(store, os.W_OK):
        pytest.skip("this user may write every file: a store that may not be written is not tested")
    refused(study, "attempt to write a readonly database", capfd)


def test_a_store_that_another_program_holds_is_one_line(study, write_run, scored, capfd, monkeypatch):
    sync(study)
    store = study.config.tracking.uri.removeprefix("sqlite:///")
    run = next(run for run in study.runs.values() if run.kind == "predict")
    write_run(study, run, {"all": scored(50)}, code="changed")
    engine = MlflowClient(study.config.tracking.uri)._tracking_client.store.engine
    event.listen(engine, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout = 100"))
    with sqlite3.connect(store, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused(study, "database is locked", capfd)
        other.execute("ROLLBACK")
    other.close()
    assert sync(study).sent == 1


def refused(study, reason, capfd):
    """Send to a store that refuses: one line, and nothing beside it."""
    capfd.readouterr()
    with pytest.raises(InputError) as error:
        sync(study)
    message = str(error.value)
    assert message.startswith(f"tracking.uri: {study.config.tracking.uri}: ")
    assert reason in message
    assert "\n" not in message
    assert said(capfd) == []


def said(capfd):
    """Return the lines on standard error, but for the progress bar."""
    lines = capfd.readouterr().err.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("mlflow:")]


def test_what_another_machine_has_begun_is_left_to_it(study):
    ids = sync(study).ids
    client, key = MlflowClient(study.config.tracking.uri), next(iter(ids))
    client.set_tag(ids[key], "sent_from", "another-machine")
    client.update_run(ids[key], status="RUNNING")
    assert sync(study).ids[key] != ids[key]
    assert client.get_run(ids[key]).info.lifecycle_stage == "active"


# -- servers


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


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request, tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    if request.param == "sqlite":
        made = Server(f"sqlite:///{folder}/mlflow.db", folder)
        made.start()
        yield made
        made.stop()
        return
    with postgresql(folder) as address:
        made = Server(address, folder)
        made.start()
        yield made
        made.stop()


def test_a_server_that_goes_away_in_the_middle_gets_the_rest_later(server, make, monkeypatch, capfd):
    study = make(server.uri)
    add_checkpoints(study)
    calls, create = [], MlflowClient.create_logged_model

    def away(*arguments, **options):
        made = create(*arguments, **options)
        calls.append(made)
        if len(calls) == 2:
            server.stop()  # it has half of a run, and a model that belongs to it
        return made

    monkeypatch.setattr(MlflowClient, "create_logged_model", away)
    capfd.readouterr()
    with pytest.raises(InputError) as error:
        sync(study)
    monkeypatch.undo()
    message = str(error.value)
    assert message.startswith(f"tracking.uri: {server.uri}: ")
    assert "expected a server that answers; `clip2scene sync` then sends what is missing" in message
    assert "\n" not in message
    assert said(capfd) == []  # that line is all

    server.start()
    before = {run.data.tags["run_key"] for run in content_of_half(study)}
    report = sync(study)
    assert 0 < len(before) < len(report.ids)
    client, experiment, by_row, by_run = content(study)
    assert by_run.keys() == report.ids.keys()
    assert {run.info.status for run in by_run.values()} == {"FINISHED"}
    assert len(models(client, experiment)) == 4
    found = client.search_logged_models([experiment.experiment_id])
    assert len(found) == 4  # the half's is gone
    assert {run.data.metrics["mIoU"] for run in by_row.values() if run.data.tags["kind"] == "row"} == {31}
    assert {item.path for item in client.list_artifacts(next(iter(report.ids.values())))} >= {"run.json"}
    assert sync(study).sent == 0


def content_of_half(study):
    client = MlflowClient(study.config.tracking.uri)
    experiment = client.get_experiment_by_name(study.config.tracking.experiment)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    assert "RUNNING" in {run.info.status for run in found}
    return [run for run in found if "run_key" in run.data.tags]
