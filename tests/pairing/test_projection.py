import json

import numpy as np
import pytest

from clip2scene.datasets.frame import Camera
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.pairing.projection import project

README_COUNTS = {
    "CAM_FRONT": 3056,
    "CAM_FRONT_RIGHT": 3076,
    "CAM_FRONT_LEFT": 3700,
    "CAM_BACK": 4822,
    "CAM_BACK_LEFT": 4091,
    "CAM_BACK_RIGHT": 3370,
}


@pytest.mark.parametrize("name", README_COUNTS)
def test_pairs_of_a_real_keyframe_are_as_many_as_its_readme_says(shared_data, name):
    folder = shared_data / "nuscenes_scene-0061"
    keyframe = json.loads((folder / "keyframe.json").read_text())
    points, _ = NuScenes().read_points(folder / keyframe["lidar"]["file"])
    record = keyframe["cameras"][name]
    camera = Camera(
        name,
        folder / record["file"],
        (900, 1600),
        np.array(record["intrinsics"]),
        np.array(record["lidar2cam"]),
    )
    assert len(project(points, camera)[0]) == README_COUNTS[name]


def test_points_behind_near_or_beyond_the_border_have_no_pixel():
    intrinsics = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    camera = Camera("camera", None, (80, 100), intrinsics, np.eye(4))
    points = np.array(
        [
            [0, 0, 2],  # the principal point
            [0, 0, -2],  # behind
            [0, 0, 0.9],  # nearer than 1 m
            [0.104, -0.106, 2],  # column 55.2, row 34.7
            [-0.5, 0, 1.0001],  # column 0.005
            [-0.5, 0, 1],  # at the minimum depth, not beyond it
            [0.98, 0, 2],  # column 99: the last one, hence the border
        ]
    )
    point, row, column = project(points, camera)
    assert point.tolist() == [0, 3, 4]
    assert row.tolist() == [40, 35, 40]
    assert column.tolist() == [50, 55, 0]
