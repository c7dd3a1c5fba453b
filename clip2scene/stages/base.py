"""The interface of a stage, and stages by name. Every job imports this module, so it imports no torch."""

from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from clip2scene.config import Config
from clip2scene.datasets.registry import dataset_module
from clip2scene.experiments import Experiment
from clip2scene.models.architectures import architecture
from clip2scene.registry import entry, registered
from clip2scene.runs import Product, Run, Source

GROUP = "clip2scene.stages"


class Stage(ABC):
    """One kind of run: what it reads, which settings bear on it, and the function that computes it.

    A stage in another package subclasses this and registers under the entry point group
    ``clip2scene.stages``. Snakemake gives every stage a rule of its name.

    Attributes:
        name: The name it is registered under.
        function: ``module:function``, imported only when a run is computed. It takes a
            `clip2scene.task.Task`, writes its files into the run's folder, and calls ``task.record.finish``.
        message: What a job does, for the terminal.
        gpu: A job of it asks for a GPU, where there is one.
        cores: A job of it takes every core that Snakemake has, by processes, which change no result.
        priority: Jobs of a higher priority start first: others wait for them.
        portable: Its key names no place. The key of an index holds the data root, so keys of its readers do
            not hold its key.
        shares_process: Runs of one method may share a job, where start-up would dominate.
        trains: A run trains a network for hours at full scale, before which its results are thought of
            (`clip2scene.preflight`).
        parts: A run may be computed in parts by several jobs; see `clip2scene.task.Task.part`.
        implied: Fields of its runs that only lead to settings, so that keys do not hold them.
    """

    name: str
    function: ClassVar[str]
    message: ClassVar[str]
    gpu: ClassVar[bool] = False
    cores: ClassVar[bool] = False
    priority: ClassVar[int] = 0
    portable: ClassVar[bool] = True
    shares_process: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    parts: ClassVar[bool] = False
    implied: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return the settings that bear on the result, as JSON values: they are part of the run's key."""

    @abstractmethod
    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return what the run reads, by role: products of other runs, and files from outside."""

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return modules that the function reaches by a registered name, which no import shows."""
        return ()

    def survey(self, config: Config, run: Run) -> str:
        """Return a digest of what a run finds on the disk without being told, such as a download's files."""
        return ""

    def outside(self, config: Config, run: Run) -> Path | None:
        """Return the file that shows that what a run makes outside the results folder is there."""
        return None


class Protocol(Stage):
    """A stage that the table of experiments names: how a pre-trained network is judged.

    Attributes:
        labelled: It learns from labels, so that its rows name a share and seeds.
    """

    labelled: ClassVar[bool] = True

    @abstractmethod
    def cell(self, config: Config, experiment: Experiment) -> list[Run]:
        """Return the runs whose predictions fill the experiment's cell, one a combination of seeds.

        A run that predicts leaves ``confusion.npz`` (`clip2scene.evaluation.predictions`).
        """

    def check(self, config: Config, experiment: Experiment) -> None:
        """Raise an InputError if this protocol cannot judge the experiment's method."""


def stage_names() -> list[str]:
    """Return the names of all registered stages."""
    return sorted(registered(GROUP).names)


@cache
def get_stage(name: str) -> Stage:
    """Return the stage registered as `name`.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    stage: Stage = entry(GROUP, "stage", name).load()()
    stage.name = name
    return stage


@cache
def protocols() -> dict[str, Protocol]:
    """Return all registered protocols by name."""
    stages = {name: get_stage(name) for name in stage_names()}
    return {name: stage for name, stage in stages.items() if isinstance(stage, Protocol)}


def machine(config: Config) -> dict[str, Any]:
    """Return the settings of the machine that change the last digits of what a 3D network computes.

    Of several processes, each takes the mean of a method's losses over its own part of a batch.
    """
    names = ("precision", "tf32", "processes", "backend")
    return {name: getattr(config, name) for name in names} | arithmetic(config)


def arithmetic(config: Config) -> dict[str, Any]:
    """Return the arithmetic on CPUs, and the number of threads where it changes the last digits."""
    values: dict[str, Any] = {"arithmetic": config.arithmetic}
    return values | {"threads": config.threads} if config.arithmetic == "native" else values


def data(config: Config, name: str) -> dict[str, Any]:
    """Return the settings that say which data set `name` is; where it lies is not one of them."""
    section = config.datasets[name]
    values: dict[str, Any] = {"format": section.format, "version": section.version}
    if section.synthetic:
        values |= {"synthetic": section.synthetic.model_dump(mode="json"), "seed": config.seed}
    return values


def network(config: Config, run: Run) -> dict[str, Any]:
    """Return the settings of the run's 3D network: its shape, width and voxels."""
    shape = architecture(run.backbone)
    return config.backbones[run.backbone].model_dump() | {"channels": shape.channels, "layers": shape.layers}


def reader(config: Config, *names: str) -> tuple[str, ...]:
    """Return the modules that read these data sets."""
    return tuple(dataset_module(config.datasets[name].format) for name in names)


def backbone_module(run: Run) -> str:
    """Return the module of the run's 3D network."""
    return architecture(run.backbone).network.partition(":")[0]


def index_product(run: Run, name: str, split: str, *kinds: str) -> Product:
    """Return the index of data set `name`, of which `kinds` of one split decide.

    Args:
        run: The run that reads it.
        name: Data set.
        split: Split that is read.
        kinds: Of ``points``, ``labels``, ``images`` and ``sweeps``; see `clip2scene.datasets.identity`.
    """
    entries = tuple(f"{split}/{kind}" for kind in kinds)
    return Product(Run("index", target=name, variant=run.variant), "index.parquet", entries)
