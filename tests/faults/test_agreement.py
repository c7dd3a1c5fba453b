"""Agreement of poses, intrinsics, images, points and time stamps: refused, odd, or fine."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clip2scene.config import DatasetConfig
from clip2scene.datasets.index import build, load_frame, read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.plausible import Faults, check_index, check_intrinsics, check_rigid, each
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.pairing.plausibility import best_cameras, look
from clip2scene.pairing.projection import pair
from clip2scene.synthetic.real_keyframe import write_keyframe


def turned(angle=0.3, scale=1.0, **elements):
    """Return a pose [4, 4]: a rotation about z and a translation, with single elements replaced."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, :3] *= scale
    pose[:3, 3] = 1, 2, 3
    for place, value in elements.items():
        pose[int(place[1]), int(place[2])] = value
    return pose


@pytest.mark.parametrize(
    "pose",
    [np.eye(4), turned(), turned(3), turned(scale=1.0004), turned().astype(np.float32), turned(_03=9e5)],
)
def test_a_rotation_and_a_translation_are_a_pose(pose):
    assert check_rigid(pose, "poses.txt: line 1") is None  # it raises nothing


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (turned(scale=1.002), "not rigid"),
        (turned(scale=1000), "not rigid"),
        (turned(_01=0.1), "not rigid"),
        (turned() @ np.diag([1, 1, -1, 1]), "determinant is -1"),
        (np.zeros((4, 4)), "last row"),
        (np.diag([0, 0, 0, 1.0]), "not rigid"),
        (turned(_33=2), "last row of the pose is"),
        (turned(_30=0.5), "last row of the pose is"),
        (turned(_11=np.nan), "not finite"),
        (turned(_13=np.inf), "not finite"),
        (turned(_03=1e7), "1e\\+07 m away"),
        (turned(_00=1e200), "not rigid"),
    ],
)
def test_what_is_no_pose_is_refused(pose, message):
    with pytest.raises(InputError, match=f"poses.txt: line 1: .*{message}"):
        check_rigid(pose, "poses.txt: line 1")


K = ((80.0, 0, 64), (0, 80, 48), (0, 0, 1))


def intrinsics(**elements):
    matrix = np.array(K)
    for place, value in elements.items():
        matrix[int(place[1]), int(place[2])] = value
    return matrix


@pytest.mark.parametrize(
    ("matrix", "size", "message"),
    [
        (intrinsics(_00=0), (96, 128), "focal lengths of 0 and 80"),
        (intrinsics(_11=-80), (96, 128), "focal lengths of 80 and -80"),
        (intrinsics(_02=129), (96, 128), "principal point in row 48 and column 129"),
        (intrinsics(_12=-1), (96, 128), "principal point in row -1"),
        (intrinsics(), (40, 60), "in the image of 40 x 60 pixels"),
        (intrinsics(_00=np.nan), (96, 128), "not finite"),
        (intrinsics(_22=2), (96, 128), "expected rows f s x"),
        (intrinsics(_20=1), (96, 128), "expected rows f s x"),
        (intrinsics(_10=3), (96, 128), "expected rows f s x"),
        (np.zeros((3, 3)), (96, 128), "focal"),
        (intrinsics(), (0, 128), "image of 0 x 128 pixels"),
        (intrinsics(), (96, 10**9), "image of 96 x 1000000000 pixels"),
    ],
)
def test_what_is_no_camera_is_refused(matrix, size, message):
    check_intrinsics(intrinsics(_01=0.5), (96, 128), "calib.txt")
    with pytest.raises(InputError, match=f"calib.txt: .*{message}"):
        check_intrinsics(matrix, size, "calib.txt")


def test_each_counts_the_faults_of_all():
    def read(number):
        if number % 2:
            raise InputError(f"file {number}: bad")
        return number

    assert each([0, 2], read, "files") == [0, 2]
    with pytest.raises(Faults, match=r"^file 1: bad \(and 2 more files with a fault\)$") as error:
        each(range(6), read, "files")
    assert error.value.lines == ["file 1: bad", "file 3: bad", "file 5: bad"]


