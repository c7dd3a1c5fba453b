"""MLflow holds what the run files hold, once, however often they are sent."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine, text

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.experiments import all_runs
from clip2scene.reporting.mlflow_sink import prepare_store, send

ROW = """\
protocol	method	recipe	backbone	pretrain	target	percent	rule	pretrain_seeds	seeds
finetune	random		spvcnn		nuscenes	100			0 1
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store, and two finished runs with two logged steps each."""
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "experiments.tsv").write_text(ROW)
    config = Config(
        experiments=folder / "experiments.tsv",
        results=folder / "results",
        datasets={"nuscenes": {"root": "data"}},
        tracking={"uri": f"sqlite:///{folder}/store/mlflow.db"},
    )
    runs = list(all_runs(config).values())
    for run in runs:
        write_run(config, run, fingerprint="first")
    prepare_store(config.tracking.uri)
    return config, runs


def write_run(config, run, fingerprint):
    path = layout.run_folder(config, run)
    path.mkdir(parents=True, exist_ok=True)
    time = "2026-01-01T00:00:00+00:00"
    description = {"parameters": run.parameters(config), "config": "c", "code": "d", "device": "cpu"}
    (path / "run.json").write_text(json.dumps(description | {"started": time, "ended": time}))
    scores = {
        "miou": 0.25 + run.seed,
        "iou": {"traffic cone": 0.5, "bus": None},
        "confusion": [[1, 2], [3, 4]],
    }
    (path / "metrics.json").write_text(json.dumps({"fingerprint": fingerprint, "scores": scores}))
    steps = [{"step": step, "loss": 1.0 / (step + 1)} for step in range(2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))


def test_store_equals_files_and_sending_twice_changes_nothing(finished):
    config, runs = finished
    ids = send(config, runs)
    assert send(config, runs) == ids
    client = MlflowClient(config.tracking.uri)
    for run in runs:
        sent = client.get_run(ids[run.key])
        assert sent.data.tags["run_key"] == run.key
        assert sent.info.status == "FINISHED"
        assert sent.data.params == {name: str(value) for name, value in run.parameters(config).items()}
        assert sent.data.metrics["final/scores/miou"] == 0.25 + run.seed
        assert sent.data.metrics["final/scores/iou/traffic_cone"] == 0.5
        history = client.get_metric_history(ids[run.key], "loss")
        assert [(metric.step, metric.value) for metric in history] == [(0, 1.0), (1, 0.5)]
        files = {item.path for item in client.list_artifacts(ids[run.key])}
        assert files == {"run.json", "metrics.json", "metrics.jsonl"}


def test_another_result_of_a_run_supersedes_the_first(finished):
    config, runs = finished
    first = send(config, runs)
    write_run(config, runs[0], fingerprint="second")
    second = send(config, runs)
    assert second[runs[0].key] != first[runs[0].key]
    assert second[runs[1].key] == first[runs[1].key]
    client = MlflowClient(config.tracking.uri)
    experiment = client.get_experiment_by_name(config.tracking.experiment).experiment_id
    active = client.search_runs([experiment], f"tags.run_key = '{runs[0].key}'")
    assert [run.info.run_id for run in active] == [second[runs[0].key]]


def test_of_two_that_send_at_once_one_waits(finished):
    config, runs = finished
    write_run(config, runs[0], fingerprint="third")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: send(config, runs), range(2))
    assert first == second


def test_a_store_of_an_older_mlflow_is_brought_up_to_date(tmp_path):
    uri = f"sqlite:///{tmp_path}/old.db"
    engine, migrations = create_engine(uri), _get_alembic_config(uri)
    script = ScriptDirectory.from_config(migrations)
    Base.metadata.create_all(engine)  # MLflow's first tables
    command.upgrade(migrations, script.get_revision(script.get_current_head()).down_revision)
    prepare_store(uri)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == script.get_current_head()


def test_a_store_that_mlflow_does_not_bring_up_to_date_is_named(tmp_path):
    prepare_store(f"sqlite:///{tmp_path}/new.db")
    (tmp_path / "new.db").rename(tmp_path / "store.db")  # MLflow remembers what it opened
    uri = f"sqlite:///{tmp_path}/store.db"
    engine, script = create_engine(uri), ScriptDirectory.from_config(_get_alembic_config(uri))
    older = script.get_revision(script.get_current_head()).down_revision
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{older}'"))
    with pytest.raises(InputError, match=r"tracking.uri: sqlite:.*store.db: .*out-of-date.*db upgrade"):
        prepare_store(uri)
