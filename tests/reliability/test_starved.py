"""Training on a machine that runs out of something: one clear line, and afterwards the run as if nothing was.

Each run is a process of its own. Some conditions need mounts of its own, for which one has to be root.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clip2scene.experiments import Experiment
from clip2scene.files import sha256
from clip2scene.synthetic.generate import generate

LIMITED = """
import resource, sys
from clip2scene.cli import main
import numpy, torch, lightning_fabric, clip2scene.training.finetune
numpy.ones((64, 64)) @ numpy.ones((64, 64))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""
"""The command line with so many bytes of address space more than the libraries take.

OpenBLAS has its buffer before: without room for it, it waits for ever."""


def mounts() -> bool:
    """Say whether this process may mount file systems that only its children see."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


needs_mounts = pytest.mark.skipif(not mounts(), reason="mounting needs root")


class Place:
    """A folder with a configuration of one fine-tuned network, and the runs before it finished."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        row = {"protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes"}
        row |= {"percent": "50", "rule": "frame_skip", "seeds": "0"}
        lines = (Experiment.model_fields, [row.get(name, "") for name in Experiment.model_fields])
        (folder / "rows.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
        self.values = {
            "experiments": "rows.tsv",
            "device": "cpu",
            "datasets": {"nuscenes": {"root": str(root), "version": "v1.0-tiny", "voxel_size": 0.5}},
            "backbones": {"spvcnn": {"width": 0.25}},
            "finetune": {"minimum_steps": 12},
        }
        self.run("index", "subset")

    def command(self, *arguments: str, **changes: object) -> tuple[list[str], dict]:
        """Return the command line that runs something, and how it is to be started."""
        (self.folder / "config.yaml").write_text(json.dumps(self.values | changes))
        env = os.environ | {"CLIP2SCENE_CONFIG": "config.yaml", "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return [*arguments], {"cwd": self.folder, "env": env, **pipes}

    def run(self, *names: str, before: str = "", program: tuple[str, ...] = (), **changes: object) -> str:
        """Run stages; returns the error, in one line, or nothing. `before` prepares mounts of its own."""
        tool = [sys.executable, *(program or ("-m", "clip2scene"))]
        command, settings = self.command(*tool, "run", *names, **changes)
        if before:
            command = ["unshare", "-m", "sh", "-ec", f'{before}; exec "$@"', "sh", *command]
        done = subprocess.run(command, check=False, timeout=500, **settings)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in done.stderr, done.stderr
        assert (done.returncode, len(errors)) in ((0, 0), (2, 1)), done.stderr
        return "".join(errors)

    @property
    def tuned(self) -> Path:
        """The folder of the fine-tuned network."""
        runs = (json.loads(path.read_text()) for path in self.folder.glob("results/runs/*/run.json"))
        (key,) = [run["key"] for run in runs if run["kind"] == "finetune"]
        return self.folder / "results/runs" / key

    def result(self) -> str:
        """Compute the network, with what is left over; returns the hash of its weights."""
        assert self.run("finetune") == ""
        assert {path.name for path in self.tuned.iterdir()} == {
            "checkpoint.pt", "metrics.json", "metrics.jsonl", "run.json",
        }  # fmt: skip
        return sha256(self.tuned / "checkpoint.pt")


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_streets):
    """A data set whose last files are not looked for: no marker, as a download."""
    root = tmp_path_factory.mktemp("data")
    generate(tiny_streets.model_copy(update={"root": root}), seed=0, processes=1)
    return root


@pytest.fixture(scope="module")
def expected(tmp_path_factory, root):
    """The hash of the weights of a run that lacked nothing."""
    return Place(tmp_path_factory.mktemp("expected"), root).result()


@pytest.fixture
def place(tmp_path, root, expected):
    return Place(tmp_path, root)


@needs_mounts
def test_a_full_disk(place, expected):
    """It is seen before the first step: the network's states and its checkpoint do not fit."""
    small = "mkdir -p full; mount -t tmpfs -o size=900k none full; cp -r results/. full"
    error = place.run("finetune", before=f"{small}; mount --bind full results")
    assert "results/runs/" in error
    assert "its disk has 1 MiB free; expected at least 37 MiB" in error
    assert place.result() == expected


@needs_mounts
def test_a_results_folder_that_is_read_only(place, expected):
    read_only = "mount --bind results results; mount -o remount,bind,ro results"
    assert "Read-only file system" in (error := place.run("finetune", before=read_only))
    assert "results/" in error
    assert place.result() == expected


def test_a_results_folder_that_vanishes(place, expected):
    command, settings = place.command(sys.executable, "-m", "clip2scene", "run", "finetune")
    with subprocess.Popen(command, **settings) as process:
        while process.poll() is None and not list(place.folder.glob("results/runs/*/metrics.jsonl")):
            pass
        (place.folder / "results").rename(place.folder / "gone")
        _, said = process.communicate()
    assert "Traceback" not in said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "No such file or directory" in error
    assert "results/runs/" in error
    (place.folder / "gone").rename(place.folder / "results")
    assert place.result() == expected


@needs_mounts
def test_shared_memory_without_room(place, expected):
    """Loader processes would be killed, or wait for ever."""
    small = "mount -t tmpfs -o size=64k none /dev/shm"
    error = place.run("finetune", before=small, workers=2)
    assert "workers: 2 loader processes" in error
    assert "shared memory" in error
    assert place.result() == expected


def test_memory_that_runs_out(place, expected):
    error = place.run("finetune", program=("-c", LIMITED, str(60 * 2**20)))
    assert "memory" in error.lower()
    assert place.result() == expected
