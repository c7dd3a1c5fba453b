"""Archives for benchmark servers, checked by the rules of the servers' own tools.

nuScenes lidarseg: nuscenes-devkit 1.2.0, nuscenes.eval.lidarseg.validate_submission. SemanticKITTI:
PRBonn/semantic-kitti-api @ a9c749e, validate_submission.py.
"""

import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip2scene.compute import compute
from clip2scene.config import DatasetConfig
from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.index import Index, load_frame, read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.nuscenes_tables import Tables
from clip2scene.datasets.registry import get_dataset
from clip2scene.datasets.semantickitti import SPLITS, SemanticKITTI
from clip2scene.errors import InputError
from clip2scene.files import atomic
from clip2scene.method.spec import method_spec
from clip2scene.predict.label import Clouds, classes_of, scores_of
from clip2scene.predict.network import Network
from clip2scene.predict.outputs import RAW_IDS
from clip2scene.runs import Run
from clip2scene.study import Study


@dataclass(frozen=True)
class Server(ABC):
    """The archive that a benchmark's server takes.

    Attributes:
        section: The data set.
        split: Split that is predicted.
        meta: What the submission says of itself, by key.
    """

    section: DatasetConfig
    split: str
    meta: Mapping[str, bool]

    @abstractmethod
    def folders(self) -> list[str]:
        """Return the folders in the archive, each with a final slash."""

    @abstractmethod
    def texts(self) -> dict[str, str]:
        """Return the texts in the archive, by name."""

    @abstractmethod
    def names(self, index: Index) -> list[str]:
        """Return the name in the archive of each scan of the split."""

    @abstractmethod
    def encode(self, labels: np.ndarray) -> bytes:
        """Return the bytes of a file, given classes [N] 1..C."""

    @abstractmethod
    def check(self, archive: zipfile.ZipFile, points: Mapping[str, int]) -> None:
        """Raise an InputError if the server would refuse the archive.

        Args:
            archive: The archive.
            points: Number of points of each scan, by the name that its file must have.
        """


@dataclass(frozen=True)
class Lidarseg(Server):
    """nuScenes' lidarseg challenge."""

    def folders(self) -> list[str]:
        """Return the folders of the description and of the labels."""
        return [f"{self.split}/", "lidarseg/", f"lidarseg/{self.split}/"]

    def texts(self) -> dict[str, str]:
        """Return the description."""
        return {f"{self.split}/submission.json": json.dumps({"meta": dict(self.meta)}, indent=2)}

    def names(self, index: Index) -> list[str]:
        """Return names after the tokens of the lidar's files, which the keyframes' ids are not."""
        tables = Tables(self.section.root / self.section.version)
        tokens = [tables.keyframes[identifier]["LIDAR_TOP"] for identifier in index.ids]
        return [f"lidarseg/{self.split}/{token}_lidarseg.bin" for token in tokens]

    def encode(self, labels: np.ndarray) -> bytes:
        """Return a uint8 a point: the challenge's 16 classes are ours."""
        return labels.astype(np.uint8).tobytes()

    def check(self, archive: zipfile.ZipFile, points: Mapping[str, int]) -> None:
        """Check description, files, their lengths and their values, as the devkit's tool does."""
        where, there = archive.filename, set(archive.namelist())
        description = f"{self.split}/submission.json"
        if description not in there:
            raise InputError(f"{where}: lacks {description}; expected the submission's description")
        meta = json.loads(archive.read(description)).get("meta", {})
        if set(meta) != set(META) or not all(isinstance(value, bool) for value in meta.values()):
            raise InputError(f"{where}: {description}: meta is {meta}; expected true or false for {META}")
        for name, count in points.items():
            if name not in there:
                raise InputError(f"{where}: lacks {name}; expected a file for each keyframe of {self.split}")
            values = np.frombuffer(archive.read(name), np.uint8)
            if len(values) != count:
                raise InputError(
                    f"{where}: {name}: holds {len(values)} labels; expected {count}, one a point"
                )
            if values.min() < 1 or values.max() > len(NuScenes.classes):
                found = f"labels {values.min()} to {values.max()}"
                raise InputError(f"{where}: {name}: {found}; expected 1 to {len(NuScenes.classes)}")


META = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")
"""Keys of a lidarseg submission's ``meta``."""


