"""Runs are computed once, recognised and never deleted: by our stages, and by one of another package."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clip2scene import layout
from clip2scene.compute import compute, write_receipt
from clip2scene.config import Config
from clip2scene.datasets.fractions import read_subset
from clip2scene.datasets.identity import MARKER
from clip2scene.datasets.index import read_index
from clip2scene.errors import InputError
from clip2scene.experiments import Experiment
from clip2scene.files import read_json, sha256
from clip2scene.registry import registered
from clip2scene.run_files import finished, read_description
from clip2scene.runs import Run
from clip2scene.stages.base import get_stage, protocols
from clip2scene.study import Study

COUNTING = '''
"""A stage that reads the index, counts how often it is computed, and can be slow or die."""

import os
import time

from clip2scene.files import atomic
from clip2scene.runs import Run
from clip2scene.stages.base import Stage, index_product


class Counting(Stage):
    """Counts."""

    function = "counting:compute"
    message = "Count"

    def settings(self, config, run):
        return {"threads": config.threads}

    def reads(self, config, run):
        return {"index": index_product(run, run.target, "train", "points")}


def compute(task):
    """Write a line a computation into a file beside the results."""
    task.record.begin(task.config, "cpu")
    with (task.config.results.parent / "computed.txt").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    with atomic(task.record.folder / "result.txt") as temporary:
        temporary.write_text("1")
        time.sleep(float(os.environ.get("COUNTING_SECONDS", 0)))
        if "COUNTING_DIES" in os.environ:
            os._exit(9)  # as a signal would end it: nothing is cleaned up
    task.record.finish()
'''
PROGRAM = """
import sys
import time
from pathlib import Path
from clip2scene.compute import compute
from clip2scene.config import load_config
from clip2scene.runs import Run
from clip2scene.study import Study

study = Study(load_config(sys.argv[1]))
run = study.keyed(Run("counting", target="nuscenes"))
Path(f"{sys.argv[1]}.{sys.argv[2]}").touch()
while not Path(f"{sys.argv[1]}.go").exists():
    time.sleep(0.01)
compute(study, run)
"""


def config_of(folder: Path, root: Path) -> Config:
    """Return a configuration with one row: a network fine-tuned on half of the labels."""
    row = {"protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes"}
    row |= {"percent": "50", "rule": "frame_skip", "seeds": "0"}
    lines = (Experiment.model_fields, [row.get(name, "") for name in Experiment.model_fields])
    (folder / "experiments.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    return Config(
        experiments=folder / "experiments.tsv",
        results=folder / "results",
        device="cpu",
        datasets={"nuscenes": {"root": root, "version": "v1.0-tiny"}},
    )


@pytest.fixture
def root(tiny_root, tmp_path) -> Path:
    """Copy the tiny data set as a download, which a test may change."""
    shutil.copytree(tiny_root, tmp_path / "download", ignore=shutil.ignore_patterns(MARKER))
    return tmp_path / "download"


@pytest.fixture
def config(root, tmp_path) -> Config:
    return config_of(tmp_path, root)


def of_kind(study: Study, kind: str) -> Run:
    (run,) = [run for run in study.runs.values() if run.kind == kind]
    return run


def description(config: Config, run: Run) -> dict:
    return read_description(layout.run_folder(config, run))


def written(folder: Path) -> dict[str, int]:
    """Return when each file of a folder was written, nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_runs_are_computed_after_those_they_read_from(config):
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    compute(study, index)
    compute(study, subset)
    folder = layout.run_folder(config, subset)
    assert folder == config.results / "runs" / subset.key
    assert len(read_subset(folder / "subset.json")) == 2  # of the training split's four keyframes
    reads = read_description(folder)["reads"]
    products = description(config, index)["products"]
    assert reads == {f"index: train/{kind}": products[f"train/{kind}"] for kind in ("points", "labels")}


def test_a_finished_run_is_recognised(config):
    study = Study(config)
    for kind in ("index", "subset"):
        run = of_kind(study, kind)
        assert not study.finished(run)
        compute(study, run)
        before = written(layout.run_folder(config, run))
        for again in (study, Study(config)):  # in this process, and in one that starts afresh
            assert again.finished(run)
            compute(again, run)
        assert written(layout.run_folder(config, run)) == before


def test_a_run_that_lost_a_file_is_computed_again(config):
    study = Study(config)
    index = of_kind(study, "index")
    compute(study, index)
    path = layout.run_folder(config, index) / "index.parquet"
    before = sha256(path)
    path.unlink()
    assert not Study(config).finished(index)
    compute(Study(config), index)
    assert sha256(path) == before


def test_a_missing_parent_is_one_clear_error(config):
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    with pytest.raises(InputError) as error:
        compute(study, subset)
    message = str(error.value)
    assert message.startswith(f"run {subset.key} (subset: nuscenes, 50 % frame_skip, seed 0) reads the index")
    assert f"of run {index.key} (index: nuscenes, seed 0), which is not there" in message
    assert f"`clip2scene why {index.key}`" in message
    assert len(message.splitlines()) == 1
    assert not layout.run_folder(config, subset).exists()


