"""The synthetic data set in nuScenes' format, read back by the nuScenes devkit."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.splits import get_scenes_of_split
from PIL import Image

from clip2scene import layout
from clip2scene.compute import compute
from clip2scene.config import Config, DatasetConfig, Synthetic
from clip2scene.datasets.identity import MARKER
from clip2scene.errors import InputError
from clip2scene.run_files import read_description
from clip2scene.runs import Run
from clip2scene.study import Study
from clip2scene.synthetic.categories import CATEGORIES, CLASSES, prompt
from clip2scene.synthetic.generate import generate
from clip2scene.synthetic.nuscenes_writer import NuScenesWriter

VERSION = "v1.0-tiny"
TINY = Synthetic(train_scenes=1, val_scenes=1, keyframes=2, azimuth_steps=90, image_size=(72, 128))
SMALLEST = {
    "train_scenes": 1, "val_scenes": 1, "keyframes": 1, "beams": 8, "azimuth_steps": 30,
    "image_size": (24, 40),
}  # fmt: skip
ROWS = """\
protocol	method	target	percent	seeds	backbone
finetune	random	streets	100	0	spvcnn
"""


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


def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    """The disk is full when the scenes are written and the tables are not."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(NuScenesWriter, "finish", Mock(side_effect=full))
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "data", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_the_data_set_says_what_it_was_made_from(root):
    made_from = json.loads((root / MARKER).read_text())
    assert Synthetic(**made_from.pop("synthetic")) == TINY
    files = digest(root)
    del files[MARKER]  # it is written last
    assert made_from.pop("files") == files
    assert made_from.pop("sha256")
    assert made_from == {"format": "nuscenes", "version": VERSION, "seed": 3}


@pytest.mark.parametrize("name", ["samples/LIDAR_TOP/0.bin", "notes.txt", ".hidden"])
def test_a_folder_that_holds_anything_is_never_written_into(tmp_path, name):
    """Whatever it is: somebody's download of nuScenes has such folders."""
    theirs = tmp_path / "data" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    with pytest.raises(InputError, match=rf"data: holds {name.partition('/')[0]}; expected an empty folder"):
        make(tmp_path / "data", seed=0)
    assert theirs.read_text() == "theirs"
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1


def test_an_empty_folder_may_be_the_root(root, tmp_path):
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty", seed=3)
    assert digest(tmp_path / "empty") == digest(root)


@pytest.fixture
def study(tmp_path) -> Study:
    """A study whose data set is made below `tmp_path` / data."""
    return study_of(tmp_path)


def study_of(folder: Path, **parameters) -> Study:
    (folder / "experiments.tsv").write_text(ROWS)
    synthetic = {**SMALLEST, **parameters}
    data = {"root": folder / "data", "version": VERSION, "pretrain_split": "train", "synthetic": synthetic}
    return Study(
        Config(experiments=folder / "experiments.tsv", results=folder / "results", datasets={"streets": data})
    )


def stage(study: Study) -> tuple[Run, Path]:
    """Return the run that makes the data set, and the data set's folder."""
    run = study.keyed(Run("synthetic", target="streets", seed=study.config.seed))
    return run, study.configuration().datasets["streets"].root


@pytest.mark.parametrize("name", ["v1.0-trainval/scene.json", "LICENSE"])
def test_the_stage_refuses_a_root_that_is_not_ours(study, tmp_path, name):
    theirs = tmp_path / "data" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    with pytest.raises(
        InputError, match=rf"data: holds {theirs.relative_to(tmp_path / 'data').parts[0]}, which is no"
    ):
        compute(study, stage(study)[0])
    assert theirs.read_text() == "theirs"
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == [theirs]


def test_the_stage_refuses_a_file_as_the_root(study, tmp_path):
    (tmp_path / "data").write_text("theirs")
    with pytest.raises(InputError, match="data: is a file; expected the folder of a synthetic data set"):
        compute(study, stage(study)[0])
    assert (tmp_path / "data").read_text() == "theirs"


def test_synthetic_data_sets_lie_side_by_side_and_are_made_once(study, tmp_path, monkeypatch):
    """Other parameters are another data set: it is made beside the first, which comes back untouched."""
    run, first = stage(study)
    compute(study, run)
    before = digest(first)
    other_study = study_of(tmp_path, beams=16)
    other, second = stage(other_study)
    assert (first.parent, second.parent) == (tmp_path / "data", tmp_path / "data")
    assert first != second
    compute(other_study, other)
    assert digest(first) == before
    assert (second / MARKER).is_file()
    monkeypatch.setattr("clip2scene.synthetic.generate.generate", None)  # made again, it would fail
    compute(study_of(tmp_path), run)
    fresh = study_of(tmp_path)
    shutil.rmtree(layout.run_folder(fresh.config, run))  # another results folder has no record of it
    compute(fresh, run)
    assert fresh.finished(run)
    assert digest(first) == before


def test_the_record_holds_what_readers_depend_on(study):
    run, folder = stage(study)
    compute(study, run)
    products = read_description(layout.run_folder(study.config, run))["products"]
    assert products["content"] == json.loads((folder / MARKER).read_text())["sha256"]


def test_the_root_may_be_a_link(tmp_path):
    """To another disk, as large data sets are."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    study = study_of(tmp_path)
    run, folder = stage(study)
    compute(study, run)
    assert study.finished(run)
    assert (tmp_path / "disk" / folder.name / MARKER).is_file()
    assert (tmp_path / "data").is_symlink()


def test_a_deleted_data_set_is_made_again_from_the_same_bytes(study):
    run, folder = stage(study)
    compute(study, run)
    before = digest(folder)
    shutil.rmtree(folder)
    again = study_of(folder.parents[1])
    assert not again.finished(run)
    compute(again, run)
    assert digest(folder) == before
