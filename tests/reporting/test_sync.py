"""MLflow holds what the run files hold, once, however often they are sent."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from alembic import command
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine, text

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.runs import flat
from clip2scene.tracking.sync import sync

RANDOM = {
    "protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes",
    "percent": "100", "seeds": "0 1",
}  # fmt: skip
SEND = "import sys; from clip2scene.cli import main; main(['--config', sys.argv[1], 'sync'])"


@pytest.fixture
def study(tmp_path, make_study, finish):
    """A store that is not there yet, and a finished study: index, subset, 2 fine-tunings, 2 predictions."""
    made = make_study(tmp_path, RANDOM, tracking={"uri": f"sqlite:///{tmp_path}/store/mlflow.db"})
    finish(made)
    return made


def client_of(study):
    client = MlflowClient(study.config.tracking.uri)
    return client, client.get_experiment_by_name(study.config.tracking.experiment).experiment_id


def send(study):
    """Send a study; return MLflow's id of every run."""
    return sync(study).ids


def everything(study):
    """Return all that MLflow holds but for parents: its runs by their id."""
    client, experiment = client_of(study)
    found = client.search_runs([experiment], max_results=1000)
    return {run.info.run_id: run for run in found if "row_key" not in run.data.tags}


def parents(study):
    """Return the parents that MLflow holds, by their name."""
    client, experiment = client_of(study)
    found = client.search_runs([experiment], max_results=1000)
    return {run.info.run_name: run for run in found if "row_key" in run.data.tags}


def predictions(study):
    return [run for run in study.runs.values() if run.kind == "predict"]


def test_store_equals_files_and_sending_twice_changes_nothing(study):
    ids = send(study)
    before = {number: run.to_dictionary() for number, run in everything(study).items()}
    assert send(study) == ids
    assert {number: run.to_dictionary() for number, run in everything(study).items()} == before
    assert sorted(ids.values()) == sorted(before)
    sent = {run.key for run in study.runs.values() if run.kind in ("finetune", "predict")}
    assert ids.keys() == sent  # an index and a subset leave no numbers
    client, _ = client_of(study)
    for key, number in ids.items():
        run, mirrored = study.runs[key], client.get_run(number)
        written = json.loads((layout.run_folder(study.config, run) / "run.json").read_text())
        assert mirrored.info.status == "FINISHED"
        tags = mirrored.data.tags
        assert (tags["run_key"], tags["kind"], tags["study"]) == (key, run.kind, study.name)
        assert tags["fingerprint"] == written["fingerprint"]
        assert tags["mlflow.source.name"] == f"clip2scene run {key}"
        assert tags["mlflow.source.git.commit"] == 40 * "c"
        expected = flat({**written["fields"], "settings": written["settings"]})
        assert mirrored.data.params == {name: str(value) for name, value in expected.items()}
        files = {item.path for item in client.list_artifacts(number)}
        if run.kind == "predict":
            assert mirrored.data.metrics["mIoU"] == pytest.approx(30 + 2 * run.seed)
            assert mirrored.data.metrics["IoU/traffic_cone"] == pytest.approx(30 + 2 * run.seed)
            assert "IoU/bus" not in mirrored.data.metrics  # neither labelled nor predicted
            assert files == {"run.json", "metrics.json"}
        else:
            assert mirrored.data.metrics["final_loss"] == 0.5
            history = client.get_metric_history(number, "loss")
            assert [(metric.step, metric.value) for metric in history] == [(0, 1.0), (1, 0.5)]
            assert files == {"run.json", "metrics.json", "metrics.jsonl"}


def test_unfinished_runs_are_not_sent(study):
    run = predictions(study)[0]
    path = layout.run_folder(study.config, run) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    assert run.key not in send(study)


def test_a_run_that_was_sent_in_part_is_sent_again(study):
    """A process was killed while it sent: what it left is no FINISHED run."""
    ids = send(study)
    client, _ = client_of(study)
    run = predictions(study)[0]
    client.update_run(ids[run.key], status="RUNNING")
    again = send(study)
    assert again[run.key] != ids[run.key]
    assert sorted(everything(study)) == sorted(again.values())  # the half is gone
    assert {key: number for key, number in again.items() if key != run.key} == {
        key: number for key, number in ids.items() if key != run.key
    }


