"""Stages from raw files to what training reads: synthetic data, index, label subsets, superpixels."""

from pathlib import Path
from typing import Any, ClassVar

from clip2scene.config import Config
from clip2scene.datasets.identity import MARKER
from clip2scene.datasets.registry import get_dataset
from clip2scene.datasets.rules import id_file
from clip2scene.datasets.survey import survey
from clip2scene.files import reading, sha256
from clip2scene.runs import Product, Run, Source
from clip2scene.stages.base import Stage, data, index_product, reader
from clip2scene.synthetic.generate import WRITERS


class Synthetic(Stage):
    """Makes a synthetic data set, in the on-disk format of a real one."""

    function: ClassVar[str] = "clip2scene.synthetic.generate:compute"
    message: ClassVar[str] = "Make the synthetic data set"
    cores: ClassVar[bool] = True
    priority: ClassVar[int] = 1000  # a job that takes every core waits for ever once others have begun

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return the data set's format, version, parameters and seed."""
        return data(config, run.target)

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return nothing: parameters and a seed are all there is."""
        return {}

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return the writer of the data set's format."""
        return (WRITERS[config.datasets[run.target].format],)

    def outside(self, config: Config, run: Run) -> Path:
        """Return the marker that is written into the data root last."""
        return config.datasets[run.target].root / MARKER


class Index(Stage):
    """Indexes a data set: a row a keyframe, so that no other stage reads the data set's own tables."""

    function: ClassVar[str] = "clip2scene.datasets.index:compute"
    message: ClassVar[str] = "Index the keyframes"
    priority: ClassVar[int] = 3
    portable: ClassVar[bool] = False

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return which data set it is, how many sweeps are recorded, and the data root."""
        section = config.datasets[run.target]
        return data(config, run.target) | {"sweeps": section.sweeps, "root": str(section.root)}

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the content of the data set, where the workflow makes it."""
        if config.datasets[run.target].synthetic:
            made = Run("synthetic", target=run.target, seed=config.seed, variant=run.variant)
            return {"synthetic": Product(made, config.datasets[run.target].root / MARKER, ("content",))}
        return {}

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return the module that reads the data set."""
        return reader(config, run.target)

    def survey(self, config: Config, run: Run) -> str:
        """Return a digest of the names and sizes of a download's files."""
        section = config.datasets[run.target]
        if section.synthetic:
            return ""
        return survey(section.root, get_dataset(section.format).folders(section.version))


class Subset(Stage):
    """Draws a share of a data set's labels by a rule, as a file of keyframe ids."""

    function: ClassVar[str] = "clip2scene.datasets.fractions:compute"
    message: ClassVar[str] = "Draw a share of the labels"
    priority: ClassVar[int] = 3

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return which data set and split it is, and the user's list of ids if the rule names one."""
        values = {"data": data(config, run.target), "split": config.datasets[run.target].train_split}
        if (ids := id_file(run.rule)) is None:
            return values
        with reading(ids, "a text file with a keyframe id a line"):
            return values | {"ids": sha256(ids)}

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the training split, and the user's list of ids if the rule names one."""
        split = config.datasets[run.target].train_split
        sources: dict[str, Source] = {"index": index_product(run, run.target, split, "points", "labels")}
        return sources | ({"ids": ids} if (ids := id_file(run.rule)) else {})


class Superpixels(Stage):
    """Segments a data set's pre-training images into SLIC superpixels, for the methods that need them."""

    function: ClassVar[str] = "clip2scene.pairing.superpixels:compute"
    message: ClassVar[str] = "Segment the images into superpixels"
    priority: ClassVar[int] = 2
    parts: ClassVar[bool] = True
    implied: ClassVar[frozenset[str]] = frozenset({"method"})

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return SLIC's parameters, and which data set and split it is."""
        parameters = config.method(run.method).superpixels.model_dump()
        split = config.datasets[run.target].pretrain_split
        return {"superpixels": parameters, "data": data(config, run.target), "split": split}

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the images of the pre-training split."""
        split = config.datasets[run.target].pretrain_split
        return {"index": index_product(run, run.target, split, "images")}