@dataclass(frozen=True)
class SingleScan(Server):
    """SemanticKITTI's single-scan semantic segmentation."""

    def folders(self) -> list[str]:
        """Return the folders of the test sequences."""
        numbers = sorted(SPLITS["test"])
        pairs = [(f"sequences/{n}/", f"sequences/{n}/predictions/") for n in numbers]
        return ["sequences/", *(folder for pair in pairs for folder in pair)]

    def texts(self) -> dict[str, str]:
        """Return nothing: the archive holds labels alone."""
        return {}

    def names(self, index: Index) -> list[str]:
        """Return names after sequence and scan."""
        pairs = [identifier.split("/") for identifier in index.ids]
        return [f"sequences/{sequence}/predictions/{scan}.label" for sequence, scan in pairs]

    def encode(self, labels: np.ndarray) -> bytes:
        """Return a uint32 a point: semantic ids before the benchmark maps them to classes."""
        return RAW_IDS[labels].astype("<u4").tobytes()

    def check(self, archive: zipfile.ZipFile, points: Mapping[str, int]) -> None:
        """Check folders, files and their lengths, as the benchmark's tool does."""
        where = archive.filename
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        for folder in self.folders():
            if folder not in sizes:
                raise InputError(f"{where}: lacks the folder {folder}; expected sequences 11 to 21")
        present = {int(name.split("/")[1]) for name in points}
        if absent := sorted(SPLITS["test"] - present):
            found = ", ".join(map(str, absent))
            raise InputError(f"{self.section.root}: has no scan of the sequences {found}; expected 11 to 21")
        for name, count in points.items():
            if name not in sizes:
                raise InputError(f"{where}: lacks {name}; expected a file for each scan of {self.split}")
            if sizes[name] != 4 * count:
                raise InputError(f"{where}: {name}: holds {sizes[name] / 4:g} labels; expected {count}")


def submit(
    study: Study, run: Run, network: Network, name: str, split: str, out: Path, bar: Callable[..., Any]
) -> dict[str, Any]:
    """Predict a split and write it as the benchmark's server takes it; it is valid, or it is not there.

    Args:
        study: The study.
        run: A run whose network labels points.
        network: Its network.
        name: Key of the configuration's `datasets` that holds the split.
        split: The split; its labels are not read.
        out: The archive.
        bar: Returns a progress bar, given its name, unit and total.

    Returns:
        Numbers of scans and points, and what the submission says of itself.

    Raises:
        InputError: the data set has no server, its classes are not the network's, the split is not there, or
            the archive would be refused.
    """
    config = study.configuration(run.variant)
    section, dataset = config.datasets[name], get_dataset(config.datasets[name].format)
    server = _server(dataset, network, name)(section, split, _meta(run))
    compute(study, index_run := study.keyed(Run("index", target=name, variant=run.variant)))
    path = study.config.results / "runs" / index_run.key / "index.parquet"
    index = read_index(path, section.root).split(split)
    names, points = server.names(index), {}
    clouds = Clouds(network, len(index), _Reader(dataset, index), section.root)
    with atomic(out) as temporary, bar("predict", "scan", len(index)) as progress:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for folder in server.folders():
                archive.mkdir(folder)
            for file, text in server.texts().items():
                archive.writestr(zipfile.ZipInfo(file), text)
            for file, scores in zip(names, scores_of(network, clouds, config.workers), strict=True):
                points[file] = len(scores)
                info = zipfile.ZipInfo(file)  # without the time, so that equal predictions make equal bytes
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, server.encode(classes_of(scores)))
                progress.update()
        with zipfile.ZipFile(temporary) as archive:
            archive.filename = str(out)
            server.check(archive, dict(zip(names, _lengths(dataset, index), strict=True)))
    return {"file": str(out), "scans": len(index), "points": sum(points.values()), "meta": dict(server.meta)}


@dataclass(frozen=True)
class _Reader:
    """Reads the keyframes of an index without labels; loader processes get a copy."""

    dataset: Dataset
    index: Index

    def __call__(self, number: int) -> Any:
        return load_frame(self.dataset, self.index.root, self.index.frames.iloc[number], labels=False)


def _lengths(dataset: Dataset, index: Index) -> Iterator[int]:
    """Yield the number of points of each scan by the size of its file, as the servers count them."""
    size = 20 if isinstance(dataset, NuScenes) else 16
    for points in index.frames["points"]:
        yield (index.root / points).stat().st_size // size


def _server(dataset: Dataset, network: Network, name: str) -> type[Server]:
    """Return the server of a data set.

    Raises:
        InputError: there is none, or the network's classes are others.
    """
    servers = {NuScenes: Lidarseg, SemanticKITTI: SingleScan}
    kind = next((kind for kind in servers if isinstance(dataset, kind)), None)
    if kind is None:
        raise InputError(
            f"datasets.{name}: no server takes {dataset.name}; expected nuScenes or SemanticKITTI"
        )
    if network.labels is None or network.labels.classes != dataset.classes:
        found = network.labels.name if network.labels else "texts"
        raise InputError(f"{network.title}: its classes are {found}; expected those of {dataset.name}")
    return servers[kind]


def _meta(run: Run) -> dict[str, bool]:
    """Say what a network uses: lidar alone as its input, and what else taught it.

    CLIP and an image encoder learned from data from outside, so that a network that learned from them does
    not enter a track without external data.
    """
    external = bool({"teacher", "text", "encoder"} & method_spec(run.method).needs)
    return dict.fromkeys(META, False) | {"use_lidar": True, "use_external": external}
