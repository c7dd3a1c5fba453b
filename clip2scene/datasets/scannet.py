"""ScanNet v2: rooms scanned by a posed RGB-D camera, 20 classes (Dai et al. 2017).

A frame is a whole scan: the mesh vertices are its points, the recorded images its cameras. There are no
sweeps, because CLIP2Scene uses no temporal consistency on ScanNet. Points keep the coordinates of the scan.
The released code subtracts their mean before voxelisation, which only shifts the voxel grid.
"""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from clip2scene.datasets.binary import check_points
from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.parts import part
from clip2scene.datasets.pictures import image_size
from clip2scene.datasets.plausible import check_intrinsics, check_rigid, each, warn
from clip2scene.datasets.ply import read_vertices
from clip2scene.datasets.sens import read_recording
from clip2scene.datasets.vocabulary import SCANNET_COLOURS, SCANNET_PROMPTS
from clip2scene.errors import InputError
from clip2scene.files import first_line, read_text, reading

NYU40_IDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
"""NYU40 ids of classes 1..20."""

NYU40_TO_CLASS = np.zeros(41, np.int64)
"""[41] int64: class of each NYU40 id, 0 = ignored."""
NYU40_TO_CLASS[list(NYU40_IDS)] = np.arange(1, 21)

IGNORED_IDS = (50, 149)
"""Ids outside NYU40 in the official scans scene0270_00, scene0270_02 and scene0384_00; ignored everywhere."""

SPLIT_MD5 = {
    "train": "23fa39cce3ee69e8785d29a5bcceeadf",
    "val": "e197a9c658334bd4fa5c440b4ea58fc1",
    "test": "a81b438b7b31bd7bed0f63ca92aee972",
}
"""MD5 of the sorted scan ids, one per line (ScanNet/ScanNet @ 3830fce, Tasks/Benchmark/scannetv2_*.txt)."""

FRAMES, RECORDINGS = "scannet_frames_25k", "scans"
"""Valid values of `version`: the folder that holds the images."""
_FOLDERS = {"train": "scans", "val": "scans", "test": "scans_test"}
STEP, AT_LEAST = 100, 8
"""Frame stride in a recording, as in ``scannet_frames_25k``, and the minimum number of frames taken.

The stride shrinks for recordings with fewer than 800 tracked frames, so that 8 are taken.
"""


