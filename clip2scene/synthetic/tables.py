"""Writer of nuScenes' tables, for synthetic streets and for real keyframes.

The schema is that of nuscenes-devkit 1.2 (docs/schema_nuscenes.md), which reads the result.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pyquaternion import Quaternion

from clip2scene.files import write_json
from clip2scene.synthetic.categories import CATEGORIES

Row = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """One file of one sensor.

    Attributes:
        channel: Name of the sensor, e.g. ``LIDAR_TOP``.
        timestamp: Time of the reading, microseconds.
        sample: Number of the keyframe that it belongs to, counted within the scene.
        is_key_frame: True if it is that keyframe's own reading, False for a sweep.
        path: Path relative to the data root.
        sensor_to_ego: [4, 4] float64, metres.
        ego_to_global: [4, 4] float64, metres, at the time of the reading.
        intrinsics: [3, 3] float64, pixels; None for a lidar.
        size: Height and width of the image, pixels; (0, 0) for a lidar.
        lidarseg: Path of the labels relative to the data root; empty if there are none.
    """

    channel: str
    timestamp: int
    sample: int
    is_key_frame: bool
    path: str
    sensor_to_ego: np.ndarray
    ego_to_global: np.ndarray
    intrinsics: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    lidarseg: str = ""


@dataclass(frozen=True)
class Annotation:
    """Box of one object at one keyframe.

    Attributes:
        instance: Identifier of the object, unique in its scene.
        category: One of `categories.CATEGORIES`.
        sample: Number of the keyframe, counted within the scene.
        box_to_global: [4, 4] float64, metres; the origin is the centre of the box.
        size: Width, length and height (nuScenes' order), metres.
        lidar_points: Number of points of the keyframe's sweep inside the box.
        attributes: E.g. ``("vehicle.moving",)``.
    """

    instance: str
    category: str
    sample: int
    box_to_global: np.ndarray
    size: tuple[float, float, float]
    lidar_points: int
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SceneLog:
    """Everything that the tables say about one scene.

    Attributes:
        name: E.g. ``scene-0061``.
        description: Description in words.
        timestamps: Time stamps of the keyframes, microseconds.
        readings: Sensor files, in any order.
        annotations: Boxes, in any order.
    """

    name: str
    description: str
    timestamps: tuple[int, ...]
    readings: tuple[Reading, ...]
    annotations: tuple[Annotation, ...]


ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
)
_TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "lidarseg",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
)


def write_tables(
    root: Path, version: str, scenes: list[SceneLog], splits: dict[str, list[str]], key: str
) -> None:
    """Write ``<root>/<version>/*.json``, including ``splits.json``, and an empty map mask.

    Args:
        root: Data root, which already holds the readings' files.
        version: E.g. ``v1.0-synthetic``.
        scenes: The scenes, in order.
        splits: Scene names by split, in the form of the devkit's custom splits.
        key: Text that the tokens are derived from, e.g. the seed; other keys give other tokens.
    """
    tables: dict[str, list[Row]] = {name: [] for name in _TABLES}
    _constant_tables(tables, key)
    mask = f"maps/{_token(key, 'map')}.png"
    for scene in scenes:
        _scene_rows(tables, scene, key)
    logs = [row["token"] for row in tables["log"]]
    tables["map"] = [
        {"token": _token(key, "map"), "log_tokens": logs, "category": "semantic_prior", "filename": mask}
    ]
    (root / "maps").mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(root / mask)  # the devkit requires this file; nothing here reads it
    for name, rows in tables.items():
        write_json(root / version / f"{name}.json", rows)
    write_json(root / version / "splits.json", splits)


def _token(*parts: str | int) -> str:
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def _constant_tables(tables: dict[str, list[Row]], key: str) -> None:
    for index, name in enumerate(CATEGORIES):
        row = {"token": _token(key, "category", name), "name": name, "description": "", "index": index}
        tables["category"].append(row)
    for name in ATTRIBUTES:
        tables["attribute"].append({"token": _token(key, "attribute", name), "name": name, "description": ""})
    for level, text in enumerate(("0-40", "40-60", "60-80", "80-100"), start=1):
        row = {"token": str(level), "level": f"v{text}", "description": f"visibility of {text} %"}
        tables["visibility"].append(row)


def _scene_rows(tables: dict[str, list[Row]], scene: SceneLog, key: str) -> None:
    log, samples = _token(key, "log", scene.name), len(scene.timestamps)
    tokens = [_token(key, "sample", scene.name, number) for number in range(samples)]
    tables["log"].append(
        {
            "token": log,
            "logfile": scene.name,
            "vehicle": "",
            "date_captured": "",
            "location": "singapore-onenorth",
        }
    )
    tables["scene"].append(
        {
            "token": _token(key, "scene", scene.name),
            "log_token": log,
            "nbr_samples": samples,
            "first_sample_token": tokens[0],
            "last_sample_token": tokens[-1],
            "name": scene.name,
            "description": scene.description,
        }
    )
    rows = [
        {"token": token, "timestamp": stamp, "scene_token": tables["scene"][-1]["token"]}
        for token, stamp in zip(tokens, scene.timestamps, strict=True)
    ]
    tables["sample"] += _chain(rows)
    channels = defaultdict(list)
    for reading in sorted(scene.readings, key=lambda reading: reading.timestamp):
        channels[reading.channel].append(reading)
    for channel, readings in channels.items():
        _channel_rows(tables, scene.name, channel, readings, tokens, key)
    _annotation_rows(tables, scene, tokens, key)


def _chain(rows: list[Row]) -> list[Row]:
    """Return the rows, each with the tokens of its predecessor and its successor."""
    tokens = ["", *(row["token"] for row in rows), ""]
    return [
        {**row, "prev": before, "next": after}
        for row, before, after in zip(rows, tokens, tokens[2:], strict=False)
    ]


def _channel_rows(
    tables: dict[str, list[Row]],
    scene: str,
    channel: str,
    readings: list[Reading],
    samples: list[str],
    key: str,
) -> None:
    """Add the rows of one sensor in one scene; its first reading gives the calibration, as in nuScenes."""
    sensor, calibrated = _token(key, "sensor", channel), _token(key, "calibrated_sensor", scene, channel)
    modality = "lidar" if readings[0].intrinsics is None else "camera"
    if all(row["token"] != sensor for row in tables["sensor"]):
        tables["sensor"].append({"token": sensor, "channel": channel, "modality": modality})
    intrinsics = [] if readings[0].intrinsics is None else readings[0].intrinsics.tolist()
    pose = _pose(readings[0].sensor_to_ego)
    tables["calibrated_sensor"].append(
        {"token": calibrated, "sensor_token": sensor, **pose, "camera_intrinsic": intrinsics}
    )
    rows = []
    for number, reading in enumerate(readings):
        token = _token(key, "sample_data", scene, channel, number)
        row = {"token": token, "timestamp": reading.timestamp, **_pose(reading.ego_to_global)}
        tables["ego_pose"].append(row)
        rows.append(
            {
                "token": token,
                "sample_token": samples[reading.sample],
                "ego_pose_token": token,
                "calibrated_sensor_token": calibrated,
                "timestamp": reading.timestamp,
                "fileformat": "pcd" if modality == "lidar" else "jpg",
                "is_key_frame": reading.is_key_frame,
                "height": reading.size[0],
                "width": reading.size[1],
                "filename": reading.path,
            }
        )
        if reading.lidarseg:
            tables["lidarseg"].append(
                {"token": token, "sample_data_token": token, "filename": reading.lidarseg}
            )
    tables["sample_data"] += _chain(rows)


def _annotation_rows(tables: dict[str, list[Row]], scene: SceneLog, samples: list[str], key: str) -> None:
    instances = defaultdict(list)
    for annotation in sorted(scene.annotations, key=lambda annotation: annotation.sample):
        instances[annotation.instance].append(annotation)
    for name, annotations in instances.items():
        instance = _token(key, "instance", scene.name, name)
        rows = [
            {
                "token": _token(key, "sample_annotation", scene.name, name, annotation.sample),
                "sample_token": samples[annotation.sample],
                "instance_token": instance,
                "visibility_token": "",  # "no visibility is available" in nuScenes' schema
                "attribute_tokens": [
                    _token(key, "attribute", attribute) for attribute in annotation.attributes
                ],
                **_pose(annotation.box_to_global),
                "size": list(annotation.size),
                "num_lidar_pts": annotation.lidar_points,
                "num_radar_pts": 0,
            }
            for annotation in annotations
        ]
        tables["sample_annotation"] += _chain(rows)
        tables["instance"].append(
            {
                "token": instance,
                "category_token": _token(key, "category", annotations[0].category),
                "nbr_annotations": len(rows),
                "first_annotation_token": rows[0]["token"],
                "last_annotation_token": rows[-1]["token"],
            }
        )


def _pose(transform: np.ndarray) -> Row:
    """Return translation (metres) and rotation (quaternion w, x, y, z) of a rigid transform [4, 4]."""
    rotation = Quaternion(matrix=transform[:3, :3], rtol=1e-4, atol=1e-6).normalised
    return {"translation": transform[:3, 3].tolist(), "rotation": rotation.elements.tolist()}
