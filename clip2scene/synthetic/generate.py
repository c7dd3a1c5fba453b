"""A synthetic data set, from parameters and a seed, in the on-disk format of a real one."""

import multiprocessing
from abc import ABC, abstractmethod
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clip2scene.config import DatasetConfig, Rooms, Synthetic
from clip2scene.files import atomic_directory, write_json

WRITERS = {
    "nuscenes": "clip2scene.synthetic.nuscenes_writer",
    "semantickitti": "clip2scene.synthetic.semantickitti_writer",
    "scannet": "clip2scene.synthetic.scannet_writer",
}
"""Modules whose `writer` is a `Writer`, by the format that it writes; the configuration refuses others."""
MARKER = "synthetic.json"
"""File in the data root that says what the data set was made from; written last."""


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
        """Names of the scenes to make.

        Raises:
            InputError: the format or the world cannot be as the parameters say.
        """

    @abstractmethod
    def make(self, name: str) -> Any:
        """Write one scene's files; return what `finish` needs to know of it."""

    @abstractmethod
    def finish(self, made: list[Any]) -> None:
        """Write what concerns the whole data set, from what `make` returned for each scene."""


def generate(data: DatasetConfig, seed: int, processes: int) -> None:
    """Write a data set with a `synthetic` section. Its bytes depend on that section and the seed alone.

    Args:
        data: Format, root (replaced as a whole once everything is written), version, parameters.
        seed: Of every random choice.
        processes: How many scenes are made at a time.

    Raises:
        InputError: the parameters ask for what cannot be.
    """
    module = import_module(WRITERS[data.format])
    context = multiprocessing.get_context("spawn")  # forking a process whose libraries run threads can hang
    with atomic_directory(data.root) as folder, ProcessPoolExecutor(processes, mp_context=context) as pool:
        writer: Writer = module.writer(folder, data.version, data.synthetic, seed)
        names = writer.scenes()
        writer.finish(list(tqdm(pool.map(writer.make, names), total=len(names), desc="scenes", unit="scene")))
        made_from = {"format": data.format, "version": data.version, "seed": seed}
        write_json(folder / MARKER, made_from | {"synthetic": data.synthetic.model_dump(mode="json")})
