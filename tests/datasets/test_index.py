import json
import shutil

import numpy as np
import pandas as pd
import pytest
from nuscenes import NuScenes as Devkit
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.splits import get_scenes_of_split

from clip2scene.datasets.index import Index, cameras, load_frame, read_index, write_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.errors import InputError
from clip2scene.pairing.projection import project


@pytest.fixture(scope="module")
def devkit(tiny_root):
    return Devkit("v1.0-tiny", str(tiny_root), verbose=False)


@pytest.fixture(scope="module")
def index(tiny_index, tiny_root):
    return read_index(tiny_index, tiny_root)


def test_every_keyframe_has_a_row_in_the_order_of_the_scene_table(devkit, index):
    scenes = [record["name"] for record in devkit.scene]
    assert index.frames["scene"].drop_duplicates().tolist() == scenes
    assert sorted(index.ids) == sorted(record["token"] for record in devkit.sample)
    assert all(times.is_monotonic_increasing for _, times in index.frames.groupby("scene")["timestamp"])


def test_splits_are_those_of_splits_json(devkit, index, tiny_root):
    """Check train and val too, for which the devkit would use the official lists."""
    assert set(index.split("parametrize").frames["scene"]) == set(get_scenes_of_split("parametrize", devkit))
    splits = json.loads((tiny_root / "v1.0-tiny" / "splits.json").read_text())
    for name in ("train", "val"):
        assert set(index.split(name).frames["scene"]) == set(splits[name])
    assert len(index.split("train")) + len(index.split("val")) == len(index)


def test_an_unknown_split_is_refused_with_those_that_exist(index):
    with pytest.raises(InputError, match=r"'validation'.*parametrize.*train.*val"):
        index.split("validation")


def test_sweeps_arrive_where_the_devkit_puts_them(devkit, index, tiny_root):
    row = index.frames.iloc[1]
    assert len(row.sweep_points) == 4
    frame = load_frame(NuScenes(), tiny_root, row, sweeps=range(4))
    expected, lags = LidarPointCloud.from_file_multisweep(
        devkit, devkit.get("sample", row.id), "LIDAR_TOP", "LIDAR_TOP", nsweeps=5
    )
    earlier = expected.points[:3, lags[0] > 0].T
    np.testing.assert_allclose(frame.points[frame.sweep > 0], earlier, atol=2e-3)
    np.testing.assert_allclose(row.sweep_lags, np.unique(lags)[1:], atol=1e-6)


def test_points_fall_on_the_pixels_that_the_devkit_gives(devkit, index, tiny_root):
    """Compare pixels except the first row and column, which the devkit leaves out and SLidR keeps."""
    row = index.frames.iloc[0]
    frame = load_frame(NuScenes(), tiny_root, row)
    data = devkit.get("sample", row.id)["data"]
    for camera in frame.cameras:
        expected, _, _ = devkit.explorer.map_pointcloud_to_image(data["LIDAR_TOP"], data[camera.name])
        pixels = np.rint(expected[1::-1]).astype(int)
        _, *found = project(frame.points, camera)
        found, pixels = (
            {(r, c) for r, c in zip(*each, strict=True) if min(r, c) > 1} for each in (found, pixels)
        )
        assert len(found) > 10
        assert len(found ^ pixels) <= 0.02 * len(found)  # the devkit computes in float32


def test_an_index_is_read_back_the_same_and_moves_with_its_data(index, tmp_path, tiny_root):
    write_index(tmp_path / "index.parquet", Index("nuscenes", tiny_root, index.frames))
    again = read_index(tmp_path / "index.parquet", root=tmp_path)
    pd.testing.assert_frame_equal(again.frames, index.frames)
    shutil.copytree(tiny_root / "samples", tmp_path / "samples")
    row = again.frames.iloc[0]
    assert len(load_frame(NuScenes(), again.root, row, labels=False).points)
    assert all(camera.image.is_relative_to(tmp_path) for camera in cameras(again.root, row))


def test_a_file_that_is_no_index_is_refused(tmp_path):
    path = tmp_path / "index.parquet"
    with pytest.raises(InputError, match="no such file"):
        read_index(path, tmp_path)
    path.write_text("id,points")
    with pytest.raises(InputError, match=r"index\.parquet: not a Parquet file"):
        read_index(path, tmp_path)
    pd.DataFrame({"id": ["a"]}).to_parquet(path)
    with pytest.raises(InputError, match="sweep_points"):
        read_index(path, tmp_path)