@pytest.fixture
def frames(tiny_index, tiny_root):
    return (
        read_index(tiny_index, tiny_root)
        .frames.drop(columns="identity")
        .map(lambda value: value if isinstance(value, str | int) else np.array(value))
    )


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("camera_poses", lambda v: v * 2, "keyframe {id}, CAM_FRONT: (last row of the )?pose.*and 5 more"),
        (
            "camera_poses",
            lambda v: v[:-16],
            "keyframe {id}: camera_poses holds 80 values; expected 96, 16 for each",
        ),
        ("sweep_poses", lambda v: v * np.nan, "keyframe {id}, sweeps/.*not finite"),
        ("sweep_lags", lambda v: v[:-1], "keyframe {id}: sweep_lags holds 3 values"),
        ("camera_intrinsics", lambda v: v * 0, "keyframe {id}, CAM_FRONT: .*focal"),
        ("camera_sizes", lambda v: v // 2, "keyframe {id}, CAM_FRONT: principal point .* 24 x 40"),
        ("camera_images", lambda v: v[:5], "keyframe {id}: camera_images holds 5 values; expected 6"),
    ],
)
def test_any_data_set_is_checked_when_its_index_is_built(frames, tmp_path, column, change, message):
    assert check_index(frames, tmp_path) == []
    frames.at[1, column] = change(frames.at[1, column])
    with pytest.raises(InputError, match=message.format(id=frames.at[1, "id"])) as error:
        check_index(frames, tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: ")


def test_keyframes_twice_and_none_are_refused(frames, tmp_path):
    with pytest.raises(InputError, match="comes twice"):
        check_index(pd.concat([frames, frames], ignore_index=True), tmp_path)
    with pytest.raises(InputError, match="holds no keyframe"):
        check_index(frames.iloc[:0], tmp_path)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("timestamp", lambda v: 0, "time stamps fall before 1 keyframes, the first is {id}"),
        ("splits", lambda v: v[:0], "1 of 6 keyframes are in no split, the first is {id}"),
        (
            "sweep_poses",
            lambda v: v + np.where(np.arange(v.size) % 16 == 3, 500, 0),
            "1 keyframes move by more",
        ),
        ("sweep_lags", lambda v: 1e9 * np.asarray(v), "1 keyframes have earlier sweeps of over 60 s before"),
        (
            "camera_intrinsics",
            lambda v: v * np.tile([1, 1, 0.5] + 6 * [1], 6),
            "unusual intrinsics of 6 of 36",
        ),
        (
            "camera_intrinsics",
            lambda v: v * np.tile([100, 1, 1, 1, 100, 1, 1, 1, 1], 6),
            "unusual intrinsics of 6 of 36",
        ),
    ],
)
def test_what_is_only_odd_is_counted(frames, tmp_path, column, change, message):
    frames.at[1, column] = change(frames.at[1, column])
    (line,) = check_index(frames, tmp_path)
    assert message.format(id=frames.at[1, "id"]) in line
    assert line.startswith(f"{tmp_path}: ")


def index_of(data, folder, told=None):
    return build(data, folder / "index.parquet", (told if told is not None else []).append)


@pytest.mark.parametrize("name", ["tiny_streets", "tiny_kitti", "tiny_rooms"])
def test_good_data_are_not_odd(name, request, tmp_path, capsys):
    data, told = request.getfixturevalue(name), []
    index = index_of(data, tmp_path, told)
    found = look(get_dataset(data.format), index)
    assert told == []
    assert found.odd == ()
    assert f"{found.visible:.0%} of the points of 3 keyframes find a pixel" in str(found)
    assert ("agree with its depth" in str(found)) == (name == "tiny_rooms")


def test_the_real_keyframe_is_not_odd(shared_data, tmp_path):
    write_keyframe(shared_data / "nuscenes_scene-0061", tmp_path, "v1.0-keyframe")
    told = []
    index = index_of(DatasetConfig(root=tmp_path, version="v1.0-keyframe"), tmp_path, told)
    assert told == []
    found = look(NuScenes(), index)
    assert found.odd == ()
    assert found.visible == pytest.approx(NuScenes.visible_share, abs=0.005)


def test_few_points_with_a_pixel_are_odd_and_the_numbers_are_said(tiny_index, tiny_root):
    index = read_index(tiny_index, tiny_root)
    frames = index.frames.copy()
    up = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # cameras that look at the sky
    frames["camera_poses"] = [
        (up @ np.reshape(poses, (-1, 4, 4))).ravel() for poses in frames["camera_poses"]
    ]
    (line,) = look(NuScenes(), replace(index, frames=frames)).odd
    assert "keyframes' points find a pixel, usually about 58%; do poses, intrinsics and points" in line


def test_intensities_of_another_unit_are_odd(tiny_index, tiny_root):
    class Unit(NuScenes):
        def read_points(self, path):
            points, intensity = super().read_points(path)
            return points, intensity / 255

    (line,) = look(Unit(), read_index(tiny_index, tiny_root)).odd
    assert "intensities of 3 keyframes reach 0." in line
    assert "expected 0 to 255" in line


def test_the_cameras_with_most_pairs_are_taken_where_a_draw_shows_nothing(tiny_index, tiny_root):
    frame = load_frame(NuScenes(), tiny_root, read_index(tiny_index, tiny_root).frames.iloc[0], labels=False)
    counts = np.bincount(pair(frame).image, minlength=6)
    names = [camera.name for camera in best_cameras(frame, frame.cameras, 2)]
    assert names == [frame.cameras[number].name for number in sorted(np.argsort(-counts, kind="stable")[:2])]
