import shutil

import numpy as np
import pytest

from clip2scene.config import DatasetConfig, Pretraining
from clip2scene.datasets.fractions import frame_skip
from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.registry import get_dataset
from clip2scene.datasets.semantickitti import SPLITS, SemanticKITTI, SemanticKITTIReleased
from clip2scene.errors import InputError
from clip2scene.pairing.projection import pair
from clip2scene.pairing.samples import LabelledSamples, PretrainingSamples
from clip2scene.pairing.voxelise import quantise, unique
from clip2scene.seeding import generator
from clip2scene.synthetic import streets
from clip2scene.synthetic.vehicles import KITTI

SCANS = (4541, 1101, 4661, 801, 271, 2761, 1101, 1101, 4071, 1591, 1201)  # per KITTI odometry sequence 00-10


@pytest.fixture(scope="module")
def index(tiny_kitti, tmp_path_factory):
    return build(tiny_kitti, tmp_path_factory.mktemp("index") / "index.parquet")


@pytest.fixture
def copy(tiny_kitti, tmp_path):
    """Copy the tiny data set so that a test may damage it."""
    shutil.copytree(tiny_kitti.root / "sequences", tmp_path / "data" / "sequences")
    return tiny_kitti.model_copy(update={"root": tmp_path / "data"})


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """Index the real scan in the distributed folder layout, without poses, calibration and images."""
    root = tmp_path_factory.mktemp("real")
    for folder, suffix in (("velodyne", "bin"), ("labels", "label")):
        (root / "sequences/00" / folder).mkdir(parents=True)
        source = shared_data / "semantickitti/sequence-00" / f"000000.{suffix}"
        (root / "sequences/00" / folder / source.name).symlink_to(source)
    return build(DatasetConfig(format="semantickitti", root=root, sweeps=0), root / "index.parquet")


def test_a_real_scan_is_read_whole(real):
    """Compare class counts with counts made from the file by NumPy and semantic-kitti.yaml."""
    frame = load_frame(SemanticKITTI(), real.root, real.frames.iloc[0])
    assert frame.id == "00/000000"
    assert frame.points.shape == (124668, 3)
    counts = dict(
        zip(("ignored", *SemanticKITTI.classes), np.bincount(frame.labels, minlength=20), strict=True)
    )
    assert {name: count for name, count in counts.items() if count} == {
        "ignored": 2184 + 4 + 1471 + 1227,
        "car": 4234,
        "motorcyclist": 88,  # id 255, moving
        "road": 34228 + 1053,  # including lane markings
        "parking": 3268,
        "sidewalk": 26360,
        "building": 18268,
        "fence": 370,
        "vegetation": 27123,
        "trunk": 1192,
        "terrain": 2964,
        "pole": 532,
        "traffic_sign": 102,
    }


@pytest.mark.parametrize(("cylindrical", "voxels"), [(False, 60152), (True, 45884)])
def test_voxels_of_a_real_scan(real, cylindrical, voxels):
    frame = load_frame(SemanticKITTI(), real.root, real.frames.iloc[0])
    assert len(unique(quantise(frame.points, 0.1, cylindrical))[0]) == voxels
    sample = LabelledSamples(SemanticKITTI(), real, 0.1, cylindrical, augment=False, seed=0)[0]
    assert len(sample.coordinates) == voxels
    assert len(np.unique(sample.coordinates, axis=0)) == voxels


def test_a_real_scan_has_the_intensity_of_a_real_nuscenes_keyframe(real, shared_data):
    """Compare mean and spread after rescaling, to 10 %; the raw means are 0.29 and 19.9."""
    keyframe = next((shared_data / "nuscenes_scene-0061").glob("*.pcd.bin"))
    _, nuscenes = get_dataset("nuscenes").read_points(keyframe)
    _, kitti = SemanticKITTI().read_points(real.root / real.frames["points"].iloc[0])
    assert kitti.mean() == pytest.approx(nuscenes.mean(), rel=0.1)
    assert kitti.std() == pytest.approx(nuscenes.std(), rel=0.1)