def test_another_result_of_a_run_supersedes_the_first_until_it_comes_back(study, write_run, scored):
    """Nothing is deleted: both runs stay, and the tag says which of them the results folder has."""
    run, other = predictions(study)
    first = send(study)
    write_run(study, run, {"all": scored(50)}, code="changed")
    second = send(study)
    assert second[run.key] != first[run.key]
    assert second[other.key] == first[other.key]
    there = everything(study)
    assert there[first[run.key]].data.tags["superseded"] == "True"
    assert there[second[run.key]].data.tags.get("superseded", "False") == "False"
    assert there[first[other.key]].data.tags["superseded"] == "False"
    assert there[first[run.key]].info.lifecycle_stage == "active"
    assert there[first[run.key]].data.metrics["mIoU"] == pytest.approx(30)
    assert there[second[run.key]].data.metrics["mIoU"] == pytest.approx(50)

    write_run(study, run, {"all": scored(30)})  # as if `superseded` had given it back
    assert send(study) == first
    there = everything(study)
    assert there[first[run.key]].data.tags["superseded"] == "False"
    assert there[second[run.key]].data.tags["superseded"] == "True"
    assert len(there) == len(first) + 1


def test_another_definition_of_the_metric_is_another_result(study, monkeypatch):
    """Its numbers would differ from those that were sent."""
    first = send(study)
    monkeypatch.setattr("clip2scene.tracking.sync.code_hash", lambda *modules: "another")
    second = send(study)
    assert first.keys() == second.keys()
    there = everything(study)
    for key, number in first.items():
        scored = study.runs[key].kind == "predict"
        assert (second[key] != number) == scored
        assert there[number].data.tags["superseded"] == str(scored)


def test_of_two_that_send_at_once_one_waits(study):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(send, [study, study])
    assert first == second
    assert len(everything(study)) == len(first)


def test_two_processes_may_make_one_store_at_once(tmp_path, make_study, finish):
    """They send from two results folders, runs of the same keys among them; the store is fresh."""
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    jobs, studies = [], []
    for name, seeds in (("one", "0 1"), ("two", "1 2")):
        (tmp_path / name).mkdir()
        study = make_study(
            tmp_path / name,
            RANDOM | {"seeds": seeds},
            tracking={"uri": uri},
            datasets={"nuscenes": {"root": "a-root"}},
        )
        finish(study)
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(study.config.model_dump(mode="json")))
        studies.append(study)
    for name in ("one", "two"):
        arguments = [sys.executable, "-c", SEND, str(tmp_path / name / "config.yaml")]
        jobs.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    errors = [job.communicate(timeout=300)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], errors
    receipts = [
        json.loads(layout.receipt(study.config, f"mlflow-{study.name}").read_text()) for study in studies
    ]
    shared = receipts[0].keys() & receipts[1].keys()
    assert {studies[0].runs[key].seed for key in shared} == {1}
    assert all(receipts[0][key] == receipts[1][key] for key in shared)
    numbers = {*receipts[0].values(), *receipts[1].values()}
    assert everything(studies[0]).keys() == numbers
    assert len(numbers) == 6  # three seeds, tuned and predicted


@pytest.mark.parametrize("make", ["file in the way", "no such disk", "no database", "unknown scheme"])
def test_a_store_that_cannot_be_written_is_one_clear_error(study, tmp_path, make):
    (tmp_path / "file").write_text("this is no database, nor a folder\n" * 100)
    uri = {
        "file in the way": f"sqlite:///{tmp_path}/file/store.db",
        "no such disk": "sqlite:////proc/nowhere/store.db",
        "no database": f"sqlite:///{tmp_path}/file",
        "unknown scheme": "carrier-pigeon://store",
    }[make]
    tracking = study.config.tracking.model_copy(update={"uri": uri})
    study.config = study.config.model_copy(update={"tracking": tracking})
    with pytest.raises(InputError) as error:
        send(study)
    message = str(error.value)
    assert message.startswith(f"tracking.uri: {uri}: ")
    assert "\n" not in message
    assert len(message) > len(f"tracking.uri: {uri}: ") + 10


def test_a_store_of_an_older_mlflow_is_brought_up_to_date(study, tmp_path):
    uri = study.config.tracking.uri
    Path(uri.removeprefix("sqlite:///")).parent.mkdir()
    engine, migrations = create_engine(uri), _get_alembic_config(uri)
    script = ScriptDirectory.from_config(migrations)
    Base.metadata.create_all(engine)  # MLflow's first tables
    command.upgrade(migrations, script.get_revision(script.get_current_head()).down_revision)
    assert len(send(study)) == 4
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == script.get_current_head()


def test_a_store_that_mlflow_does_not_bring_up_to_date_is_named(study, tmp_path):
    send(study)
    (tmp_path / "store/mlflow.db").rename(tmp_path / "store.db")  # MLflow remembers what it opened
    uri = f"sqlite:///{tmp_path}/store.db"
    engine, script = create_engine(uri), ScriptDirectory.from_config(_get_alembic_config(uri))
    older = script.get_revision(script.get_current_head()).down_revision
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{older}'"))
    tracking = study.config.tracking.model_copy(update={"uri": uri})
    study.config = study.config.model_copy(update={"tracking": tracking})
    with pytest.raises(InputError, match=r"tracking.uri: sqlite:.*store.db: .*out-of-date.*db upgrade"):
        send(study)
