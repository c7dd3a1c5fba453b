"""The synthetic data set in SemanticKITTI's format: its files and its domain shift."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from clip2scene.config import DatasetConfig, Synthetic
from clip2scene.datasets.semantickitti import ID_TO_CLASS, SemanticKITTI
from clip2scene.errors import InputError
from clip2scene.synthetic.generate import generate


def clouds(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return all points [N, 4] float32 (x, y, z, remission) and labels [N] uint32 of a data set."""
    scans = sorted(root.glob("sequences/*/velodyne/*.bin"))
    labels = [scan.parents[1] / "labels" / f"{scan.stem}.label" for scan in scans]
    points = [np.fromfile(scan, np.float32).reshape(-1, 4) for scan in scans]
    return np.concatenate(points), np.concatenate([np.fromfile(label, np.uint32) for label in labels])


def test_files_are_where_semantickitti_has_them(tiny_kitti):
    sequences = sorted(path.name for path in (tiny_kitti.root / "sequences").iterdir())
    assert sequences == ["00", "01", "08"]
    folder = tiny_kitti.root / "sequences/08"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    scans = [f"{number:06d}" for number in range(3)]
    sensors = [f"{name}/{scan}" for name, end in (("image_2", "png"), ("labels", "label")) for scan in scans]
    assert [name.rpartition(".")[0] for name in files if "/" in name] == [
        *sensors,
        *(f"velodyne/{scan}" for scan in scans),
    ]
    assert [name for name in files if "/" not in name] == ["calib.txt", "poses.txt", "times.txt"]
    with Image.open(folder / "image_2/000000.png") as image:
        assert image.size == (160, 48)
    np.testing.assert_allclose(np.loadtxt(folder / "poses.txt")[0], np.eye(4)[:3].ravel(), atol=1e-15)


def test_same_seed_same_bytes(tiny_kitti, tmp_path):
    def digest(root):
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    generate(tiny_kitti.model_copy(update={"root": tmp_path / "again"}), seed=0, processes=2)
    assert digest(tmp_path / "again") == digest(tiny_kitti.root)


def test_it_is_another_sensor_on_another_vehicle(tiny_kitti, tiny_root):
    points, labels = clouds(tiny_kitti.root)
    flat = ID_TO_CLASS[labels & 0xFFFF] == 1 + SemanticKITTI.classes.index("road")
    assert np.median(points[flat, 2]) == pytest.approx(-1.73, abs=0.03)
    near = np.hypot(points[:, 0], points[:, 1]) < 30
    beams = np.degrees(np.arctan2(points[near, 2], np.hypot(points[near, 0], points[near, 1])))
    assert beams.min() == pytest.approx(-24.33, abs=0.02)
    counts, _ = np.histogram(beams, np.arange(-24.83, -8, 0.5))  # one bin per beam, half a degree wide
    assert (counts[1:] > 0).all()
    other = np.fromfile(next(tiny_root.glob("samples/LIDAR_TOP/*")), np.float32).reshape(-1, 5)
    assert np.median(other[:, 2]) != pytest.approx(np.median(points[:, 2]), abs=0.05)


def test_remission_is_like_that_of_a_real_scan(tiny_kitti, shared_data):
    real = np.fromfile(shared_data / "semantickitti/sequence-00/000000.bin", np.float32).reshape(-1, 4)[:, 3]
    points, _ = clouds(tiny_kitti.root)
    remission = points[:, 3]
    assert set(np.unique(np.round(100 * remission, 3))) <= set(range(100))
    assert remission.mean() == pytest.approx(real.mean(), rel=0.15)
    assert remission.std() == pytest.approx(real.std(), rel=0.15)
    assert (remission == 0).mean() == pytest.approx((real == 0).mean(), abs=0.02)


def test_labels_are_semantickittis(tiny_kitti):
    """Check for classes that nuScenes does not distinguish, and for instance ids of countable classes."""
    points, labels = clouds(tiny_kitti.root)
    ids, instances = labels & 0xFFFF, labels >> 16
    assert (ID_TO_CLASS[ids] > 0).any()
    assert (ID_TO_CLASS[ids] >= 0).all()
    assert {40, 44, 48, 50, 60, 70, 71, 72, 80} <= set(ids)
    counted = np.isin(ids, [10, 11, 13, 15, 18, 20, 30, 31, 32]) | (ids >= 252)
    assert (instances[counted] > 0).all()
    assert (instances[~counted] == 0).all()
    height = points[:, 2] + 1.73
    assert height[ids == 71].max() < height[ids == 70].max()  # trunks end inside the foliage
    assert np.abs(height[np.isin(ids, [40, 44, 60])]).mean() < 0.1  # road surfaces lie on the ground
    assert height[np.isin(ids, [50, 80])].max() > 1.73  # objects beside the road reach above the sensor


def test_more_sequences_than_the_split_has_are_refused(tmp_path, tiny_kitti):
    for name, value, limit in (("train_scenes", 11, 10), ("val_scenes", 2, 1)):
        with pytest.raises(ValidationError, match=f"{name}: found {value}; expected at most {limit}"):
            Synthetic(format="semantickitti", **{name: value})
    given = tiny_kitti.synthetic.model_dump(exclude={"val_scenes"})  # its default is nuScenes'
    data = DatasetConfig(format="semantickitti", root=tmp_path / "data", synthetic=given)
    with pytest.raises(InputError, match=r"synthetic\.val_scenes: 4 sequences; expected at most 1"):
        generate(data, 0, 1)
    assert list(tmp_path.iterdir()) == []
