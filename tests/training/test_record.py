import json

import pytest

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.record import RunRecord

CONFIG = Config(datasets={})


def record(folder, source, code="c0de", **parameters):
    return RunRecord.of(folder / "runs" / "abc", "pretrain", {"method": "m", **parameters}, 3, [source], code)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "index.parquet"
    path.write_text("frames")
    return path


def test_a_finished_run_is_finished_for_its_fingerprint_only(tmp_path, source):
    run = record(tmp_path, source)
    assert not run.finished
    run.begin(CONFIG, "cpu")
    assert not run.finished
    run.resume.write_text("state")
    run.finish({"losses": {"loss": 1.0}, "cost": {"seconds": 2.0}})
    assert run.finished
    assert not run.resume.exists()
    assert record(tmp_path, source).finished
    assert not record(tmp_path, source, code="other").finished
    assert not record(tmp_path, source, recipe="paper").finished
    source.write_text("other frames")
    assert not record(tmp_path, source).finished


def test_the_same_run_continues_and_another_starts_from_empty(tmp_path, source):
    run = record(tmp_path, source)
    run.begin(CONFIG, "cpu")
    run.resume.write_text("state")
    run.log({"step": 0})
    run.begin(CONFIG, "cpu")
    assert run.resume.exists()
    assert run.logged() == [{"step": 0}]
    other = record(tmp_path, source, code="other")
    other.begin(CONFIG, "cpu")
    assert [path.name for path in other.folder.iterdir()] == ["run.json"]


def test_run_json_says_what_was_run(tmp_path, source):
    run = record(tmp_path, source)
    run.begin(CONFIG, "cuda:0")
    values = json.loads((run.folder / "run.json").read_text())
    assert (values["key"], values["status"], values["seed"], values["device"]) == (
        "abc",
        "running",
        3,
        "cuda:0",
    )
    assert list(values["inputs"]) == [str(source)]
    assert "torch" in values["packages"]
    run.finish({})
    assert json.loads((run.folder / "run.json").read_text())["status"] == "finished"


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.parquet: no such file"):
        record(tmp_path, tmp_path / "gone.parquet")