def test_a_real_scan_without_images_is_for_fine_tuning(real):
    assert LabelledSamples(SemanticKITTI(), real, 0.1, False, augment=True, seed=0)[0].labels is not None
    with pytest.raises(InputError, match=r"1 of 1 frames have no image, the first is 00/000000.*image_2"):
        PretrainingSamples(SemanticKITTI(), real, Pretraining(), {"images"}, 0.1, False, 0)


def test_sequences_make_the_splits_and_the_skip_rule_the_published_counts():
    """Count 19,130 train scans, 4,071 val scans, and 192 scans in the 1 % subset of train (paper.md 5.2)."""
    assert sum(SCANS[number] for number in SPLITS["train"]) == 19_130
    assert sum(SCANS[number] for number in SPLITS["val"]) == 4_071
    assert SPLITS["test"] == set(range(11, 22))
    ids = [f"{number:02d}/{scan:06d}" for number in sorted(SPLITS["train"]) for scan in range(SCANS[number])]
    assert len(frame_skip(ids, 100)) == 192
    assert frame_skip(ids, 100)[46] == "01/000059"


def test_rows_are_in_the_order_of_sorted_paths(index, tiny_kitti):
    paths = sorted(
        str(path.relative_to(index.root)) for path in tiny_kitti.root.glob("sequences/*/velodyne/*")
    )
    assert index.frames["points"].tolist() == paths
    assert index.split("train").ids == index.split("parametrize").ids
    assert set(index.split("val").frames["scene"]) == {"08"}


def test_sweeps_stand_where_the_vehicle_was(index, tiny_kitti):
    """Compare with the poses of the simulated vehicle, not with those of poses.txt."""
    row = index.split("val").frames.iloc[2]
    assert [path[-10:] for path in row.sweep_points] == ["000001.bin", "000000.bin"]
    np.testing.assert_allclose(row.sweep_lags, [0.1, 0.2], atol=1e-6)
    world = streets.make_world(tiny_kitti.synthetic, generator(0, "semantickitti", "08"), 0.2)
    lidar = [world.ego(time) @ KITTI.lidar_to_ego for time in (0.1, 0.0, 0.2)]
    expected = [np.linalg.inv(lidar[2]) @ pose for pose in lidar[:2]]
    np.testing.assert_allclose(np.reshape(row.sweep_poses, (-1, 4, 4)), expected, atol=1e-5)


def test_points_fall_on_the_pixels_of_the_calibration(index, tiny_kitti):
    """Compare with KITTI's formula x = P2 Tr X, read from calib.txt."""
    row = index.frames.iloc[1]
    frame = load_frame(SemanticKITTI(), index.root, row)
    lines = dict(
        line.split(": ") for line in (index.root / "sequences/00/calib.txt").read_text().strip().split("\n")
    )
    p2, tr = (np.array(lines[name].split(), float).reshape(3, 4) for name in ("P2", "Tr"))
    assert p2[0, 3] != 0
    x, y, depth = p2 @ np.vstack(
        [tr @ np.vstack([frame.points.T, np.ones(len(frame.points))]), np.ones(len(frame.points))]
    )
    height, width = tiny_kitti.synthetic.image_size
    seen = (depth > 1.01) & (x > 0) & (x < (width - 1) * depth) & (y > 0) & (y < (height - 1) * depth)
    pairs = pair(frame)
    assert len(pairs) > 100
    assert set(np.flatnonzero(seen)) <= set(pairs.point)
    assert len(pairs) - seen.sum() <= 2
    np.testing.assert_allclose(pairs.column, (x / depth)[pairs.point], atol=0.51)
    np.testing.assert_allclose(pairs.row, (y / depth)[pairs.point], atol=0.51)