def test_a_reader_takes_the_index_that_is_there_and_is_unfinished_without_it(config, root):
    """Only the job of the index looks at the download; others would take seconds each to do so."""
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    compute(study, index)
    (root / "samples" / "new.bin").write_bytes(b"")
    assert not Study(config).finished(index)
    compute(Study(config), subset)
    assert Study(config).finished(subset)
    shutil.rmtree(layout.run_folder(config, index))
    assert not Study(config).finished(subset)


def test_what_is_read_decides_whether_a_run_is_finished(config, root):
    """New labels of a keyframe that the subset was drawn from supersede the subset; new images do not."""
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    for run in (index, subset):
        compute(study, run)
    frames = read_index(layout.run_folder(config, index) / "index.parquet", root).split("train").frames
    for column, same in (("camera_images", True), ("labels", False)):
        value = frames[column].iloc[0]
        with (root / (value if isinstance(value, str) else value[0])).open("ab") as file:
            file.write(b"\0")
        compute(Study(config), index)
        assert Study(config).finished(index)
        assert Study(config).finished(subset) == same


def test_superseded_results_are_kept_and_come_back(config, root):
    index = of_kind(Study(config), "index")
    folder, kept = layout.run_folder(config, index), config.results / "superseded" / index.key
    compute(Study(config), index)
    first, files = read_description(folder), written(folder)
    assert not kept.exists()

    (root / "samples" / "new.bin").write_bytes(b"")  # the download is more complete than it was
    assert not Study(config).finished(index)
    compute(Study(config), index)
    second = read_description(folder)
    assert second["fingerprint"] != first["fingerprint"]
    assert [path.name for path in kept.iterdir()] == [first["fingerprint"][:12]]
    assert written(kept / first["fingerprint"][:12]) == files

    (root / "samples" / "new.bin").unlink()
    compute(Study(config), index)
    assert read_description(folder) == first
    assert written(folder) == files  # moved back, not computed
    assert [path.name for path in kept.iterdir()] == [second["fingerprint"][:12]]
    assert Study(config).finished(index)


def test_an_unfinished_run_that_is_superseded_is_kept_too(config, root):
    """It holds the state from which it continues."""
    study = Study(config)
    index = of_kind(study, "index")
    compute(study, index)
    folder = layout.run_folder(config, index)
    values = read_json(folder / "run.json")
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"finished"', '"running"', 1))
    (folder / "resume.pt").write_text("state")
    assert not finished(folder)
    (root / "samples" / "new.bin").write_bytes(b"")
    compute(Study(config), index)
    kept = layout.superseded(config, index) / values["fingerprint"][:12]
    assert (kept / "resume.pt").read_text() == "state"
    assert not (folder / "resume.pt").exists()


def test_a_folder_that_is_no_run_is_left_alone(config):
    study = Study(config)
    index = of_kind(study, "index")
    folder = layout.run_folder(config, index)
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=rf"{index.key}: holds notes\.txt and no run\.json; expected a run"):
        compute(study, index)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("begun", [False, True])
def test_temporary_files_of_a_killed_process_are_gone(config, begun):
    """It was killed while it wrote its first file; or later, when its run.json was there."""
    study = Study(config)
    index = of_kind(study, "index")
    folder = layout.run_folder(config, index)
    if begun:
        compute(study, index)
        (folder / "index.parquet").unlink()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".index.parquet.x1y2z3_a.parquet").write_bytes(b"half")
    compute(Study(config), index)
    assert sorted(path.name for path in folder.iterdir()) == ["index.parquet", "run.json"]


@dataclass(frozen=True)
class Package:
    """A study with the stage `counting` of another package.

    Attributes:
        config: Its configuration.
        run: Run of the stage.
        start: Starts a process that computes the run once `go` is called; takes environment variables.
        go: Lets all processes that were started begin at once; returns their exit codes and errors.
    """

    config: Config
    run: Run
    start: Callable[..., subprocess.Popen]
    go: Callable[[], list[tuple[int, str]]]

    @property
    def computed(self) -> int:
        """Return how often the run was computed."""
        path = self.config.results.parent / "computed.txt"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def package(config, tmp_path, monkeypatch) -> Iterator[Package]:
    """Install the package for this test, and compute the index that its stage reads."""
    installed = tmp_path / "installed"
    information = installed / "counting-1.0.dist-info"
    information.mkdir(parents=True)
    (installed / "counting.py").write_text(COUNTING)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[clip2scene.stages]\ncounting = counting:Counting\n")
    (tmp_path / "config.yaml").write_text(config.model_dump_json())
    monkeypatch.syspath_prepend(str(installed))
    caches = (registered, get_stage, protocols)
    for cache in caches:
        cache.cache_clear()
    study = Study(config)
    compute(study, of_kind(study, "index"))
    processes = []

    def start(**environment: str) -> subprocess.Popen:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "config.yaml"), str(len(processes))]
        path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path} | environment
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    def go() -> list[tuple[int, str]]:
        while not all((tmp_path / f"config.yaml.{number}").exists() for number in range(len(processes))):
            assert all(process.poll() is None for process in processes), processes[0].communicate()
            time.sleep(0.01)
        (tmp_path / "config.yaml.go").touch()
        errors = [process.communicate(timeout=60)[1] for process in processes]
        ended = [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]
        processes.clear()
        return ended

    yield Package(config, study.keyed(Run("counting", target="nuscenes")), start, go)
    for process in processes:
        process.kill()
        process.wait()
    for cache in caches:
        cache.cache_clear()
    sys.modules.pop("counting", None)


