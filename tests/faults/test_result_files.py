"""Files of results: what is done to what a run wrote, and what must come out."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import read_confusion, write_confusion
from clip2scene.evaluation.kept import read_scan
from clip2scene.files import locked, read_json, read_object, write_json
from clip2scene.reporting import verify
from clip2scene.reporting.figures import draw_scans
from clip2scene.run_files import (
    finished,
    read_description,
    read_log,
    read_metrics,
    refuse_changed,
    refuse_missing,
    state,
)
from clip2scene.runs import Run

CONFIG = Config(device="cpu", datasets={"any": {"root": "data"}})


@pytest.fixture
def record(tmp_path, make_record):
    """Return the record of a finished run."""
    made = make_record(tmp_path / "runs" / "abc")
    made.begin(CONFIG, "cpu")
    made.checkpoint.write_bytes(b"weights")
    made.log({"step": 0, "loss": 1.5})
    made.log({"step": 1, "loss": 0.5})
    made.finish({"losses": {"loss": 0.5}})
    return made


def but(**values):
    return lambda good: good | values


def lacks(name):
    return lambda good: {key: value for key, value in good.items() if key != name}


DESCRIPTIONS = [
    (b"", "expected a JSON file, found a damaged file"),
    (b"{", "expected a JSON file, found a damaged file"),
    (b"\x80\x81binary", "expected a JSON file, found a damaged file"),
    (b"[" * 100_000, "expected a JSON file, found a damaged file"),
    (lambda good: [good], "expected the keys key, status and fingerprint; remove the folder"),
    (lambda good: "abc", "expected the keys key, status and fingerprint"),
    (lambda good: None, "expected the keys key, status and fingerprint"),
    (lacks("status"), "expected the keys key, status and fingerprint"),
    (but(key="abd"), "describes run abd; expected abc"),
    (but(key=["abc"]), "describes run ['abc']; expected abc"),
    (but(status="done"), "status: found 'done'; expected running or finished"),
    (but(status=True), "status: found True; expected running or finished"),
    (but(fingerprint=None), "fingerprint: found None; expected a hash"),
    (but(started="yesterday"), "started: found 'yesterday'; expected a time such as"),
    (but(started=1732500000), "started: found 1732500000; expected a time"),
    (but(ended="later"), "ended: found 'later'; expected a time"),
    (lacks("started"), "started: found nothing; expected a time"),
    (lacks("files"), "files: found nothing; expected hashes by name"),
    (but(files=["checkpoint.pt"]), "files: found ['checkpoint.pt']; expected hashes by name"),
    (but(files={"checkpoint.pt": 1}), "files: found {'checkpoint.pt': 1}; expected hashes by name"),
    (but(products=None), "products: found None; expected digests by name"),
    (but(fields="finetune"), "fields: found 'finetune'; expected an object"),
    (but(settings=[]), "settings: found []; expected an object"),
    (but(device=0), "device: found 0; expected a device"),
]


@pytest.mark.parametrize(("change", "message"), DESCRIPTIONS)
def test_a_damaged_description_is_named(record, change, message):
    path = record.description
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        write_json(path, change(read_json(path)))
    before = path.read_bytes()
    for read in (read_description, finished):
        with pytest.raises(InputError) as error:
            read(record.folder)
        assert str(error.value).startswith(f"{path}: ")
        assert message in str(error.value)
    assert path.read_bytes() == before
    assert record.checkpoint.exists()


def test_a_file_that_is_gone_is_named(record, tmp_path, make_record):
    path = record.folder / "metrics.jsonl"
    refuse_missing(record.folder, "*")
    path.unlink()
    refuse_missing(record.folder, "scan-*.npz")
    for pattern in ("metrics.jsonl", "*.jsonl"):
        with pytest.raises(InputError, match=rf"^{path}: no such file, though run\.json lists it; expected"):
            refuse_missing(record.folder, pattern)
    silent = make_record(tmp_path / "runs" / "abd")
    refuse_missing(silent.folder, "*")
    silent.begin(CONFIG, "cpu")
    refuse_missing(silent.folder, "*")


def test_a_run_says_whether_a_process_is_at_it(tmp_path, make_record):
    """The file alone says "running" for ever of a run that was killed."""
    config = CONFIG.model_copy(update={"results": tmp_path})
    run = replace(Run("pretrain", target="any"), key="abc")
    assert state(config, run) == "-"
    made = make_record(layout.run_folder(config, run))
    made.begin(CONFIG, "cpu")
    assert state(config, run) == "stopped"
    for name in ("abc", "abc-3-of-9", "abcd"):
        with locked(tmp_path / "locks" / f"{name}.lock", "test"):
            assert state(config, run) == ("stopped" if name == "abcd" else "running")
        assert state(config, run) == "stopped"
    made.finish()
    with locked(layout.lock(config, run), "test"):
        assert state(config, run) == "finished"


def test_a_run_that_is_still_computed_needs_no_files_yet(tmp_path, make_record):
    record = make_record(tmp_path / "abc")
    record.begin(CONFIG, "cpu")
    assert read_description(record.folder)["ended"] is None
    assert not finished(record.folder)


LOGS = [
    ('{"step": 0, "loss": 1.5}\n{"step": 1, "lo', [0]),
    ('{"step": 0, "loss": 1.5}\n{"step": 1, "loss": 0.5}', [0]),  # its end was not written
    ('{"step": 0, "loss": 1.5}\n{"step": 1, "loss": 0.5}\n', [0, 1]),
    ('{"step": 0, "loss": NaN}\n', [0]),
    ("", "holds no logged step"),
    ('{"step": 0, "lo', "holds no logged step"),
    ('{"step": 0, "lo\n{"step": 1, "loss": 1}\n', 'line 1: found \'{"step": 0, "lo\'; expected numbers'),
    ('{"step": 0, "loss": 1}\n\n', "line 2: found ''; expected numbers, one named step"),
    ("[1, 2]\n", "line 1: found '[1, 2]'; expected numbers, one named step"),
    ('{"loss": 1}\n', "line 1: found '{\"loss\": 1}'; expected numbers, one named step"),
    ('{"step": 0, "loss": "low"}\n', "line 1: found "),
    ('{"step": true}\n', "line 1: found "),
    (b"\x80\x03}q\x00", "expected a line of JSON a logged step, found a damaged file"),
]


@pytest.mark.parametrize(("content", "expected"), LOGS)
def test_a_log_is_read_up_to_a_line_that_was_cut_or_named(record, content, expected):
    path = record.folder / "metrics.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if isinstance(expected, list):
        assert [step["step"] for step in read_log(path)] == expected
        return
    with pytest.raises(InputError) as error:
        read_log(path)
    assert str(error.value).startswith(f"{path}: ")
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda good: [good], "found list; expected a JSON object"),
        (lambda good: 27.5, "found float; expected a JSON object"),
        (but(key="abd"), "key is 'abd'; expected 'abc'"),
        (lacks("key"), "key is None; expected 'abc'"),
    ],
)
def test_metrics_of_another_run_are_refused(record, change, message):
    path = record.folder / "metrics.json"
    assert read_metrics(record.folder)["losses"] == {"loss": 0.5}
    write_json(path, change(read_json(path)))
    with pytest.raises(InputError) as error:
        read_metrics(record.folder)
    assert str(error.value) == f"{path}: {message}"


def test_a_changed_file_of_a_finished_run_is_named(record, tmp_path):
    refuse_changed(record.checkpoint)
    (tmp_path / "imported.pt").write_bytes(b"from elsewhere")
    refuse_changed(tmp_path / "imported.pt")
    record.checkpoint.write_bytes(b"weightz")
    with pytest.raises(InputError, match=r"checkpoint\.pt: its SHA-256 is not the one in run\.json"):
        refuse_changed(record.checkpoint)


N = 5
SCAN = {
    "id": np.array("a"),
    "points": np.arange(3.0 * N, dtype=np.float32).reshape(N, 3),
    "labels": np.array([0, 1, 2, 16, 3], np.uint8),
    "prediction": np.array([1, 1, 2, 16, 3]),
}
SCANS = [
    (b"", "expected a predicted keyframe, found a damaged file (it is no whole .npz archive)"),
    (b"text", "found a damaged file (it is no whole .npz archive)"),
    ("half", "found a damaged file (it is no whole .npz archive)"),
    ("flipped", "expected a predicted keyframe, found a damaged file"),
    (pickle.dumps(SCAN), "found a damaged file (it is no whole .npz archive)"),
    ({"labels": np.array([None] * N)}, "found a damaged file (it holds Python objects)"),
    ({"points": None}, "lacks points; expected id, points, labels, prediction"),
    ({"id": None}, "lacks id; expected id, points, labels, prediction"),
    ({"id": np.array(3)}, "id: found int64 []; expected a text"),
    ({"prediction": None}, "lacks prediction; expected id, points, labels, prediction"),
    ({"points": SCAN["points"][:, :2]}, "points: found float32 [5, 2]; expected finite numbers [N, 3]"),
    ({"points": SCAN["points"].astype(int)}, "points: found int64 [5, 3]; expected finite numbers [N, 3]"),
    ({"points": SCAN["points"] * np.nan}, "points: found float32 [5, 3]; expected finite numbers [N, 3]"),
    ({"points": np.float32(1)}, "points: found float32 []; expected finite numbers [N, 3]"),
    ({"points": SCAN["points"][:0]}, "points: found float32 [0, 3]; expected finite numbers [N, 3], N > 0"),
    ({"labels": SCAN["labels"][:4]}, "labels: found uint8 [4]; expected integers [5]"),
    ({"labels": SCAN["labels"] / 2}, "labels: found float64 [5]; expected integers [5]"),
    ({"labels": np.array([0, 1, 2, 17, 3])}, "labels: found 0 to 17; expected 0 to 16"),
    ({"prediction": np.array([-1, 1, 2, 3, 3])}, "prediction: found -1 to 3; expected 0 to 16"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), SCANS)
def test_a_kept_keyframe_that_cannot_be_drawn_is_named(tmp_path, change, message):
    path = tmp_path / "scan-000000.npz"
    np.savez_compressed(path, **SCAN)
    draw_scans([read_scan(path, 16)], NuScenes(), "title", tmp_path / "scan.png")
    whole = path.read_bytes()
    if isinstance(change, bytes):
        path.write_bytes(change)
    elif change == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif change == "flipped":
        path.write_bytes(whole[:60] + bytes(byte ^ 0xFF for byte in whole[60:70]) + whole[70:])
    else:
        np.savez(path, **{name: value for name, value in (SCAN | change).items() if value is not None})
    with pytest.raises(InputError) as error:
        read_scan(path, 16)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "allow_pickle" not in str(error.value)


def test_matrices_that_are_python_objects_are_refused(tmp_path):
    path = tmp_path / "confusion.npz"
    write_confusion(path, ["a"], {"all": np.array([[[None] * 4] * 4])})
    with pytest.raises(InputError, match=r"confusion\.npz: expected confusion matrices, found a damaged"):
        read_confusion(path, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "found list; expected a JSON object"),
        ('"main"', "found str; expected a JSON object"),
        ("{", "expected a JSON file, found a damaged file"),
        ('{"runs": ["abc"]}', "runs: found list; expected an object"),
    ],
)
def test_a_damaged_receipt_is_named(tmp_path, content, message):
    path = tmp_path / "main.json"
    assert verify._receipt(path, "runs") == {}
    path.write_text(content)
    with pytest.raises(InputError) as error:
        verify._receipt(path, "runs")
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found a damaged file"),
        (b"a,b\n1,2\n1,2,3,4\n", "found a damaged file"),
        (b"\xff\xfea", "damaged file"),
    ],
)
def test_a_damaged_table_is_named_when_it_is_verified(tmp_path, content, message):
    (tmp_path / "right.csv").write_text("a,b\n1,2\n")
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"table\.csv: expected a table as CSV, .*{message}"):
        list(verify._compare(tmp_path / "table.csv", tmp_path / "right.csv"))


def test_objects_of_json_are_returned_as_they_are(tmp_path):
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps({"a": 1}))
    assert read_object(tmp_path / "a.json") == {"a": 1}
