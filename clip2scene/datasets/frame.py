"""Interface of a data set, and the frames that it yields."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Depth:
    """Depth image that an RGB-D camera took from the same place as its colour image.

    It decides which points the camera sees.

    Attributes:
        image: Path of the depth image, read by `clip2scene.pairing.images.read_depth`.
        size: Height and width of the depth image, pixels.
        intrinsics: [3, 3] float64, pixels; they differ from those of the colour image.
    """

    image: Path
    size: tuple[int, int]
    intrinsics: np.ndarray


@dataclass(frozen=True)
class Camera:
    """One image of a frame.

    Attributes:
        name: Name of the camera, e.g. ``CAM_FRONT``.
        image: Path of the image: a file, or a part of one (`clip2scene.datasets.parts.open_part`).
        size: Height and width of the image, pixels.
        intrinsics: [3, 3] float64, pixels.
        lidar_to_camera: [4, 4] float64, metres: sensor frame of the points -> camera frame at the camera's
            own time stamp, so ego motion between the two is included.
        depth: Depth image of an RGB-D camera, else None. A point is visible if its depth agrees with the
            measured depth.
    """

    name: str
    image: Path
    size: tuple[int, int]
    intrinsics: np.ndarray
    lidar_to_camera: np.ndarray
    depth: Depth | None = None


@dataclass(frozen=True)
class Frame:
    """One keyframe as its data set stores it, with earlier sweeps moved into the keyframe's sensor frame.

    Attributes:
        id: Identifier of the keyframe, unique in its data set (nuScenes: the sample token).
        points: [N, 3] float32, metres, sensor frame of the keyframe.
        features: [N, C] float32. Lidar: intensity [N, 1], on nuScenes' scale of 0 to 255 for every data set
            (see `clip2scene.datasets.semantickitti`). RGB-D: colour [N, 3], -1 to 1.
        sweep: [N] int64: 0 for points of the keyframe, k for points of the k-th earlier sweep.
        labels: [N] int64: 0 = ignored, c = c-th class of the data set; 0 for earlier sweeps. None if
            unlabelled.
        cameras: Images of the keyframe.
    """

    id: str
    points: np.ndarray
    features: np.ndarray
    sweep: np.ndarray
    labels: np.ndarray | None
    cameras: tuple[Camera, ...]


class Dataset(ABC):
    """Abstract data set: class names, splits, and readers for its raw files.

    To add a data set from another package, subclass this and register it under the entry point group
    ``clip2scene.datasets``. Frames are read through an index with one row per keyframe (see
    `clip2scene.datasets.index`), so that slow steps and steps that need the data set's own tools run only
    once.

    Attributes:
        name: Key of the data set in the configuration.
        classes: Names of classes 1..C; label 0 always means "ignored".
        prompts: Names of classes 1..C as the text encoder receives them (paper, prompt sets).
        colours: [C, 3] uint8, display colour of each class.
        feature_channels: Number of channels of `Frame.features`.
        keyframes: Number of keyframes in a complete download, by version (``*``: any) and split; `clip2scene
            check-data` compares against it.
        unlabelled: Splits whose labels are not published.
        images_each: Minimum number of images per keyframe.
        visible_share: Usual share of a keyframe's points that fall into an image; None if it is not known. A
            share far below it says that points, poses and calibration do not belong together.
        agreeing_share: The same for RGB-D cameras, whose depth images decide what is visible: usual share of
            the points in an image's view whose depth is the measured one.
        intensity_range: Smallest and largest intensity in the files; None if intensity is not used.
    """

    name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    prompts: ClassVar[tuple[str, ...]]
    colours: ClassVar[np.ndarray]
    feature_channels: ClassVar[int] = 1
    keyframes: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    unlabelled: ClassVar[frozenset[str]] = frozenset({"test"})
    images_each: ClassVar[int] = 1
    visible_share: ClassVar[float | None] = None
    agreeing_share: ClassVar[float | None] = None
    intensity_range: ClassVar[tuple[float, float] | None] = None

    def complete(self, root: Path, version: str) -> dict[str, int]:
        """Return the number of keyframes that each split of a complete download has, where it is known."""
        return dict(self.keyframes.get(version, self.keyframes.get("*", {})))

    def split_names(self, root: Path, version: str) -> tuple[str, ...]:
        """Return the names that a split may have; none where only the index can tell."""
        return ()

    def folders(self, version: str) -> tuple[str, ...]:
        """Return the folders of the data root whose files the index depends on; all of the root if none.

        Names and sizes of the files in them decide whether the index is built again.
        """
        return ()

    @abstractmethod
    def build_index(self, root: Path, version: str, sweeps: int) -> pd.DataFrame:
        """Read the data set's own tables and return the index: one row per keyframe, columns `index.COLUMNS`.

        Args:
            root: Folder of the data set as downloaded.
            version: E.g. ``v1.0-trainval``.
            sweeps: Maximum number of earlier sweeps to record for each keyframe.

        Raises:
            InputError: a required file or folder is missing; the message names it.
        """

    @abstractmethod
    def read_points(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Read the points [N, 3] float32 (metres, sensor frame) and features [N, C] float32 of one file.

        Raises:
            InputError: the file is missing, truncated, empty or holds values that are not finite.
        """

    @abstractmethod
    def read_labels(self, path: Path) -> np.ndarray:
        """Read the labels [N] int64 of one file, mapped to 0 (ignored) and 1..C.

        Raises:
            InputError: the file is missing or holds an id outside the data set's class map.
        """