def test_a_stage_of_another_package_is_computed_and_recognised(package):
    study = Study(package.config)
    compute(study, package.run)
    compute(study, package.run)
    compute(Study(package.config), package.run)
    assert package.computed == 1
    values = description(package.config, package.run)
    assert (values["kind"], values["settings"]) == ("counting", {"threads": 1})
    assert list(values["reads"]) == ["index: train/points"]
    assert "counting" in values["code"]  # its code is followed as ours is
    assert values["files"]["result.txt"] == sha256(
        layout.run_folder(package.config, package.run) / "result.txt"
    )


def test_two_processes_that_want_the_same_run_compute_it_once(package):
    package.start(COUNTING_SECONDS="1")
    package.start(COUNTING_SECONDS="1")
    ended = package.go()
    assert [code for code, _ in ended] == [0, 0], ended
    assert package.computed == 1
    waited = [f"counting {package.run.key}: another process is at it; waiting" in error for _, error in ended]
    assert sorted(waited) == [False, True]
    assert Study(package.config).finished(package.run)


def test_a_killed_run_is_computed_again_and_leaves_nothing_behind(package):
    package.start(COUNTING_DIES="1")
    ((code, _),) = package.go()
    folder = layout.run_folder(package.config, package.run)
    assert code == 9
    assert any(path.name.startswith(".result.txt") for path in folder.iterdir())
    assert not Study(package.config).finished(package.run)
    package.start()  # the lock went with the process that held it
    ((code, error),) = package.go()
    assert code == 0, error
    assert package.computed == 2
    assert sorted(path.name for path in folder.iterdir()) == ["result.txt", "run.json"]
    assert not layout.superseded(package.config, package.run).exists()  # it is the same run


def test_a_change_of_code_supersedes_and_a_comment_does_not(package, tmp_path):
    module = tmp_path / "installed" / "counting.py"
    package.start()
    assert package.go()[0][0] == 0
    first = description(package.config, package.run)["fingerprint"]
    module.write_text(COUNTING + "\n# a comment\n")
    package.start()
    assert package.go()[0][0] == 0
    assert package.computed == 1
    module.write_text(COUNTING.replace('write_text("1")', 'write_text("2")'))
    package.start()
    assert package.go()[0][0] == 0
    assert package.computed == 2
    kept = layout.superseded(package.config, package.run) / first[:12]
    assert (kept / "result.txt").read_text() == "1"
    assert (layout.run_folder(package.config, package.run) / "result.txt").read_text() == "2"
    module.write_text(COUNTING)
    package.start()
    assert package.go()[0][0] == 0
    assert package.computed == 2
    assert (layout.run_folder(package.config, package.run) / "result.txt").read_text() == "1"


def test_a_run_computed_in_parts_is_the_run_computed_whole(config, tmp_path):
    """Parts stay until the run is packed, and a part that is there is not computed again."""
    cut = Run("superpixels", method="slidr", target="nuscenes")
    whole = config.model_copy(update={"results": tmp_path / "whole"})
    for each in (config, whole):
        study = Study(each)
        compute(study, of_kind(study, "index"))
    compute(Study(whole), Study(whole).keyed(cut))
    run = Study(config).keyed(cut)
    parts = layout.run_folder(config, run) / "parts"
    for part in ("2-of-2", "1-of-2"):
        compute(Study(config), run, part=part)
    assert not Study(config).finished(run)
    before = written(parts)
    assert sorted(before) == ["1-of-2.arrow", "2-of-2.arrow"]
    compute(Study(config), run, part="1-of-2")
    assert written(parts) == before
    compute(Study(config), run)
    assert Study(config).finished(run)
    assert not any(parts.iterdir())
    first, second = (layout.run_folder(each, run) / "superpixels.arrow" for each in (config, whole))
    assert first.read_bytes() == second.read_bytes()


def test_a_receipt_lists_finished_runs_and_refuses_others(config, tmp_path):
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    compute(study, index)
    write_receipt(study, (index.key,), tmp_path / "receipt.json")
    values = description(config, index)
    expected = {name: values[name] for name in ("kind", "fingerprint", "files")}
    assert read_json(tmp_path / "receipt.json") == {index.key: expected}
    with pytest.raises(InputError, match=f"{subset.key}: the run is not finished"):
        write_receipt(study, (index.key, subset.key), tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


def test_a_list_of_ids_that_is_missing_is_an_input_error(config):
    table = config.experiments.read_text()
    config.experiments.write_text(table.replace("frame_skip", "file:nowhere/ids.txt"))
    with pytest.raises(InputError, match=r"nowhere/ids\.txt: no such file"):
        Study(config)
