"""SemanticKITTI: 19 classes, 64 beams, one colour camera (Behley et al. 2019; Geiger et al. 2012).

The expected layout is the distributed one: ``sequences/<XX>/`` with ``velodyne/*.bin``, ``labels/*.label``,
``image_2/*.png``, ``calib.txt``, ``poses.txt`` and ``times.txt``. Every scan is a keyframe.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from clip2scene.datasets.binary import check_range, read_cloud, read_values
from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.pictures import image_size
from clip2scene.datasets.plausible import check_intrinsics, check_rigid, each, warn
from clip2scene.datasets.vocabulary import SEMANTICKITTI_COLOURS, SEMANTICKITTI_PROMPTS
from clip2scene.errors import InputError
from clip2scene.files import first_line, read_text, reading

SPLITS: dict[str, frozenset[int]] = {
    "train": frozenset({*range(8), 9, 10}),
    "val": frozenset({8}),
    "test": frozenset(range(11, 22)),  # CLIP2Scene @ f37dae7 and SLidR @ 14729d0 stop at 20
}
"""Sequences of each split: 19,130 (train), 4,071 (val) and 20,351 (test) scans."""
# SLidR @ 14729d0, downstream/dataloader_kitti.py, tunes on the same sequences under these names.
_ALSO = {"train": ["parametrize"], "val": ["verifying"], "test": []}

PERIOD = 0.1
"""Time between scans in sequences without ``times.txt``, seconds."""

_IDS = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11,
    49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7,
    254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip
ID_TO_CLASS = np.array([_IDS.get(number, -1) for number in range(261)])
"""[261] int64: class of each semantic id in the single-scan benchmark; 0 = ignored, -1 = no such id.

