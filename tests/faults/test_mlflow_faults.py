"""Addresses of tracking stores, and stores, that are not what they should be: one line each, and soon."""

import resource
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.record import RunRecord
from clip2scene.study import Study
from clip2scene.tracking.sync import sync

COLUMNS = "protocol method recipe backbone pretrain target percent rule pretrain_seeds seeds variant tables"
ROW = ("finetune", "random", "", "spvcnn", "", "nuscenes", "100", "", "", "0", "", "")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a study with one finished fine-tuning; relative paths lead into a folder of the test."""
    monkeypatch.chdir(tmp_path)
    Path("experiments.tsv").write_text("\t".join(COLUMNS.split()) + "\n" + "\t".join(ROW) + "\n")
    config = Config(
        device="cpu", experiments=tmp_path / "experiments.tsv", results=tmp_path / "results",
        datasets={"nuscenes": {"root": tmp_path / "data"}},
    )  # fmt: skip
    made = Study(config)
    (run,) = [run for run in made.runs.values() if run.kind == "finetune"]
    record = RunRecord(layout.run_folder(config, run), run.kind, run.seed, made.partial_identity(run))
    record.begin(config, "cpu")
    record.log({"step": 0, "epoch": 0, "loss": 1.0})
    record.log({"step": 1, "epoch": 0, "loss": 0.5})
    record.finish({"losses": {"loss": 0.5}})
    return made


def send_to(study, uri):
    """Send to a store; return how it went in a line, and the seconds that it took."""
    tracking = study.config.tracking.model_copy(update={"uri": uri})
    study.config = study.config.model_copy(update={"tracking": tracking})
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        sync(study)
    message = str(error.value)
    assert "\n" not in message
    assert "; expected " in message
    return message, time.monotonic() - start


@contextmanager
def small_files(size):
    """Let no file of this process grow beyond `size` bytes, as on a disk that is nearly full."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def half(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table a (b text)")
        connection.executemany("insert into a values (?)", [("x" * 500,)] * 100)
    connection.close()
    path.write_bytes(path.read_bytes()[:6000])


def foreign(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table alembic_version (version_num text)")
        connection.execute("insert into alembic_version values ('another program')")
    connection.close()


NOTHING = lambda path: None  # noqa: E731 - reads as a table
STORES = [
    ("sqlite:///", NOTHING, "names no file; expected three slashes and a path"),
    ("sqlite:///:memory:", NOTHING, "names no file; expected three slashes and a path"),
    ("sqlite://store.db", NOTHING, "names no file; expected three slashes and a path"),
    ("sqlite:/store.db", NOTHING, "names no file; expected three slashes and a path"),
    ("sqlite:store.db", NOTHING, "names no file; expected three slashes and a path"),
    ("", NOTHING, "found no kind of store that MLflow knows; expected sqlite:///results/mlflow.db"),
    ("store.db", NOTHING, "found no kind of store that MLflow knows"),
    ("file:///store", NOTHING, "found no kind of store that MLflow knows"),
    ("sqlit:///store.db", NOTHING, "found no kind of store that MLflow knows"),
    ("https://", NOTHING, "names no server"),
    ("http:///path", NOTHING, "names no server"),
    ("http://[bad", NOTHING, "Invalid IPv6 URL"),
    ("mssql+pyodbc://u@localhost/x", NOTHING, "No module named 'pyodbc'; expected the driver"),
    ("postgresql+nope://u@localhost/x", NOTHING, "sqlalchemy"),
    ("sqlite:////proc/nope/store.db", NOTHING, "No such file or directory: '/proc/nope'"),
    ("sqlite:///store.db", lambda path: path.write_text("text " * 100), "found a file that is no SQL"),
    ("sqlite:///store.db", lambda path: path.write_bytes(b"\x00" * 5000), "found a file that is no SQLite"),
    ("sqlite:///store.db", lambda path: path.mkdir(), ".db: is a folder; expected an MLflow store"),
    ("sqlite:///store.db", half, "malformed"),
    ("sqlite:///store.db", foreign, "expected an MLflow store that can be written"),
    ("sqlite:///store.db/inner.db", lambda path: path.write_text("file"), "Not a directory"),
    ("sqlite:///store.db", lambda path: path.symlink_to(path), "symbolic links"),
]  # fmt: skip


@pytest.mark.parametrize(("uri", "make", "message"), STORES)
def test_a_store_that_is_none_is_one_line_at_once(study, tmp_path, uri, make, message):
    own = f"{tmp_path.name}.db"  # MLflow remembers by its address what it opened
    uri = uri.replace("store.db", own)
    make(tmp_path / own)
    before = {path.name for path in tmp_path.iterdir()}
    found, seconds = send_to(study, uri)
    assert message.lower() in found.lower()
    assert "tracking.uri" in found
    assert seconds < 20
    left = {path.name for path in tmp_path.iterdir()} - before
    assert left <= {f"{own}.lock"}  # no stray folder, no half-made store


def test_a_server_that_refuses_is_named_within_seconds(study):
    found, seconds = send_to(study, "http://127.0.0.1:9")
    assert found.startswith("tracking.uri: http://127.0.0.1:9: ")
    assert "Connection refused" in found
    assert "expected a server that answers" in found
    assert seconds < 20


def test_a_full_disk_leaves_no_half_made_store(study, tmp_path):
    """MLflow would take it for an old store on the next day, and refuse it for ever."""
    with small_files(60_000):
        found, seconds = send_to(study, "sqlite:///mlx/store.db")
    assert found.startswith("tracking.uri: sqlite:///mlx/store.db: ")
    assert seconds < 20
    assert {path.name for path in (tmp_path / "mlx").iterdir()} <= {"store.db.lock"}
    tracking = study.config.tracking.model_copy(update={"uri": "sqlite:///mlx/store.db"})
    study.config = study.config.model_copy(update={"tracking": tracking})
    assert len(sync(study).ids) == 1
    assert not (tmp_path / "mlruns").exists()


RUN_FILES = [
    ("metrics.jsonl", b'{"step": 0, "epoch": 0, "loss": 1.0}\n\x80\x81\n', "metrics.jsonl: expected a line"),
    ("metrics.jsonl", b"", "metrics.jsonl: holds no logged step"),
    ("metrics.json", b"[]", "metrics.json: found list; expected a JSON object"),
    ("metrics.json", b'{"key": "abc"}', "metrics.json: key is 'abc'; expected"),
    ("run.json", b"{}", "run.json: expected the keys key, status and fingerprint"),
]


@pytest.mark.parametrize(("name", "content", "message"), RUN_FILES)
def test_a_damaged_file_of_a_run_is_named(study, tmp_path, name, content, message):
    (path,) = (tmp_path / "results/runs").glob(f"*/{name}")
    path.write_bytes(content)
    tracking = study.config.tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/store.db"})
    study.config = study.config.model_copy(update={"tracking": tracking})
    with pytest.raises(InputError) as error:
        sync(study)
    assert message in str(error.value)
    assert "tracking.uri" not in str(error.value)  # the store is not to blame
