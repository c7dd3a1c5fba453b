import numpy as np

from clip2scene.config import DatasetConfig
from clip2scene.datasets.frame import Camera
from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.pairing.projection import pair, project
from clip2scene.synthetic.real_keyframe import write_keyframe

README_COUNTS = {
    "CAM_FRONT": 3056,
    "CAM_FRONT_RIGHT": 3076,
    "CAM_FRONT_LEFT": 3700,
    "CAM_BACK": 4822,
    "CAM_BACK_LEFT": 4091,
    "CAM_BACK_RIGHT": 3370,
}


def test_pairs_of_a_real_keyframe_are_as_many_as_its_readme_says(shared_data, tmp_path):
    """Run the whole chain from nuScenes' tables through the index to the pairs."""
    root, out = tmp_path / "real", tmp_path / "index.parquet"
    write_keyframe(shared_data / "nuscenes_scene-0061", root, "v1.0-keyframe")
    index = build(DatasetConfig(root=root, version="v1.0-keyframe"), out)
    frame = load_frame(NuScenes(), root, index.frames.iloc[0])
    pairs = pair(frame)
    found = {camera.name: int((pairs.image == i).sum()) for i, camera in enumerate(frame.cameras)}
    assert found == README_COUNTS
    assert len(pairs) == 22115


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
            [0.98, 0, 2],  # column 99, the last one, is excluded
        ]
    )
    point, row, column = project(points, camera)
    assert point.tolist() == [0, 3, 4]
    assert row.tolist() == [40, 35, 40]
    assert column.tolist() == [50, 55, 0]