Source: semantic-kitti-api, config/semantic-kitti.yaml, learning_map. Ids from 252 on are moving objects.
"""

# Mean and standard deviation of intensity in each data set (ScaLR @ 53c474d, datasets/*_for_scalr.py).
_NUSCENES_INTENSITY = 18.742355, 22.04632
_REMISSION = 0.28613698, 0.14090556


class SemanticKITTI(Dataset):
    """SemanticKITTI, and any data set in its format; missing sequences are left out.

    The two lidars differ in intensity: nuScenes stores 0 to 255, SemanticKITTI a remission of 0 to 1. This
    class shifts and scales remission to nuScenes' mean and standard deviation, so that a network trained on
    one data set transfers to the other. nuScenes keeps the values that every published network was trained
    on. The released codes scale remission differently: see `SemanticKITTIReleased`.
    """

    name: ClassVar[str] = "semantickitti"
    keyframes: ClassVar[Mapping[str, Mapping[str, int]]] = {"*": {"train": 19130, "val": 4071}}
    classes: ClassVar[tuple[str, ...]] = (
        "car",
        "bicycle",
        "motorcycle",
        "truck",
        "other_vehicle",
        "person",
        "bicyclist",
        "motorcyclist",
        "road",
        "parking",
        "sidewalk",
        "other_ground",
        "building",
        "fence",
        "vegetation",
        "trunk",
        "terrain",
        "pole",
        "traffic_sign",
    )
    prompts: ClassVar[tuple[str, ...]] = SEMANTICKITTI_PROMPTS
    colours: ClassVar[np.ndarray] = SEMANTICKITTI_COLOURS
    visible_share: ClassVar[float | None] = 0.14  # one forward camera, on synthetic scans
    intensity_range: ClassVar[tuple[float, float] | None] = (0, 1)

    def split_names(self, root: Path, version: str) -> tuple[str, ...]:
        """Return train, val and test, and SLidR's names for the first two."""
        return (*SPLITS, *(name for others in _ALSO.values() for name in others))

    def build_index(self, root: Path, version: str, sweeps: int) -> pd.DataFrame:
        """Build the index in the order of the sorted paths, as the released skip rule requires.

        SemanticKITTI has no versions. Poses and calibration are read only if sweeps or images need them, so
        fine-tuning needs no more than ``velodyne`` and ``labels``.
        """
        with reading(place := root / "sequences", "the folder of the sequences 00, 01 and on"):
            sequences = sorted(path for path in place.iterdir() if re.fullmatch("[0-9]{2}", path.name))
        scans = {path: [int(stem) for stem in _stems(path / "velodyne", ".bin")] for path in sequences}
        folders = [path for path, numbers in scans.items() if numbers]
        if not folders:
            expected = "expected scans, sequences/00/velodyne/000000.bin and on"
            raise InputError(f"{place}: holds no sequence; {expected}")
        _count_scans(scans)
        rows = each(folders, lambda folder: _rows(root, folder, sweeps), "sequences")
        return pd.DataFrame([row for sequence in rows for row in sequence])

    def read_points(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Read points [N, 3] float32 (metres, lidar frame) and intensity [N, 1] float32 (see `intensity`).

        The file holds float32 x, y, z and remission for each point.
        """
        values = read_cloud(path, 4)
        if self.intensity_range:
            check_range(path, values[:, 3], "remission", self.intensity_range, slack=0.5)
        return values[:, :3].copy(), self.intensity(values[:, 3:])

    @staticmethod
    def intensity(remission: np.ndarray) -> np.ndarray:
        """Rescale remission [N, 1] float32 (0 to 1) to nuScenes' mean and standard deviation of intensity."""
        (mean, deviation), (here, spread) = _NUSCENES_INTENSITY, _REMISSION
        return (remission - np.float32(here)) * np.float32(deviation / spread) + np.float32(mean)

    def read_labels(self, path: Path) -> np.ndarray:
        """Read labels [N] int64, 0..19.

        The file holds one uint32 per point: the semantic id in the lower 16 bits, the instance in the upper
        16.
        """
        ids = read_values(path, np.uint32) & 0xFFFF
        labels = ID_TO_CLASS[np.minimum(ids, len(ID_TO_CLASS) - 1)]
        if (labels < 0).any():
            valid = ", ".join(map(str, _IDS))
            raise InputError(f"{path}: label id {ids[labels < 0][0]}; expected one of {valid}")
        return labels


class SemanticKITTIReleased(SemanticKITTI):
    """SemanticKITTI with the intensity of the released codes, which does not match nuScenes' 0 to 255.

    Use it as the `format` of a data set in the configuration to reproduce published results.
    """

    name: ClassVar[str] = "semantickitti_released"

    @staticmethod
    def intensity(remission: np.ndarray) -> np.ndarray:
        """Return remission + 1, [N, 1] float32.

        Source: CLIP2Scene @ f37dae7 and SLidR @ 14729d0, downstream/dataloader_kitti.py.
        """
        return remission + np.float32(1)


def _count_scans(scans: dict[Path, list[int]]) -> None:
    """Warn of sequences without scans, and of gaps in the numbers of their scans."""
    if empty := [folder for folder, numbers in scans.items() if not numbers]:
        warn(f"{empty[0]}: holds no scan in velodyne ({len(empty)} such sequences); they are left out")
    for folder, numbers in scans.items():
        if gaps := sorted({*range(max(numbers, default=0))}.difference(numbers)):
            found = f"lacks velodyne/{gaps[0]:06d}.bin ({len(gaps)} such scans)"
            warn(f"{folder}: {found}; sweeps of the scan after a gap are from before it")


def _rows(root: Path, folder: Path, sweeps: int) -> list[dict[str, Any]]:
    """Return the rows of one sequence; a file's number is its line in ``poses.txt`` and ``times.txt``."""
    scans, images = _stems(folder / "velodyne", ".bin"), set(_stems(folder / "image_2", ".png"))
    labels = set(_stems(folder / "labels", ".label"))
    numbers, path = [int(stem) for stem in scans], str(folder.relative_to(root))
    calibration = read_calibration(folder / "calib.txt") if sweeps or images else {}
    poses = _lidar_poses(folder / "poses.txt", calibration["Tr"], numbers) if sweeps else np.empty((0, 4, 4))
    times = _times(folder / "times.txt", numbers)
    camera = _camera(folder / "image_2" / f"{min(images)}.png", calibration) if images else {}
    split = next((name for name, sequences in SPLITS.items() if int(folder.name) in sequences), None)
    rows = []
    for here, stem in enumerate(scans):
        earlier = range(here - 1, max(-1, here - 1 - sweeps), -1)
        relative = np.linalg.inv(poses[here]) @ poses[list(earlier)] if earlier else np.empty(0)
        row = {
            "id": f"{folder.name}/{stem}",
            "scene": folder.name,
            "splits": [split, *_ALSO[split]] if split else [],
            "timestamp": round(1e6 * times[here]),
            "points": f"{path}/velodyne/{stem}.bin",
            "labels": f"{path}/labels/{stem}.label" if stem in labels else None,
            "sweep_points": [f"{path}/velodyne/{scans[k]}.bin" for k in earlier],
            "sweep_poses": relative.reshape(-1),
            "sweep_lags": [times[here] - times[k] for k in earlier],
        }
        image = {"camera_images": [f"{path}/image_2/{stem}.png"]}
        rows.append(row | (camera | image if stem in images else _NO_CAMERA))
    return rows


_NO_CAMERA: dict[str, Any] = {
    "camera_names": [],
    "camera_images": [],
    "camera_sizes": [],
    "camera_intrinsics": [],
    "camera_poses": [],
}


def _camera(image: Path, calibration: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the index columns of the left colour camera; all images of a sequence have one size.

    P2 = K [I | t]: the camera is offset from camera 0 by t, so t becomes part of the pose.
    """
    height, width = image_size(image)
    projection, pose = calibration["P2"], calibration["Tr"].copy()
    file = image.parents[1] / "calib.txt"
    check_intrinsics(projection[:, :3], (height, width), f"{file}: P2, for {image}")
    pose[:3, 3] += np.linalg.solve(projection[:, :3], projection[:, 3])
    return {
        "camera_names": ["image_2"],
        "camera_sizes": [height, width],
        "camera_intrinsics": projection[:, :3].reshape(-1),
        "camera_poses": pose.reshape(-1),
    }


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """Read the matrices of a ``calib.txt``, by name.

    Returns:
        ``P2`` [3, 4] float64, rectified camera 0 -> pixels of the left colour camera, and ``Tr`` [4, 4]
        float64, lidar -> rectified camera 0, metres. Other lines are not read.

    Raises:
        InputError: the file is missing or damaged, lacks P2 or Tr, or Tr is not rigid.
    """
    matrices: dict[str, np.ndarray] = {}
    for line in _lines(path, "a calibration"):
        name, _, values = line.partition(":")
        if (name := name.strip()) not in ("P2", "Tr"):
            continue
        if name in matrices:
            raise InputError(f"{path}: has two lines {name}; expected one")
        matrices[name] = _numbers([values], 12, path).reshape(3, 4)
    if missing := {"P2", "Tr"} - matrices.keys():
        raise InputError(f"{path}: has no line {min(missing)}; expected P2 and Tr")
    matrices["Tr"] = np.vstack([matrices["Tr"], [0, 0, 0, 1]])
    check_rigid(matrices["Tr"], f"{path}: Tr")
    return matrices


def _lidar_poses(path: Path, to_camera: np.ndarray, numbers: list[int]) -> np.ndarray:
    """Return [F, 4, 4] float64, lidar to the sequence's frame, metres; ``poses.txt`` holds camera-0 poses."""
    lines = _lines(path, "a pose a scan (or set the data set's `sweeps` to 0)")
    poses = np.tile(np.eye(4), (len(numbers), 1, 1))
    poses[:, :3] = _take(_numbers(lines, 12, path), numbers, path).reshape(-1, 3, 4)
    for number, pose in zip(numbers, poses, strict=True):
        check_rigid(pose, f"{path}: line {number + 1}")
    return poses @ to_camera


def _times(path: Path, numbers: list[int]) -> np.ndarray:
    """Return the time of each scan since the sequence's start, [F] float64, seconds.

    Without ``times.txt``, scans are taken at 10 Hz.
    """
    if not path.exists():
        return PERIOD * np.array(numbers)
    times = _take(_numbers(_lines(path, "a time a scan"), 1, path)[:, 0], numbers, path)
    if len(falls := np.flatnonzero(np.diff(times) <= 0)):
        here = falls[0] + 1
        found = f"scan {numbers[here]:06d} is taken at {times[here]:g} s, after one at {times[here - 1]:g} s"
        raise InputError(f"{path}: {found}; expected times that rise")
    return times


def _take(values: np.ndarray, numbers: list[int], path: Path) -> np.ndarray:
    """Return the rows of `values` for these scans."""
    if max(numbers) >= len(values):
        raise InputError(
            f"{path}: {len(values)} lines; expected one for scan {max(numbers):06d}, counted from 0"
        )
    return values[numbers]


def _numbers(lines: list[str], count: int, path: Path) -> np.ndarray:
    """Parse lines of `count` numbers each into [L, count] float64."""
    expected = f"expected lines of {count} numbers"
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != count:
            raise InputError(f"{path}: line {number}: found {len(row)} values in a line; {expected}")
    try:
        values = np.array(rows, np.float64).reshape(len(lines), count)
    except ValueError as error:
        raise InputError(f"{path}: {first_line(error)}; {expected}") from None
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds a number that is not finite")
    return values


def _lines(path: Path, content: str) -> list[str]:
    return [line for line in read_text(path, content).splitlines() if line.strip()]


def _stems(folder: Path, suffix: str) -> list[str]:
    """Return the sorted names of a folder's files without suffix; an empty list if there is no folder."""
    with reading(folder, f"a folder of files *{suffix}"):
        files = folder.iterdir() if folder.is_dir() else ()
        return sorted(path.stem for path in files if path.suffix == suffix and path.stem.isdigit())