class ScanNet(Dataset):
    """ScanNet v2, and any data set in its format with its own split lists (``scannetv2_train.txt`` etc.)."""

    name: ClassVar[str] = "scannet"
    classes: ClassVar[tuple[str, ...]] = (
        "wall",
        "floor",
        "cabinet",
        "bed",
        "chair",
        "sofa",
        "table",
        "door",
        "window",
        "bookshelf",
        "picture",
        "counter",
        "desk",
        "curtain",
        "refrigerator",
        "shower curtain",
        "toilet",
        "sink",
        "bathtub",
        "other furniture",
    )
    prompts: ClassVar[tuple[str, ...]] = SCANNET_PROMPTS
    feature_channels: ClassVar[int] = 3
    keyframes: ClassVar[Mapping[str, Mapping[str, int]]] = {"*": {"train": 1201, "val": 312}}
    colours: ClassVar[np.ndarray] = SCANNET_COLOURS
    agreeing_share: ClassVar[float | None] = 0.85  # of synthetic rooms; turned against their poses, 0.35

    def complete(self, root: Path, version: str) -> dict[str, int]:
        """Return the known numbers of scans, but for the splits that the data root lists itself."""
        known = super().complete(root, version)
        return {split: count for split, count in known.items() if not _list_of(root, split).exists()}

    def split_names(self, root: Path, version: str) -> tuple[str, ...]:
        """Return train, val and test, which lists of one's own are called too."""
        return tuple(_FOLDERS)

    def build_index(self, root: Path, version: str, sweeps: int) -> pd.DataFrame:
        """Build the index in the order of the scan ids, as CLIP2Scene's fraction rule requires.

        Args:
            root: Folder with ``scans`` (and ``scans_test``), as ScanNet's download script creates it. Every
                listed scan gets a row, even if its files are missing, as in nuScenes' tables.
            version: ``scannet_frames_25k`` for the images of that folder, or ``scans`` for those of the
                ``.sens`` files. A scan without images there becomes a frame without cameras.
            sweeps: Not used.

        Raises:
            InputError: the folder is missing, the version is unknown, a list of scans is wrong, or a scan's
                poses or intrinsics are damaged. Images may be missing: `check-data` names them.
        """
        if version not in (FRAMES, RECORDINGS):
            raise InputError(f"{root}: ScanNet version {version!r}; expected {FRAMES} or {RECORDINGS}")
        if missing := [name for name in (RECORDINGS, version) if not (root / name).is_dir()]:
            raise InputError(f"{root / missing[0]}: no such folder; expected that of ScanNet v2")
        cameras = _exported_cameras if version == FRAMES else _recorded_cameras
        splits = _splits(root)

        def read(scan: str) -> dict[str, Any]:
            folder = root / _FOLDERS[splits[scan]] / scan
            return _row(root, folder, splits[scan], cameras(root, folder))

        frames = pd.DataFrame(each(sorted(splits), read, "scans"))
        _count_scans(frames, root, version)
        return frames

    def read_points(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Read vertices [N, 3] float32 (metres, scan frame) and their colours [N, 3] float32 (-1 to 1)."""
        vertices = read_vertices(path, "x", "y", "z", "red", "green", "blue")
        points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32)
        check_points(path, points, "vertex")
        colours = np.stack([vertices[channel] for channel in ("red", "green", "blue")], axis=1)
        return points, _eight_bits(colours, path) / 127.5 - 1

    def read_labels(self, path: Path) -> np.ndarray:
        """Read labels [N] int64, 0..20; the file holds one NYU40 id per vertex."""
        ids = read_vertices(path, "label")["label"]
        if ids.dtype.kind == "f":
            if not (np.isfinite(ids).all() and (ids == np.rint(ids)).all()):
                raise InputError(f"{path}: labels are numbers with fractions; expected ids, 0 to 40 (NYU40)")
            ids = ids.astype(np.int64)
        known = (ids >= 0) & (ids < len(NYU40_TO_CLASS))
        if known.all():
            return NYU40_TO_CLASS[ids]
        bad = ids[~known & ~np.isin(ids, IGNORED_IDS)]
        if len(bad):
            raise InputError(f"{path}: label id {bad[0]}; expected 0 to {len(NYU40_TO_CLASS) - 1} (NYU40)")
        return NYU40_TO_CLASS[np.where(known, ids, 0)]


def _eight_bits(colours: np.ndarray, path: Path) -> np.ndarray:
    """Return colours [N, 3] float32, 0 to 255, from a PLY file's of any type.

    Floats are taken as 0 to 1 if none is larger, integers of 16 bits as 0 to 65535.
    """
    kind, width = colours.dtype.kind, colours.dtype.itemsize
    values = colours.astype(np.float32)
    if (kind, width) == ("u", 1):
        return values
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and np.isfinite(high)):
        raise InputError(f"{path}: colours of {low:g} to {high:g}; expected 0 to 255")
    if kind == "f" and high <= 1:
        return values * 255
    if (kind, width) == ("u", 2) and high > 255:
        return values / 257
    if high > 255:
        raise InputError(f"{path}: colours of {low:g} to {high:g}; expected 0 to 255, or 0 to 1")
    return values


def official_split(name: str) -> list[str]:
    """Return the scan ids of an official split: train (1,201), val (312) or test (100)."""
    return files("clip2scene.datasets").joinpath(f"splits/scannetv2_{name}.txt").read_text().split()


def _list_of(root: Path, split: str) -> Path:
    """Return the place of the data root's own list of the scans of a split."""
    return root / f"scannetv2_{split}.txt"


def _splits(root: Path) -> dict[str, str]:
    """Return the split of every scan.

    Raises:
        InputError: the data root's own lists name no scan, a scan in two splits, or one that neither exists
            nor is ScanNet's.
    """
    splits: dict[str, str] = {}
    for split, folder in _FOLDERS.items():
        path, scans = _list_of(root, split), _scans(root, split)
        if path.exists():
            here = {item.name for item in (root / folder).glob("*")}
            official = {scan for name in _FOLDERS for scan in official_split(name)}
            if lost := [scan for scan in scans if scan not in here | official]:
                found = f"{path}: names {lost[0]!r} ({len(lost)} of {len(scans)} such names)"
                raise InputError(f"{found}; expected scans in {root / folder}, or of ScanNet's own lists")
        for scan in scans:
            if (other := splits.setdefault(scan, split)) != split:
                raise InputError(
                    f"{path}: scan {scan} is in {_list_of(root, other).name} too; expected it in one"
                )
    if not splits:
        raise InputError(
            f"{_list_of(root, 'train')}: lists no scan, and no other list does; expected ids of scans"
        )
    return splits


def _count_scans(frames: pd.DataFrame, root: Path, version: str) -> None:
    """Warn of listed scans that are not there, and of those that are there without posed images."""
    there = frames["points"].map(lambda path: (root / path).is_file())
    blind = there & frames["labels"].notna() & (frames["camera_names"].map(len) == 0)
    for place, lacking, words in ((root, ~there, "no mesh"), (root / version, blind, "no posed image")):
        if lacking.any():
            first = frames["id"][lacking].iloc[0]
            share = f"{lacking.sum():,} of {len(frames):,} listed scans"
            warn(f"{place}: {share} have {words}, the first is {first}")


def _scans(root: Path, split: str) -> list[str]:
    """Return the scan ids of a split: from the data root's own list, else official; test may be absent."""
    if split == "test" and not (root / _FOLDERS[split]).is_dir():
        return []
    path = _list_of(root, split)
    return read_text(path, "a scan id a line").split() if path.exists() else official_split(split)


def _row(root: Path, folder: Path, split: str, cameras: dict[str, Any]) -> dict[str, Any]:
    """Return one row of the index."""
    scan, path = folder.name, folder.relative_to(root)
    return {
        "id": scan,
        "scene": scan.partition("_")[0],  # the same room may be scanned several times
        "splits": [split],
        "timestamp": 0,
        "points": str(path / f"{scan}_vh_clean_2.ply"),
        "labels": None if split in ScanNet.unlabelled else str(path / f"{scan}_vh_clean_2.labels.ply"),
        "sweep_points": [],
        "sweep_poses": [],
        "sweep_lags": [],
        **cameras,
    }


def _exported_cameras(root: Path, scan: Path) -> dict[str, Any]:
    """Return the camera columns of a scan from its color, depth and pose files in ``scannet_frames_25k``."""
    folder = root / FRAMES / scan.name
    with reading(place := folder / "pose", "a folder of poses"):
        files = sorted(place.iterdir()) if place.is_dir() else []
    poses = {path.stem: _pose(path) for path in files if path.suffix == ".txt"}
    names = [name for name, pose in poses.items() if pose is not None]
    images = [folder / "color" / f"{name}.jpg" for name in names]
    depths = [folder / "depth" / f"{name}.png" for name in names]
    first = [next((path for path in paths if path.is_file()), None) for paths in (images, depths)]
    if None in first:  # nothing gives the size of the images
        names, images, depths = [], [], []
    sizes = [image_size(path) if names else (0, 0) for path in first]
    intrinsics = [
        _intrinsics(folder / f"intrinsics_{kind}.txt", size) if names else np.empty((3, 3))
        for kind, size in zip(("color", "depth"), sizes, strict=True)
    ]
    relative = ([str(path.relative_to(root)) for path in paths] for paths in (images, depths))
    return _cameras(names, *relative, *sizes, *intrinsics, [poses[name] for name in names])


def _recorded_cameras(root: Path, scan: Path) -> dict[str, Any]:
    """Return the camera columns of a scan from its ``.sens`` file."""
    path = scan / f"{scan.name}.sens"
    if not path.is_file():
        return _cameras([], [], [], (0, 0), (0, 0), np.empty((3, 3)), np.empty((3, 3)), [])
    recording = read_recording(path)
    check_intrinsics(recording.colour_intrinsics, recording.colour_size, f"{path}: colour")
    check_intrinsics(recording.depth_intrinsics, recording.depth_size, f"{path}: depth")
    tracked = np.flatnonzero(np.isfinite(recording.poses).all(axis=(1, 2)))
    chosen = tracked[:: max(1, min(STEP, len(tracked) // AT_LEAST))].tolist()
    for number in chosen:
        check_rigid(recording.poses[number], f"{path}: frame {number}")
    name = str(path.relative_to(root))
    return _cameras(
        [f"{number:06d}" for number in chosen],
        [part(name, *recording.colour[number].tolist()) for number in chosen],
        [part(name, *recording.depth[number].tolist()) for number in chosen],
        recording.colour_size,
        recording.depth_size,
        recording.colour_intrinsics,
        recording.depth_intrinsics,
        [recording.poses[number] for number in chosen],
    )


def _cameras(
    names: list[str],
    images: Iterable[str],
    depths: Iterable[str],
    size: tuple[int, int],
    depth_size: tuple[int, int],
    intrinsics: np.ndarray,
    depth_intrinsics: np.ndarray,
    poses: list[np.ndarray],
) -> dict[str, Any]:
    """Return the index columns of a scan's one camera; `poses` are [4, 4], camera to world, metres."""
    count = len(names)
    return {
        "camera_names": names,
        "camera_images": list(images),
        "camera_sizes": np.tile(size, count),
        "camera_intrinsics": np.tile(intrinsics.ravel(), count),
        "camera_poses": np.array([np.linalg.inv(pose) for pose in poses]).ravel(),
        "depth_images": list(depths),
        "depth_sizes": np.tile(depth_size, count),
        "depth_intrinsics": np.tile(depth_intrinsics.ravel(), count),
    }


def _pose(path: Path) -> np.ndarray | None:
    """Read a pose [4, 4] float64, camera to world, metres; None where tracking failed."""
    pose = _matrix(path)
    if not np.isfinite(pose).all():
        return None
    check_rigid(pose, str(path))
    return pose


def _intrinsics(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read the intrinsics [3, 3] float64, pixels, of images of this height and width."""
    matrix = _matrix(path)[:3, :3]
    check_intrinsics(matrix, size, str(path))
    return matrix


def _matrix(path: Path) -> np.ndarray:
    """Read a matrix [4, 4] float64 from a text file."""
    text = read_text(path, "a matrix of 4 x 4 numbers")
    try:
        return np.array(text.split(), np.float64).reshape(4, 4)
    except ValueError as error:
        raise InputError(f"{path}: not a matrix of 4 x 4 numbers ({first_line(error)})") from None
