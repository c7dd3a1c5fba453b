"""A real keyframe written as nuScenes tables: the devkit's transforms reproduce its calibration and pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import transform_matrix, view_points
from pyquaternion import Quaternion

from clip2scene.errors import InputError
from clip2scene.synthetic.categories import CATEGORIES
from clip2scene.synthetic.real_keyframe import write_keyframe

PAIRS = {  # from the README next to the files
    "CAM_FRONT": 3056,
    "CAM_FRONT_RIGHT": 3076,
    "CAM_FRONT_LEFT": 3700,
    "CAM_BACK": 4822,
    "CAM_BACK_LEFT": 4091,
    "CAM_BACK_RIGHT": 3370,
}


@pytest.fixture(scope="module")
def source(shared_data) -> Path:
    return shared_data / "nuscenes_scene-0061"


@pytest.fixture(scope="module")
def devkit(source, tmp_path_factory) -> NuScenes:
    root = tmp_path_factory.mktemp("real") / "nuscenes"
    write_keyframe(source, root, "v1.0-keyframe")
    return NuScenes("v1.0-keyframe", str(root), verbose=False)


def to_global(devkit: NuScenes, record: dict) -> np.ndarray:
    pose = np.eye(4)
    for table, token in (("calibrated_sensor", "calibrated_sensor_token"), ("ego_pose", "ego_pose_token")):
        row = devkit.get(table, record[token])
        pose = transform_matrix(row["translation"], Quaternion(row["rotation"])) @ pose
    return pose


def test_chain_and_pairs(devkit, source):
    given = json.loads((source / "keyframe.json").read_text())
    data = devkit.sample[0]["data"]
    lidar = devkit.get("sample_data", data["LIDAR_TOP"])
    points = LidarPointCloud.from_file(devkit.get_sample_data_path(lidar["token"])).points[:3]
    assert points.shape[1] == 34688
    found = {}
    for channel in PAIRS:
        record = devkit.get("sample_data", data[channel])
        chain = np.linalg.inv(to_global(devkit, record)) @ to_global(devkit, lidar)
        np.testing.assert_allclose(chain, given["cameras"][channel]["lidar2cam"], atol=1e-6)
        intrinsics = devkit.get("calibrated_sensor", record["calibrated_sensor_token"])["camera_intrinsic"]
        seen = chain[:3, :3] @ points + chain[:3, 3:]
        column, row, _ = view_points(seen, np.array(intrinsics), normalize=True)
        inside = (column > 0) & (column < record["width"] - 1) & (row > 0) & (row < record["height"] - 1)
        found[channel] = int((inside & (seen[2] > 1)).sum())
    assert found == PAIRS


def test_boxes_and_labels(devkit):
    """Count the points in our boxes and compare with nuScenes' own counts."""
    token = devkit.sample[0]["data"]["LIDAR_TOP"]
    path, boxes, _ = devkit.get_sample_data(token)
    assert len(boxes) == 69
    points = LidarPointCloud.from_file(path).points[:3]
    labels = np.fromfile(Path(devkit.dataroot) / devkit.get("lidarseg", token)["filename"], np.uint8)
    differences = []
    for box in boxes:
        local = box.rotation_matrix.T @ (points - box.center[:, None])
        inside = (np.abs(local) <= box.wlh[[1, 0, 2], None] / 2).all(0)
        differences.append(int(inside.sum()) - devkit.get("sample_annotation", box.token)["num_lidar_pts"])
        assert inside.sum() == 0 or (labels[inside] == CATEGORIES.index(box.name)).mean() > 0.5
    assert np.abs(differences).sum() <= 0.04 * (labels > 0).sum()
    assert 0 < (labels > 0).mean() < 0.5


def test_missing_image_is_named(source, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    record = json.loads((source / "keyframe.json").read_text())
    (folder / "keyframe.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"LIDAR_TOP.*no such file"):
        write_keyframe(folder, tmp_path / "out", "v1.0-keyframe")
    assert not (tmp_path / "out").exists()
