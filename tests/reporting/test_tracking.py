"""A study in MLflow as people see it: names, parents, inputs, models, views."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_stores import add_checkpoints, content, models, of

from clip2scene import layout
from clip2scene.config import load_config
from clip2scene.stages.base import get_stage
from clip2scene.study import Study
from clip2scene.tracking.rows import rows
from clip2scene.tracking.sync import sync
from clip2scene.tracking.words import named, named_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def embedded():
    """The study of the configuration that comes with the project."""
    config = load_config(ROOT / "config/config.yaml")
    return Study(config.model_copy(update={"experiments": ROOT / config.experiments}))


@pytest.fixture
def study(tracked, tmp_path):
    return tracked(f"sqlite:///{tmp_path}/store/mlflow.db")


def test_names_tell_the_runs_of_the_embedded_study_apart(embedded):
    runs = [run for run in embedded.runs.values() if run.kind in ("pretrain", "finetune", "predict")]
    names = {named(run, run.kind): run for run in runs}
    assert len(names) == len(runs)
    for name, run in names.items():
        words = name.replace(",", "").split()
        assert {run.method, *run.target.split(), f"{run.percent:g}" if run.percent else "seed"} <= {*words}
        assert f"{run.pretrain_seed}/{run.seed}" in words or str(run.seed) in words
    rows_ = [row.name for row in rows(embedded) if row.experiment]
    assert len(set(rows_)) == len(rows_) == len(embedded.experiments)
    assert len({name[:48] for name in rows_}) == len(rows_)  # letters that the view has room for


def test_twenty_letters_tell_the_models_of_the_embedded_study_apart(embedded):
    """MLflow's list of models shows no more of a name."""
    trained = [run for run in embedded.runs.values() if get_stage(run.kind).trains]
    names = {named_model(run): run for run in trained}
    assert len(names) == len(trained)
    plain = [name for name, run in names.items() if not run.variant]
    assert len({name[:20] for name in plain}) == len(plain) > 200
    assert not {*"".join(names)} & {*"%/.:\"'"}  # MLflow refuses these


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


def test_a_mean_needs_no_index(study):
    """After a workflow that failed it may be gone, and what is there is sent."""
    for run in study.runs.values():
        if run.kind == "index":
            (layout.run_folder(study.config, run) / "index.parquet").unlink()
    assert sync(study).sent == 8  # two rows of two seeds, trained and judged
    _, _, by_row, _ = content(study)
    assert {by_row[row.key].data.metrics["mIoU"] for row in rows(study) if row.experiment} == {31}


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


def test_weights_are_sent_where_that_is_asked_for(tracked, tmp_path):
    study = tracked(f"sqlite:///{tmp_path}/mlflow.db", checkpoints=True)
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
