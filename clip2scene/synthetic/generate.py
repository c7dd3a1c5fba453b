"""A synthetic data set, from parameters and a seed, in the on-disk format of a real one."""

import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clip2scene.config import DatasetConfig, Rooms, Synthetic
from clip2scene.datasets.identity import MARKER
from clip2scene.errors import InputError
from clip2scene.files import locked, new_directory, read_json, sha256, write_json
from clip2scene.machine import worker_pool
from clip2scene.provenance import digest
from clip2scene.task import Task

WRITERS = {
    "nuscenes": "clip2scene.synthetic.nuscenes_writer",
    "semantickitti": "clip2scene.synthetic.semantickitti_writer",
    "scannet": "clip2scene.synthetic.scannet_writer",
}
"""Modules whose `writer` is a `Writer`, by the format that it writes; the configuration refuses others."""


@dataclass(frozen=True)
class Writer(ABC):
    """Makes a world scene by scene and writes it in one format; travels to the processes that do so.

    Attributes:
        root: Folder of the data set.
        version: E.g. ``v1.0-synthetic``, where the format has versions.
        parameters: What the worlds and the sensors are like.
        seed: Of every random choice.
    """

    root: Path
    version: str
    parameters: Synthetic | Rooms
    seed: int

    @abstractmethod
    def scenes(self) -> list[str]:
        """Return the names of the scenes to make.

        Raises:
            InputError: the format or the world cannot be as the parameters say.
        """

    @abstractmethod
    def make(self, name: str) -> Any:
        """Write one scene's files; return what `finish` needs to know of it."""

    @abstractmethod
    def finish(self, made: list[Any]) -> None:
        """Write what concerns the whole data set, from what `make` returned for each scene."""


def compute(task: Task) -> None:
    """Make the data set of a run of the stage ``synthetic``, unless it is there.

    Raises:
        InputError: the parameters ask for what cannot be, or the data root holds anything else than synthetic
            data sets.
    """
    data = task.config.datasets[task.run.target]
    task.record.begin(task.config, "cpu")
    home, name = data.root.parent, data.root.name
    refuse_foreign(home)
    # a lock in the data root, as two results folders may share it
    with locked(home / f".{name}.lock", f"synthetic data set {data.root}"):
        if not (data.root / MARKER).is_file():
            for left in home.glob(f".{name}.*/"):
                shutil.rmtree(left)  # of a process that was killed: nobody else writes while the lock is held
            generate(data, task.run.seed, task.processes)
    task.record.finish(products={"content": read_json(data.root / MARKER)["sha256"]})


def refuse_foreign(root: Path) -> None:
    """Refuse a data root that this software did not make, lest somebody's download be mixed with our data.

    Args:
        root: The configured root of a synthetic data set; each of its folders is one.

    Raises:
        InputError: it holds anything else.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: is a file; expected the folder of a synthetic data set, or none")
    ours = (root / MARKER).is_file()  # made when the root itself was the data set
    for item in root.iterdir() if root.is_dir() and not ours else ():
        if not item.name.startswith(".") and not (item / MARKER).is_file():
            raise InputError(
                f"{root}: holds {item.name}, which is no synthetic data set of ours; expected an empty "
                "folder (to read a downloaded data set, remove its key `synthetic`)"
            )


def generate(data: DatasetConfig, seed: int, processes: int) -> None:
    """Write a data set with a `synthetic` section. Its bytes depend on that section and the seed alone.

    Args:
        data: Format, root (absent or empty; it appears once everything is written), version, parameters.
        seed: Seed of every random choice.
        processes: Number of scenes that are made at a time.

    Raises:
        InputError: the parameters ask for what cannot be, or the root holds something.
    """
    module = import_module(WRITERS[data.format])
    with new_directory(data.root) as folder, worker_pool(processes) as pool:
        writer: Writer = module.writer(folder, data.version, data.synthetic, seed)
        names = writer.scenes()
        writer.finish(list(tqdm(pool.map(writer.make, names), total=len(names), desc="scenes", unit="scene")))
        files = {
            path.relative_to(folder).as_posix(): sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        marker = {
            "format": data.format,
            "version": data.version,
            "seed": seed,
            "synthetic": data.synthetic.model_dump(mode="json"),
            "sha256": digest(files),
            "files": files,
        }
        write_json(folder / MARKER, marker)
