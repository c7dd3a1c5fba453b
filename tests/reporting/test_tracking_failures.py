"""Stores of MLflow that are away, locked or read-only, and what was deleted in them or is sent by another."""

import os
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_stores import Server, add_checkpoints, content, models, postgresql, said
from sqlalchemy import event

from clip2scene.errors import InputError
from clip2scene.tracking.sync import sync


@pytest.fixture
def study(tracked, tmp_path):
    return tracked(f"sqlite:///{tmp_path}/store/mlflow.db")


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


def test_a_store_that_may_not_be_written_is_one_line(study, tracked, write_run, scored, tmp_path, capfd):
    sync(study)
    store = tmp_path / "read-only.db"  # MLflow keeps open what it opened under the old name
    Path(study.config.tracking.uri.removeprefix("sqlite:///")).rename(store)
    study = tracked(f"sqlite:///{store}")
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


def test_what_another_machine_has_begun_is_left_to_it(study):
    ids = sync(study).ids
    client, key = MlflowClient(study.config.tracking.uri), next(iter(ids))
    client.set_tag(ids[key], "sent_from", "another-machine")
    client.update_run(ids[key], status="RUNNING")
    assert sync(study).ids[key] != ids[key]
    assert client.get_run(ids[key]).info.lifecycle_stage == "active"


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


def test_a_server_that_goes_away_in_the_middle_gets_the_rest_later(server, tracked, monkeypatch, capfd):
    study = tracked(server.uri)
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