def test_labels_lose_their_instance_and_motion(tmp_path):
    path = tmp_path / "000000.label"
    np.array([252 | 7 << 16, 10, 0, 259 | 65535 << 16, 60, 81], np.uint32).tofile(path)
    assert SemanticKITTI().read_labels(path).tolist() == [1, 1, 0, 5, 9, 19]
    for unknown in (12, 260, 65535):
        np.array([10, unknown], np.uint32).tofile(path)
        with pytest.raises(InputError, match=rf"000000\.label: label id {unknown}; expected one of 0, 1, 10"):
            SemanticKITTI().read_labels(path)


def test_intensity_as_released_is_remission_and_one(index):
    path = index.root / index.frames["points"].iloc[0]
    raw = np.fromfile(path, np.float32).reshape(-1, 4)[:, 3:]
    points, features = SemanticKITTIReleased().read_points(path)
    np.testing.assert_array_equal(features, raw + 1)
    np.testing.assert_array_equal(points, SemanticKITTI().read_points(path)[0])


def test_prompts_are_the_released_ones():
    """Compare with CLIP2Scene @ f37dae7, utils/prompt_engineering.py:10."""
    assert ", ".join(SemanticKITTI.prompts) == (
        "car, bicycle, motorcycle, truck, other vehicle, person, bicyclist, motorcyclist, road, parking, "
        "sidewalk, other ground, building, fence, vegetation, trunk, terrain, pole, traffic sign"
    )


def test_scans_and_labels_are_enough_without_sweeps(copy, tmp_path):
    for sequence in (copy.root / "sequences").iterdir():
        for name in ("calib.txt", "poses.txt", "times.txt"):
            (sequence / name).unlink()
        shutil.rmtree(sequence / "image_2")
    with pytest.raises(InputError, match=r"00/calib\.txt: no such file; expected a calibration"):
        build(copy, tmp_path / "index.parquet")
    index = build(copy.model_copy(update={"sweeps": 0}), tmp_path / "index.parquet")
    assert len(index) == 9
    assert index.frames["timestamp"].tolist()[:3] == [0, 100_000, 200_000]
    assert load_frame(SemanticKITTI(), index.root, index.frames.iloc[8]).labels.max() > 0


def test_one_missing_image_is_told_apart(copy, tmp_path):
    (copy.root / "sequences/01/image_2/000001.png").unlink()
    index = build(copy, tmp_path / "index.parquet")
    assert [len(images) for images in index.split("train").frames["camera_images"]] == [1, 1, 1, 1, 0, 1]
    with pytest.raises(InputError, match="1 of 6 frames have no image, the first is 01/000001"):
        PretrainingSamples(SemanticKITTI(), index.split("train"), Pretraining(), {"images"}, 0.1, False, 0)


def cut_last_line(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))


def cut_last_number(path):
    path.write_text(path.read_text().rpartition(" ")[0])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def remove_all(path):
    shutil.rmtree(path)


def empty_folder(path):
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("08/poses.txt", remove, "no such file; expected a pose a scan .*`sweeps` to 0"),
        ("08/poses.txt", cut_last_line, "2 lines; expected one for scan 000002, counted from 0"),
        ("08/poses.txt", cut_last_number, "expected lines of 12 numbers"),
        ("08/times.txt", cut_last_line, "2 lines; expected one for scan 000002"),
        ("08/calib.txt", cut_last_line, "has no line Tr; expected P2 and Tr"),
        ("08/calib.txt", cut_last_number, "expected lines of 12 numbers"),
        ("08/image_2/000000.png", empty, "not a whole image"),
        ("", empty_folder, "holds no sequence; expected scans, sequences/00/velodyne/000000.bin"),
        ("", remove_all, "no such file; expected the folder of the sequences"),
    ],
)
def test_damage_is_named_and_leaves_no_index(copy, tmp_path, name, damage, message):
    path = copy.root / "sequences" / name
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        build(copy, tmp_path / "index.parquet")
    assert str(error.value).startswith(f"{path}: ")
    assert not (tmp_path / "index.parquet").exists()


def test_a_truncated_scan_is_named(copy, index):
    path = copy.root / index.frames["points"].iloc[0]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"000000\.bin: \d+ bytes; expected 16 for each point"):
        SemanticKITTI().read_points(path)
