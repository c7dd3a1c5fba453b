"""Records of runs: what decides them, and what is written when they begin and finish."""

import hashlib
import json
from dataclasses import replace

import pytest

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.files import read_json
from clip2scene.record import Identity, RunRecord
from clip2scene.run_files import finished, read_description

CONFIG = Config(datasets={"any": {"root": "data"}})
IDENTITY = Identity(
    kind="pretrain",
    fields={"method": "m", "percent": 1.0},
    settings={"voxel_size": 0.1, "crop": {"size": (32, 56)}},
    code={"clip2scene.training.pretrain": "c0de"},
    reads={"index": "abc"},
    survey="def",
)
OTHERS = {
    "kind": "finetune",
    "fields": {"method": "m", "percent": 5.0},
    "settings": {"voxel_size": 0.1, "crop": {"size": (32, 57)}},
    "code": {"clip2scene.training.pretrain": "c0d3"},
    "reads": {"index": "abd"},
    "survey": "",
}


@pytest.fixture
def record(tmp_path) -> RunRecord:
    return RunRecord(tmp_path / "runs" / "abc", "pretrain", 3, IDENTITY)


def test_a_fingerprint_is_the_hash_of_everything_that_decides_a_run():
    values = {
        "kind": "pretrain",
        "fields": {"method": "m", "percent": 1.0},
        "settings": {"voxel_size": 0.1, "crop": {"size": [32, 56]}},
        "code": {"clip2scene.training.pretrain": "c0de"},
        "reads": {"index": "abc"},
        "survey": "def",
    }
    text = json.dumps(values, sort_keys=True)
    assert IDENTITY.fingerprint == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", OTHERS)
def test_every_part_of_an_identity_changes_the_fingerprint(name):
    assert replace(IDENTITY, **{name: OTHERS[name]}).fingerprint != IDENTITY.fingerprint


def test_the_order_of_settings_does_not_change_the_fingerprint():
    turned = replace(IDENTITY, settings=dict(reversed(IDENTITY.settings.items())))
    assert list(turned.settings) != list(IDENTITY.settings)
    assert turned.fingerprint == IDENTITY.fingerprint


def test_an_identity_survives_json():
    """`run.json` is compared with the identity that the run would have now."""
    assert json.loads(json.dumps(IDENTITY.values())) == IDENTITY.values()


def test_a_finished_run_is_finished_for_its_fingerprint_only(record):
    assert not finished(record.folder)
    record.begin(CONFIG, "cpu")
    assert not finished(record.folder)
    record.resume.write_text("state")
    record.finish({"losses": {"loss": 1.0}, "cost": {"seconds": 2.0}})
    assert finished(record.folder)
    assert finished(record.folder, IDENTITY.fingerprint)
    assert not finished(record.folder, replace(IDENTITY, survey="").fingerprint)
    assert not record.resume.exists()


def test_a_run_that_lost_a_file_is_not_finished(record):
    record.begin(CONFIG, "cpu")
    record.checkpoint.write_text("weights")
    record.finish({})
    assert finished(record.folder, IDENTITY.fingerprint)
    record.checkpoint.unlink()
    assert not finished(record.folder, IDENTITY.fingerprint)


def test_a_run_that_is_begun_again_continues(record):
    record.begin(CONFIG, "cpu")
    record.resume.write_text("state")
    record.log({"step": 0})
    record.begin(CONFIG, "cpu")
    assert record.resume.read_text() == "state"
    assert record.logged() == [{"step": 0}]


def test_a_killed_process_leaves_no_temporary_file_behind(record):
    record.folder.mkdir(parents=True)
    (record.folder / ".checkpoint.pt.x1y2z3_a.pt").write_text("half")
    record.begin(CONFIG, "cpu")
    record.finish({})
    assert sorted(path.name for path in record.folder.iterdir()) == ["metrics.json", "run.json"]


def test_run_json_says_what_was_run(record):
    record.begin(CONFIG, "cuda:0")
    values = read_json(record.description)
    found = [values[name] for name in ("key", "status", "seed", "device")]
    assert found == ["abc", "running", 3, "cuda:0"]
    assert values["fingerprint"] == IDENTITY.fingerprint
    assert {name: values[name] for name in IDENTITY.values()} == IDENTITY.values()
    assert (values["device_asked"], values["threads"], values["ended"]) == ("auto", 1, None)
    assert "torch" in values["packages"]
    record.finish({})
    values = read_json(record.description)
    assert values["status"] == "finished"
    assert values["started"] <= values["ended"]


def test_run_json_lists_every_file_with_its_hash(record):
    record.begin(CONFIG, "cpu")
    record.checkpoint.write_bytes(b"weights")
    record.resume.write_bytes(b"state")
    record.log({"step": 0})
    (record.folder / "parts").mkdir()
    record.finish({"cost": {"seconds": 2.0}}, products={"train/points": "0123"})
    values = read_description(record.folder)
    assert list(values["files"]) == ["checkpoint.pt", "metrics.json", "metrics.jsonl"]
    for name, found in values["files"].items():
        assert found == hashlib.sha256((record.folder / name).read_bytes()).hexdigest()
    assert values["products"] == values["files"] | {"train/points": "0123"}
    assert read_json(record.folder / "metrics.json") == {"key": "abc", "cost": {"seconds": 2.0}}


def test_the_log_can_be_cut_back_to_a_saved_state(record):
    record.rewind_log(0)  # nothing is logged yet
    record.begin(CONFIG, "cpu")
    record.log({"step": 0})
    size = record.log_size()
    record.log({"step": 1})
    record.rewind_log(size)
    assert record.logged() == [{"step": 0}]


def test_a_description_that_is_damaged_or_another_run_s_is_refused(record):
    assert read_description(record.folder) is None
    record.begin(CONFIG, "cpu")
    assert read_description(record.folder)["status"] == "running"
    copy = record.folder.with_name("abd")
    record.folder.rename(copy)
    with pytest.raises(InputError, match=r"abd/run\.json: describes run abc; expected abd"):
        finished(copy)
    (copy / "run.json").write_text("[]")
    with pytest.raises(InputError, match=r"run\.json: expected the keys key, status and fingerprint"):
        finished(copy)
    (copy / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: expected a JSON file, found a damaged file"):
        finished(copy)


def test_only_temporary_files_of_ours_are_cleared(tmp_path, make_record):
    made = make_record(tmp_path / "abc")
    made.folder.mkdir()
    theirs = [".notes.txt", ".nfs000000000012ab", ".gitignore", "notes.pt", ".checkpoint.pt.short.pt"]
    ours = [".checkpoint.pt.a1b2c3_z.pt", ".run.json.abcdefgh.json"]
    for name in (*theirs, *ours):
        (made.folder / name).touch()
    made.begin(Config(datasets={"a": {"root": "a"}}), "cpu")
    assert {path.name for path in made.folder.iterdir()} == {*theirs, "run.json"}
