"""A stage of another package is computed once, recognised, superseded and locked like ours."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from studies import config_of, description, of_kind

from clip2scene import layout
from clip2scene.compute import compute
from clip2scene.config import Config
from clip2scene.files import sha256
from clip2scene.registry import registered
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


@pytest.fixture
def config(download, tmp_path) -> Config:
    return config_of(tmp_path, download)


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
