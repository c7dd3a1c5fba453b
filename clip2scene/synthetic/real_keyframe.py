"""Conversion of a real keyframe (calibration and boxes in one JSON file) into a nuScenes version."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip2scene.errors import InputError
from clip2scene.files import new_directory, read_json
from clip2scene.synthetic.categories import CATEGORIES, CLASSES
from clip2scene.synthetic.tables import Annotation, Reading, SceneLog, write_tables
from clip2scene.synthetic.world import inverse, points_in_box, rotation_z


def write_keyframe(source: Path, root: Path, version: str) -> None:
    """Write one real keyframe as a nuScenes version of one scene with one sample.

    `source` holds ``keyframe.json``, a sweep and six images. Its lidar-to-camera transforms already include
    the vehicle's motion between the sensors' time stamps. This function moves that motion into one ego pose
    per camera, so that nuScenes' chain lidar, ego, global, ego, camera gives the same transforms. Points
    inside a box get the category of the box; all others are noise (0). The scene is in the splits train,
    parametrize and val: enough to run every stage, meaningless as an evaluation.

    Args:
        source: Folder of the keyframe.
        root: Folder of the data set; must be empty or absent.
        version: E.g. ``v1.0-keyframe``.

    Raises:
        InputError: a file of `source` is missing, or `root` is not empty.
    """
    record = read_json(source / "keyframe.json")
    lidar_to_ego, ego_to_global = np.array(record["lidar"]["lidar2ego"]), np.array(record["ego2global"])
    stem = Path(record["lidar"]["file"]).name.removesuffix(".pcd.bin")
    labels = f"lidarseg/{version}/{stem}_lidarseg.bin"
    with new_directory(root) as folder:
        path = _copy(source / record["lidar"]["file"], folder, "LIDAR_TOP")
        stamp = round(record["timestamp"] * 1e6)
        lidar = Reading("LIDAR_TOP", stamp, 0, True, path, lidar_to_ego, ego_to_global, lidarseg=labels)
        readings = [lidar]
        for channel, camera in record["cameras"].items():
            readings.append(_camera(camera, channel, source, folder, ego_to_global @ lidar_to_ego))
        boxes = [_annotation(box, number, lidar) for number, box in enumerate(record["boxes"])]
        (folder / labels).parent.mkdir(parents=True)
        points = np.fromfile(folder / path, dtype=np.float32).reshape(-1, 5)[:, :3]
        _label(points, boxes, ego_to_global @ lidar_to_ego).tofile(folder / labels)
        scene = SceneLog(record["scene"], "one real keyframe", (stamp,), tuple(readings), tuple(boxes))
        splits = {name: [scene.name] for name in ("train", "parametrize", "val")}
        write_tables(
            folder, version, [scene], splits | {"verifying": []}, f"keyframe/{record['sample_token']}"
        )


def _camera(
    camera: dict[str, Any], channel: str, source: Path, folder: Path, lidar_to_global: np.ndarray
) -> Reading:
    """Copy one image; return its reading, with the vehicle's pose at the image's time stamp."""
    path = _copy(source / camera["file"], folder, channel)
    with Image.open(folder / path) as image:
        width, height = image.size
    camera_to_ego = np.array(camera["cam2ego"])
    camera_to_global = lidar_to_global @ np.linalg.inv(np.array(camera["lidar2cam"]))
    return Reading(
        channel=channel,
        timestamp=round(camera["timestamp"] * 1e6),
        sample=0,
        is_key_frame=True,
        path=path,
        sensor_to_ego=camera_to_ego,
        ego_to_global=camera_to_global @ inverse(camera_to_ego),
        intrinsics=np.array(camera["intrinsics"]),
        size=(height, width),
    )


def _annotation(box: dict[str, Any], number: int, lidar: Reading) -> Annotation:
    """Convert a lidar-frame box: x, y, z of its centre, length, width, height (metres), yaw (radians)."""
    x, y, z, length, width, height, yaw = box["box"]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation_z(yaw), (x, y, z)
    # boxes outside the ten detection classes have no lidarseg category
    category = CLASSES.get(box["category"], "noise")
    to_global = lidar.ego_to_global @ lidar.sensor_to_ego @ pose
    return Annotation(str(number), category, 0, to_global, (width, length, height), box["num_lidar_pts"])


def _label(points: np.ndarray, boxes: list[Annotation], lidar_to_global: np.ndarray) -> np.ndarray:
    """Return the lidarseg ids [N] uint8 of points [N, 3], metres, lidar frame."""
    labels = np.zeros(len(points), dtype=np.uint8)
    to_lidar = np.linalg.inv(lidar_to_global)
    for box in boxes:
        width, length, height = box.size
        inside = points_in_box(points, to_lidar @ box.box_to_global, (length, width, height))
        labels[inside] = CATEGORIES.index(box.category)
    return labels


def _copy(file: Path, folder: Path, channel: str) -> str:
    """Copy a sensor file to its place in nuScenes' layout; return its path relative to the data root."""
    if not file.is_file():
        raise InputError(f"{file}: no such file; {file.parent / 'keyframe.json'} names it")
    path = f"samples/{channel}/{file.name}"
    (folder / path).parent.mkdir(parents=True)
    shutil.copyfile(file, folder / path)
    return path
