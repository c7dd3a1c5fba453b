"""nuScenes with lidarseg labels: 16 classes, 32 beams, six cameras (Caesar et al. 2020, Fong et al. 2022).

The tables are read by nuscenes-devkit once, when the index is built.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from clip2scene.datasets.binary import read_cloud, read_values
from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.vocabulary import NUSCENES_COLOURS, NUSCENES_PROMPTS
from clip2scene.errors import InputError
from clip2scene.files import read_json

if TYPE_CHECKING:
    from nuscenes import NuScenes as Devkit

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")

LIDARSEG_TO_CLASS = np.array(
    [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]
)
"""[32] int64: class of each lidarseg category in the lidarseg challenge, 0 = ignored."""

OFFICIAL_VERSIONS = ("v1.0-trainval", "v1.0-mini", "v1.0-test")

SPLIT_MD5 = {
    "train": "99be35976adbcf930e4479e8cc2c75be",
    "val": "15b40c3d0a84336174136b689c2ac5d6",
    "verifying": "102d2329ce10a23bb7eb4911b210e25e",
}
"""MD5 of the sorted scene names, one per line, of the splits behind the published numbers."""


class NuScenes(Dataset):
    """nuScenes trainval, mini and test, and any data set in its format that has a ``splits.json``."""

    name: ClassVar[str] = "nuscenes"
    classes: ClassVar[tuple[str, ...]] = (
        "barrier",
        "bicycle",
        "bus",
        "car",
        "construction_vehicle",
        "motorcycle",
        "pedestrian",
        "traffic_cone",
        "trailer",
        "truck",
        "driveable_surface",
        "other_flat",
        "sidewalk",
        "terrain",
        "manmade",
        "vegetation",
    )
    prompts: ClassVar[tuple[str, ...]] = NUSCENES_PROMPTS
    colours: ClassVar[np.ndarray] = NUSCENES_COLOURS

    # ScaLR and WaffleIron assert the counts of train, val and test; the devkit's tutorial counts 404 in mini.
    keyframes: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "v1.0-trainval": {"train": 28130, "val": 6019},
        "v1.0-mini": {"mini_train": 323, "mini_val": 81},
        "v1.0-test": {"test": 6008},
    }
    images_each: ClassVar[int] = len(CAMERAS)

    def folders(self, version: str) -> tuple[str, ...]:
        """Return the folders of the tables, the labels and the sensors' files."""
        return (version, f"lidarseg/{version}", "samples", "sweeps")

    def build_index(self, root: Path, version: str, sweeps: int) -> pd.DataFrame:
        """Build the index in scene-table order, then time order, as SLidR's fraction rule requires."""
        devkit = _open(root, version)
        splits = _splits(root, version)
        try:
            rows = [
                _row(devkit, scene["name"], sample, splits, sweeps)
                for scene in devkit.scene
                for sample in _chain(devkit, "sample", scene["first_sample_token"], "next")
            ]
        except KeyError as error:
            raise InputError(
                f"{root / version}: its tables refer to {error}, which none of them holds"
            ) from None
        if not rows:
            raise InputError(f"{root / version}/sample.json: holds no keyframe")
        return pd.DataFrame(rows)

    def read_points(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Read points [N, 3] float32 (metres, lidar frame) and intensity [N, 1] float32 (0 to 255).

        The file holds float32 x, y, z, intensity and ring for each point.
        """
        values = read_cloud(path, 5)
        return values[:, :3].copy(), values[:, 3:4].copy()

    def read_labels(self, path: Path) -> np.ndarray:
        """Read labels [N] int64, 0..16; the file holds one uint8 lidarseg category per point."""
        ids = read_values(path, np.uint8)
        if ids.size and ids.max() >= len(LIDARSEG_TO_CLASS):
            raise InputError(f"{path}: label id {ids.max()}; expected 0 to {len(LIDARSEG_TO_CLASS) - 1}")
        return LIDARSEG_TO_CLASS[ids]


def official_splits() -> dict[str, list[str]]:
    """Return the scene names of the official splits, and of SLidR's division of train.

    SLidR divides train into parametrize (600 scenes) and verifying (100 scenes).

    Raises:
        InputError: a list differs from the one behind the published numbers.
    """
    from nuscenes.utils.splits import create_splits_scenes

    splits = create_splits_scenes()
    splits["verifying"] = (
        files("clip2scene.datasets").joinpath("splits/nuscenes_verifying.txt").read_text().split()
    )
    splits["parametrize"] = sorted(set(splits["train"]).difference(splits["verifying"]))
    for name, expected in SPLIT_MD5.items():
        found = hashlib.md5("\n".join(sorted(splits[name])).encode()).hexdigest()
        if found != expected:
            raise InputError(
                f"nuScenes split {name}: its scene names have the MD5 {found}, expected {expected}"
            )
    return splits


def _splits(root: Path, version: str) -> dict[str, frozenset[str]]:
    """Return scene names by split: official splits and those of ``splits.json`` (devkit custom splits)."""
    path = root / version / "splits.json"
    splits = official_splits() if version in OFFICIAL_VERSIONS else {}
    if path.exists() or not splits:
        custom = read_json(path)
        if not isinstance(custom, dict) or not all(isinstance(scenes, list) for scenes in custom.values()):
            raise InputError(f"{path}: expected a mapping from the name of a split to a list of scene names")
        splits |= custom
    return {name: frozenset(scenes) for name, scenes in splits.items()}


def _open(root: Path, version: str) -> "Devkit":
    """Open the tables with the devkit; turn its assertions and errors into a one-line InputError."""
    from nuscenes import NuScenes as Devkit

    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the root of a nuScenes data set")
    if not (root / version).is_dir():
        found = sorted(path.parent.name for path in root.glob("*/scene.json"))
        raise InputError(
            f"{root / version}: no such folder; versions found in {root}: {', '.join(found) or 'none'}"
        )
    try:
        return Devkit(version, str(root), verbose=False)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; expected a table of nuScenes {version}") from None
    except (AssertionError, KeyError, ValueError) as error:
        raise InputError(f"{root / version}: nuscenes-devkit cannot read it ({error!r})") from None


def _chain(devkit: "Devkit", table: str, token: str, link: str) -> Any:
    """Yield the records of a linked list in `table`, from `token` along `link` (``next`` or ``prev``)."""
    while token:
        record = devkit.get(table, token)
        yield record
        token = record[link]


def _row(
    devkit: "Devkit", scene: str, sample: dict, splits: dict[str, frozenset[str]], sweeps: int
) -> dict[str, Any]:
    """Return one row of the index."""
    lidar = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
    to_lidar = np.linalg.inv(_sensor_to_global(devkit, lidar))
    earlier = [
        record
        for record, _ in zip(
            _chain(devkit, "sample_data", lidar["prev"], "prev"), range(sweeps), strict=False
        )
    ]
    cameras = [devkit.get("sample_data", sample["data"][name]) for name in CAMERAS if name in sample["data"]]
    return {
        "id": sample["token"],
        "scene": scene,
        "splits": sorted(name for name, scenes in splits.items() if scene in scenes),
        "timestamp": sample["timestamp"],
        "points": lidar["filename"],
        "labels": _labels(devkit, lidar["token"]),
        "sweep_points": [record["filename"] for record in earlier],
        "sweep_poses": _flat([to_lidar @ _sensor_to_global(devkit, record) for record in earlier]),
        "sweep_lags": [1e-6 * (lidar["timestamp"] - record["timestamp"]) for record in earlier],
        "camera_names": [record["channel"] for record in cameras],
        "camera_images": [record["filename"] for record in cameras],
        "camera_sizes": _flat([(record["height"], record["width"]) for record in cameras]),
        "camera_intrinsics": _flat([_calibration(devkit, record)["camera_intrinsic"] for record in cameras]),
        "camera_poses": _flat(
            [np.linalg.inv(to_lidar @ _sensor_to_global(devkit, record)) for record in cameras]
        ),
    }


def _labels(devkit: "Devkit", token: str) -> str | None:
    """Return the path of the lidarseg labels, or None in versions without labels, such as test."""
    return devkit.get("lidarseg", token)["filename"] if "lidarseg" in devkit.table_names else None


def _calibration(devkit: "Devkit", record: dict) -> dict:
    return devkit.get("calibrated_sensor", record["calibrated_sensor_token"])


def _sensor_to_global(devkit: "Devkit", record: dict) -> np.ndarray:
    """Return the pose [4, 4] float64, sensor to global frame at the record's own time stamp, metres."""
    ego = devkit.get("ego_pose", record["ego_pose_token"])
    sensor = _calibration(devkit, record)
    return _matrix(*ego["translation"], *ego["rotation"]) @ _matrix(
        *sensor["translation"], *sensor["rotation"]
    )


@lru_cache(maxsize=4096)
def _matrix(*pose: float) -> np.ndarray:
    """Return the pose [4, 4] float64 of a translation (x, y, z) and a quaternion (w, x, y, z)."""
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    return transform_matrix(np.array(pose[:3]), Quaternion(pose[3:]))


def _flat(values: list[Any]) -> np.ndarray:
    return np.asarray(values).reshape(-1)
