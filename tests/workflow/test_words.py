"""Free text against a network that was trained on embedded data: the best points belong to the word's class.

The smallest study that learns anything: one minute of a CPU for data, teacher and pre-training.
"""

import json

import numpy as np
import pytest
from checkouts import checkout

from clip2scene.datasets.nuscenes import NuScenes

pytestmark = pytest.mark.workflow

CONFIG = """
datasets:
  nuscenes:
    root: data/nuscenes
    version: v1.0-synthetic
    pretrain_split: train
    voxel_size: 0.25
    synthetic: { train_scenes: 6, val_scenes: 1 }
teacher: { training: { steps: 400 } }
backbones: { spvcnn: { width: 0.25 } }
pretrain:
  epochs: 2
  images: 3
  by_method: { clip2scene: { crop: { size: [144, 256], scale: [0.5, 1.0], minimum_pairs: 100 } } }
"""
ROWS = (
    "protocol\tmethod\trecipe\tbackbone\tpretrain\ttarget\tpretrain_seeds\n"
    "annotation_free\tclip2scene\tfixed\tspvcnn\tnuscenes\tnuscenes\t0\n"
)
FOUND = ("the driveable surface", "manmade", "vegetation")
"""Words that the network has learned: nearly all of their best points are right."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "rows.tsv").write_text(ROWS)
    site = checkout(folder / "site", folder / "config.yaml", folder / "rows.tsv")
    site.clip2scene("run", "--parents", "annotation_free")
    return site


@pytest.fixture(scope="module")
def asked(trained, tmp_path_factory):
    """Relevancy found in each kept keyframe for each word, and the labels."""
    (run,) = trained.made("pretrain")
    out = tmp_path_factory.mktemp("out")
    labels, files = {}, []
    for kept in sorted(trained.results.glob("runs/*/scan-*.npz")):
        with np.load(kept) as scan:
            path = out / f"{kept.stem}.npy"
            labels[str(path)] = scan["labels"]
            files.append(path)
            np.save(path, of(trained, scan["points"]))
    words = (*FOUND, "a car", "a red car")
    said = trained.clip2scene(
        "predict", *map(str, files), "--run", run["key"], "--out", str(out), "--json", "--top", "20",
        "--words", *words,
    )  # fmt: skip
    report = json.loads(said[said.index("[\n") :])
    return [(item["top"], labels[item["file"]]) for item in report]


def of(site, points):
    """Return the scan [N, 4] with these points, with its intensities."""
    for path in (site.folder / "data").glob("nuscenes/*/samples/LIDAR_TOP/*.bin"):
        scan = np.fromfile(path, np.float32).reshape(-1, 5)[:, :4]
        if np.array_equal(scan[:, :3], points):
            return scan
    raise AssertionError("no scan has these points")


def share(asked, word, name):
    """Return the share of the best labelled points of a word that belong to a class, and of all points."""
    number = 1 + NuScenes.classes.index(name)
    best = np.concatenate([labels[[point["point"] for point in top[word]]] for top, labels in asked])
    every = np.concatenate([labels for _, labels in asked])
    return (best[best > 0] == number).mean(), (every[every > 0] == number).mean()


@pytest.mark.parametrize(
    ("word", "name"), [*zip(FOUND, ("driveable_surface", "manmade", "vegetation"), strict=True)]
)
def test_the_best_points_belong_to_the_class_of_the_word(asked, word, name):
    assert share(asked, word, name)[0] > 0.85


@pytest.mark.parametrize("word", ["a car", "a red car"])
def test_a_thing_is_found_far_more_often_than_by_chance(asked, word):
    found, chance = share(asked, word, "car")
    assert found > 3 * chance
