"""What a data set hands to everything behind it: a Frame, and the interface of a data set."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Depth:
    """What an RGB-D camera measured beside its image, from the same place; it tells what the camera sees.

    Attributes:
        image: Path of the depth image, see `clip2scene.pairing.images.read_depth`.
        size: Its height and width, pixels.
        intrinsics: [3, 3] float64, pixels; not those of the colour image.
    """

    image: Path
    size: tuple[int, int]
    intrinsics: np.ndarray


@dataclass(frozen=True)
class Camera:
    """One image of a frame.

    Attributes:
        name: The camera's name, e.g. ``CAM_FRONT``.
        image: Path of the image: a file, or a part of one (`clip2scene.files.open_part`).
        size: Height and width of the image, pixels.
        intrinsics: [3, 3] float64, pixels.
        lidar_to_camera: [4, 4] float64, metres: sensor frame of the points -> camera frame at the camera's
            own time stamp (ego motion between the two included).
        depth: Of an RGB-D camera; a point is seen if its depth is that which was measured.
    """

    name: str
    image: Path
    size: tuple[int, int]
    intrinsics: np.ndarray
    lidar_to_camera: np.ndarray
    depth: Depth | None = None


@dataclass(frozen=True)
class Frame:
    """One keyframe as its data set stores it, earlier sweeps already moved into the keyframe's sensor frame.

    Attributes:
        id: The keyframe's identifier, unique in its data set (nuScenes: the sample token).
        points: [N, 3] float32, metres, sensor frame of the keyframe.
        features: [N, C] float32: intensity [N, 1] for lidar, on nuScenes' scale of 0 to 255 whatever the data
            set (see `clip2scene.datasets.semantickitti`); colour [N, 3], -1 to 1, for RGB-D.
        sweep: [N] int64: 0 for points of the keyframe, k for those of the k-th earlier sweep.
        labels: [N] int64, 0 = ignored, c = c-th of the data set's classes; earlier sweeps are 0. None if
            unlabelled.
        cameras: The keyframe's images.
    """

    id: str
    points: np.ndarray
    features: np.ndarray
    sweep: np.ndarray
    labels: np.ndarray | None
    cameras: tuple[Camera, ...]


class Dataset(ABC):
    """A data set: class names, splits, and how its raw files become frames.

    A data set in another package subclasses this and registers under the entry point group
    ``clip2scene.datasets``. Reading goes through an index (a row a keyframe, see
    `clip2scene.datasets.index`), so that whatever is slow or needs the data set's own tools happens once.

    Attributes:
        name: Its key in the configuration.
        classes: Names of classes 1..C; label 0 is always "ignored".
        prompts: The names of classes 1..C as the text encoder is asked for them (paper, prompt sets).
        colours: [C, 3] uint8, a colour for each class in pictures.
        feature_channels: Channels of `Frame.features`.
        keyframes: How many keyframes a split holds when the download is whole, by version (``*``: any) and
            split; what `clip2scene check-data` counts against.
        unlabelled: Splits whose labels are not published.
        images_each: How many images a keyframe has at least.
    """

    name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    prompts: ClassVar[tuple[str, ...]]
    colours: ClassVar[np.ndarray]
    feature_channels: ClassVar[int] = 1
    keyframes: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    unlabelled: ClassVar[frozenset[str]] = frozenset({"test"})
    images_each: ClassVar[int] = 1

    @abstractmethod
    def build_index(self, root: Path, version: str, sweeps: int) -> pd.DataFrame:
        """Read the data set's own tables and return the index, a row a keyframe (columns: `index.COLUMNS`).

        Args:
            root: Folder of the data set as it was downloaded.
            version: E.g. ``v1.0-trainval``.
            sweeps: Up to how many earlier sweeps to record for each keyframe.

        Raises:
            InputError: something that must be there is missing; the message names it.
        """

    @abstractmethod
    def read_points(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 3] float32 (metres, sensor frame) and features [N, C] float32 of one file.

        Raises:
            InputError: the file is missing, truncated, empty or holds values that are not finite.
        """

    @abstractmethod
    def read_labels(self, path: Path) -> np.ndarray:
        """Labels [N] int64 of one file, mapped to 0 (ignored) and 1..C.

        Raises:
            InputError: the file is missing or holds an id outside the data set's class map.
        """
