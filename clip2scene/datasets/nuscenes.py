"""nuScenes with lidarseg labels: 16 classes, 32 beams, six cameras (Caesar et al. 2020, Fong et al. 2022).

The tables are read once, when the index is built (`clip2scene.datasets.nuscenes_tables`). Official splits and
the arithmetic of poses are nuscenes-devkit's.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from clip2scene.datasets.binary import check_range, read_cloud, read_values
from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.nuscenes_tables import Calibration, Sample, SampleData, Tables
from clip2scene.datasets.plausible import check_intrinsics, each, warn
from clip2scene.datasets.vocabulary import NUSCENES_COLOURS, NUSCENES_PROMPTS
from clip2scene.errors import InputError
from clip2scene.files import read_json

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")

LIDARSEG_TO_CLASS = np.array(
    [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]
)
"""[32] int64: class of each lidarseg category in the lidarseg challenge, 0 = ignored."""

OFFICIAL_VERSIONS = ("v1.0-trainval", "v1.0-mini", "v1.0-test")

OFFICIAL_SPLITS = (
    "train", "val", "test", "mini_train", "mini_val", "train_detect", "train_track", "parametrize",
    "verifying",
)  # fmt: skip
"""Names of `official_splits`, which takes seconds to import."""

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
    visible_share: ClassVar[float | None] = 0.58  # of the keyframe that v1.0-mini begins with
    intensity_range: ClassVar[tuple[float, float] | None] = (0, 255)

    def folders(self, version: str) -> tuple[str, ...]:
        """Return the folders of the tables, the labels and the sensors' files."""
        return (version, f"lidarseg/{version}", "samples", "sweeps")

    def complete(self, root: Path, version: str) -> dict[str, int]:
        """Return the known numbers of keyframes, but for the splits that ``splits.json`` defines anew."""
        known = super().complete(root, version)
        if version in OFFICIAL_VERSIONS and (path := root / version / "splits.json").exists():
            known = {name: count for name, count in known.items() if name not in _custom_splits(path)}
        return known

    def split_names(self, root: Path, version: str) -> tuple[str, ...]:
        """Return the official names, and those of ``splits.json``; none for another version without it."""
        path = root / version / "splits.json"
        official = OFFICIAL_SPLITS if version in OFFICIAL_VERSIONS else ()
        try:
            return (*official, *_custom_splits(path))
        except InputError:  # there is none; or whoever builds the index says what is wrong with it
            return official

    def build_index(self, root: Path, version: str, sweeps: int) -> pd.DataFrame:
        """Build the index in scene-table order, then time order, as SLidR's fraction rule requires."""
        tables = _open(root, version)
        splits = _splits(root, version, _scene_names(tables))
        if tables.lidarseg is not None and not tables.lidarseg and version != "v1.0-test":
            raise InputError(f"{tables.lidarseg.path}: holds no record; expected one for each key frame")
        if tables.lidarseg is None and version != "v1.0-test":
            warn(f"{root / version}: has no lidarseg.json, so that its keyframes have no labels")
        rows = [
            row
            for rows in each(tables.scene, partial(_rows, tables, splits, sweeps), "scenes")
            for row in rows
        ]
        if not rows:
            raise InputError(f"{root / version}/sample.json: holds no keyframe")
        _count_samples(tables, rows)
        return pd.DataFrame(rows)

    def read_points(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Read points [N, 3] float32 (metres, lidar frame) and intensity [N, 1] float32 (0 to 255).

        The file holds float32 x, y, z, intensity and ring for each point.
        """
        values = read_cloud(path, 5)
        if self.intensity_range:
            check_range(path, values[:, 3], "intensity", self.intensity_range, slack=1)
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


DISJOINT = (
    ("train", "val"), ("train", "test"), ("val", "test"), ("parametrize", "val"), ("parametrize", "test"),
    ("parametrize", "verifying"), ("mini_train", "mini_val"),
)  # fmt: skip
"""Splits that share no scene: a network is trained on the first and judged on the second."""


def _splits(root: Path, version: str, scenes: Collection[str]) -> dict[str, frozenset[str]]:
    """Return scene names by split: official splits and those of ``splits.json`` (devkit custom splits).

    Raises:
        InputError: ``splits.json`` is damaged, names a scene that does not exist, or names a scene in two
            splits of which one judges what the other trains. Two equal splits, as of a single scene, are
            only odd.
    """
    path = root / version / "splits.json"
    splits = official_splits() if version in OFFICIAL_VERSIONS else {}
    if path.exists() or not splits:
        custom = _custom_splits(path)
        for name, listed in custom.items():
            if lost := sorted(set(listed).difference(scenes)):
                found = f"split {name} names {lost[0]!r} ({len(lost)} of {len(listed)} such names)"
                raise InputError(f"{path}: {found}; expected scenes of {root / version}/scene.json")
        splits |= custom
        for one, other in DISJOINT:
            both = set(splits.get(one, ())).intersection(splits.get(other, ()))
            if both and {one, other} & custom.keys():
                found = f"{path}: scene {min(both)} is in {one} and in {other} ({len(both)} such scenes)"
                if set(splits[one]) != set(splits[other]):
                    raise InputError(f"{found}; expected a scene in one of them")
                warn(
                    f"{found}, as the two are equal; no number of {other} says how well a network generalises"
                )
    return {name: frozenset(listed) for name, listed in splits.items()}


def _custom_splits(path: Path) -> dict[str, list[str]]:
    """Return the lists of ``splits.json``."""
    custom = read_json(path)
    expected = "expected a mapping from the name of a split to a list of scene names"
    if not isinstance(custom, dict) or not all(isinstance(scenes, list) for scenes in custom.values()):
        raise InputError(f"{path}: {expected}")
    for name, scenes in custom.items():
        if bad := [scene for scene in scenes if not isinstance(scene, str)]:
            raise InputError(f"{path}: split {name} holds {bad[0]!r}; {expected}")
    return {name: [scene.strip() for scene in scenes] for name, scenes in custom.items()}


def _open(root: Path, version: str) -> Tables:
    """Read the tables of a version.

    Raises:
        InputError: the folder or a table is missing, or a table is damaged.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the root of a nuScenes data set")
    if not (root / version).is_dir():
        found = sorted(path.parent.name for path in root.glob("*/scene.json"))
        raise InputError(
            f"{root / version}: no such folder; versions found in {root}: {', '.join(found) or 'none'}"
        )
    return Tables(root / version)


def _scene_names(tables: Tables) -> list[str]:
    """Return the names of all scenes.

    Raises:
        InputError: two scenes have one name, or there is none.
    """
    names = [tables.scene.get(token, "").name for token in tables.scene]
    if not names:
        raise InputError(f"{tables.scene.path}: holds no scene; expected at least one")
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise InputError(f"{tables.scene.path}: two scenes are named {twice}; expected unique names")
    return names


def _count_samples(tables: Tables, rows: list[dict[str, Any]]) -> None:
    """Refuse a keyframe that two scenes name; warn of scenes whose `nbr_samples` is another number."""
    if twice := next(
        (token for token, count in Counter(row["id"] for row in rows).items() if count > 1), None
    ):
        raise InputError(f"{tables.sample.path}: record {twice} is a keyframe of two scenes; expected one")
    found = Counter(row["scene"] for row in rows)
    scenes = [tables.scene.get(token, "") for token in tables.scene]
    odd = [scene for scene in scenes if scene.nbr_samples not in (None, found[scene.name])]
    if odd:
        first = f"{odd[0].name} has {found[odd[0].name]}, expected {odd[0].nbr_samples}"
        warn(f"{tables.scene.path}: {len(odd)} scenes have not nbr_samples keyframes, the first: {first}")


def _rows(tables: Tables, splits: dict[str, frozenset[str]], sweeps: int, scene: str) -> list[dict[str, Any]]:
    """Return the rows of a scene, given its token."""
    name = tables.scene.get(scene, "").name
    within = sorted(split for split, scenes in splits.items() if name in scenes)
    return [
        {"id": sample.token, "scene": name, "splits": within} | _row(tables, sample, sweeps)
        for sample in tables.samples(scene)
    ]


def _row(tables: Tables, sample: Sample, sweeps: int) -> dict[str, Any]:
    """Return one row of the index, but for what its scene says."""
    keys, referrer = tables.keyframes.get(sample.token, {}), f"record {sample.token} of {tables.sample.path}"
    if "LIDAR_TOP" not in keys:
        expected = "expected a record with is_key_frame"
        raise InputError(f"{tables.data.path}: holds no key frame of LIDAR_TOP for {referrer}; {expected}")
    lidar = tables.data.get(keys["LIDAR_TOP"], referrer)
    to_lidar = np.linalg.inv(_sensor_to_global(tables, lidar))
    earlier = tables.earlier(lidar, sweeps)
    names = [name for name in CAMERAS if name in keys]
    cameras = [tables.data.get(keys[name], referrer) for name in names]
    return {
        "timestamp": sample.timestamp,
        "points": lidar.filename,
        "labels": _labels(tables, lidar.token),
        "sweep_points": [record.filename for record in earlier],
        "sweep_poses": _flat([to_lidar @ _sensor_to_global(tables, record) for record in earlier]),
        "sweep_lags": [1e-6 * (lidar.timestamp - record.timestamp) for record in earlier],
        "camera_names": names,
        "camera_images": [record.filename for record in cameras],
        "camera_sizes": _flat([_size(tables, record) for record in cameras]),
        "camera_intrinsics": _flat([_intrinsics(tables, record) for record in cameras]),
        "camera_poses": _flat(
            [np.linalg.inv(to_lidar @ _sensor_to_global(tables, record)) for record in cameras]
        ),
    }


def _labels(tables: Tables, token: str) -> str | None:
    """Return the path of the lidarseg labels, or None in versions without labels, such as test."""
    if not tables.lidarseg:  # test has no table, or one without records
        return None
    return tables.lidarseg.get(token, f"a key frame of {tables.data.path}").filename


def _size(tables: Tables, record: SampleData) -> tuple[int, int]:
    """Return height and width of a camera's image, pixels."""
    if not (record.height and record.width and record.height > 0 and record.width > 0):
        found = f"height {record.height} and width {record.width}"
        raise InputError(f"{tables.data.path}: record {record.token}: {found}; expected pixels of an image")
    return record.height, record.width


def _intrinsics(tables: Tables, record: SampleData) -> list[list[float]]:
    """Return the intrinsics [3, 3] of a camera, pixels."""
    where = f"{tables.calibration.path}: record {record.calibrated_sensor_token}"
    rows = _calibration(tables, record).camera_intrinsic
    if [len(row) for row in rows] != [3, 3, 3]:
        found = f"{len(rows)} rows of {sorted({len(row) for row in rows})} numbers"
        raise InputError(f"{where}: camera_intrinsic has {found}; expected 3 x 3")
    check_intrinsics(np.array(rows, np.float64), _size(tables, record), where)
    return rows


def _calibration(tables: Tables, record: SampleData) -> Calibration:
    return tables.calibration.get(
        record.calibrated_sensor_token, f"record {record.token} of {tables.data.path}"
    )


def _sensor_to_global(tables: Tables, record: SampleData) -> np.ndarray:
    """Return the pose [4, 4] float64, sensor to global frame at the record's own time stamp, metres."""
    ego = tables.pose.get(record.ego_pose_token, f"record {record.token} of {tables.data.path}")
    sensor = _calibration(tables, record)
    return _matrix(*ego.translation, *ego.rotation) @ _matrix(*sensor.translation, *sensor.rotation)


@lru_cache(maxsize=4096)
def _matrix(*pose: float) -> np.ndarray:
    """Return the pose [4, 4] float64 of a translation (x, y, z) and a quaternion (w, x, y, z)."""
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    return transform_matrix(np.array(pose[:3]), Quaternion(pose[3:]))


def _flat(values: list[Any]) -> np.ndarray:
    return np.asarray(values).reshape(-1)
