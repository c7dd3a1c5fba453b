"""The synthetic data set in nuScenes' format, read back by the nuScenes devkit."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.splits import get_scenes_of_split
from PIL import Image

from clip2scene.config import DatasetConfig, Synthetic
from clip2scene.errors import InputError
from clip2scene.synthetic.categories import CATEGORIES, CLASSES, prompt
from clip2scene.synthetic.generate import generate

VERSION = "v1.0-tiny"
TINY = Synthetic(train_scenes=1, val_scenes=1, keyframes=2, azimuth_steps=90, image_size=(72, 128))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "nuscenes"
    make(folder, seed=3, processes=2)
    return folder


@pytest.fixture(scope="module")
def devkit(root) -> NuScenes:
    return NuScenes(VERSION, str(root), verbose=False)


def make(root: Path, seed: int, processes: int = 1, **parameters) -> None:
    synthetic = TINY.model_copy(update=parameters)
    generate(DatasetConfig(root=root, version=VERSION, synthetic=synthetic), seed, processes)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes(root, tmp_path):
    """Compare files between numbers of processes; another seed must give other streets."""
    make(tmp_path / "again", seed=3, processes=1)
    assert digest(tmp_path / "again") == digest(root)
    make(tmp_path / "other", seed=4, processes=2)
    name = "samples/LIDAR_TOP/synthetic-0001__LIDAR_TOP__1500001000000000.pcd.bin"
    assert digest(tmp_path / "other")[name] != digest(root)[name]


def test_tables(devkit):
    assert [scene["nbr_samples"] for scene in devkit.scene] == [2, 2]
    assert devkit.lidarseg_idx2name_mapping == dict(enumerate(CATEGORIES))
    assert get_scenes_of_split("parametrize", devkit) == ["synthetic-0001"]
    sample = devkit.get("sample", devkit.scene[0]["first_sample_token"])
    assert len(sample["data"]) == 7
    sweep, earlier = devkit.get("sample_data", sample["data"]["LIDAR_TOP"]), 0
    while sweep["prev"]:
        before = devkit.get("sample_data", sweep["prev"])
        assert sweep["timestamp"] - before["timestamp"] == 50_000
        sweep, earlier = before, earlier + 1
    assert earlier == 9
    assert devkit.get("sample", sample["next"])["timestamp"] - sample["timestamp"] == 500_000


def test_points_labels_and_images(devkit):
    for record in devkit.sample_data:
        if record["fileformat"] == "jpg":
            with Image.open(devkit.get_sample_data_path(record["token"])) as image:
                assert image.size == (record["width"], record["height"]) == (128, 72)
            continue
        points = LidarPointCloud.from_file(devkit.get_sample_data_path(record["token"])).points
        assert 1000 < points.shape[1] <= 32 * 90
        assert np.isfinite(points).all()
        assert 0 <= points[3].min() <= points[3].max() <= 255
        if record["is_key_frame"]:
            labels = Path(devkit.dataroot) / devkit.get("lidarseg", record["token"])["filename"]
            assert labels.stat().st_size == points.shape[1]


def test_boxes_hold_points_of_their_category(devkit):
    """Count the points in each box with the devkit's transforms; check classes in boxes of over 5 points."""
    shares = []
    for sample in devkit.sample:
        token = sample["data"]["LIDAR_TOP"]
        path, boxes, _ = devkit.get_sample_data(token)
        points = LidarPointCloud.from_file(path).points[:3]
        labels = np.fromfile(Path(devkit.dataroot) / devkit.get("lidarseg", token)["filename"], np.uint8)
        for box in boxes:
            local = box.rotation_matrix.T @ (points - box.center[:, None])
            inside = (np.abs(local) <= box.wlh[[1, 0, 2], None] / 2).all(0)
            assert abs(inside.sum() - devkit.get("sample_annotation", box.token)["num_lidar_pts"]) <= 1
            if inside.sum() > 5:
                shares.append((labels[inside] == CATEGORIES.index(box.name)).mean())
    assert len(shares) > 10
    assert np.mean(shares) > 0.9


def test_captions(root):
    crops = pd.read_parquet(root / VERSION / "captions.parquet")
    assert list(crops) == ["image", "x0", "y0", "x1", "y1", "caption", "name"]
    assert crops["image"].str.contains("synthetic-0001").all()  # train split only
    assert set(crops["name"]) <= {prompt(name) for name in CLASSES}
    assert all(name in caption for name, caption in zip(crops["name"], crops["caption"], strict=True))
    assert ((crops["x1"] - crops["x0"]) >= 24).all()
    assert (crops[["x0", "y0"]] >= 0).all(axis=None)
    assert (crops["x1"] <= 128).all()
    assert (crops["y1"] <= 72).all()


def test_nothing_is_left_of_a_failure(tmp_path):
    with pytest.raises(InputError):
        make(tmp_path / "data", seed=0, without=("moon",))
    assert list(tmp_path.iterdir()) == []


def test_the_data_set_says_what_it_was_made_from(root):
    made_from = json.loads((root / "synthetic.json").read_text())
    assert Synthetic(**made_from.pop("synthetic")) == TINY
    assert made_from == {"format": "nuscenes", "version": VERSION, "seed": 3}
