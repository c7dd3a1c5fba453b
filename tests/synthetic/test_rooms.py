"""Synthetic rooms in ScanNet's format, read back by the ScanNet reader."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from clip2scene import seeding
from clip2scene.config import DatasetConfig, Pretraining, Rooms
from clip2scene.datasets.index import build, load_frame, read_index
from clip2scene.datasets.scannet import ScanNet
from clip2scene.errors import InputError
from clip2scene.pairing.images import read_depth, read_image
from clip2scene.pairing.projection import pair
from clip2scene.pairing.samples import PretrainingSamples
from clip2scene.synthetic.generate import generate
from clip2scene.synthetic.rooms import KINDS, make_room

SMALL = Rooms(
    train_rooms=1, val_rooms=4, images=4, image_size=(60, 80), depth_size=(48, 64), vertex_spacing=0.1
)
VERSIONS = ("scannet_frames_25k", "scans")


def rooms(root, version, parameters):
    return DatasetConfig(format="scannet", root=root, version=version, synthetic=parameters)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Generate the same rooms with both image layouts."""
    folder = tmp_path_factory.mktemp("rooms")
    for version in VERSIONS:
        generate(rooms(folder / version, version, SMALL), seed=3, processes=2)
    return [folder / version for version in VERSIONS]


@pytest.fixture(scope="module")
def indices(roots, tmp_path_factory):
    paths = [tmp_path_factory.mktemp("index") / "index.parquet" for _ in VERSIONS]
    for root, version, path in zip(roots, VERSIONS, paths, strict=True):
        build(DatasetConfig(format="scannet", root=root, version=version), path)
    return [read_index(path, root) for path, root in zip(paths, roots, strict=True)]


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes(roots, tmp_path):
    """Compare files between numbers of processes; another seed must give other rooms."""
    smaller = SMALL.model_copy(update={"val_rooms": 1})
    for name, seed, processes in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        generate(rooms(tmp_path / name, "scans", smaller), seed, processes)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    mesh = "scans/scene9000_00/scene9000_00_vh_clean_2.ply"
    assert digest(tmp_path / "one")[mesh] == digest(roots[1])[mesh]
    assert digest(tmp_path / "one")[mesh] != digest(tmp_path / "other")[mesh]


def test_both_kinds_of_images_show_the_same(indices):
    for rows in zip(*(index.frames.itertuples() for index in indices), strict=True):
        first, second = (
            load_frame(ScanNet(), index.root, row) for index, row in zip(indices, rows, strict=True)
        )
        np.testing.assert_array_equal(first.points, second.points)
        assert len(second.cameras) == 3 * len(first.cameras) == 3 * SMALL.images  # too few to draw from
        for one, other in zip(first.cameras, second.cameras[::3], strict=True):
            np.testing.assert_allclose(one.intrinsics, other.intrinsics, atol=1e-4)
            np.testing.assert_allclose(one.lidar_to_camera, other.lidar_to_camera, atol=1e-5)
            np.testing.assert_array_equal(read_image(one.image), read_image(other.image))
            depths = [read_depth(camera.depth.image, camera.depth.size) for camera in (one, other)]
            np.testing.assert_array_equal(*depths)


@pytest.mark.parametrize("source", [0, 1], ids=VERSIONS)
def test_points_have_the_colours_of_their_pixels(indices, source):
    """Compare colours: they agree only if poses, both cameras' intrinsics and the depth check are right."""
    errors, others = [], []
    for row in indices[source].frames.itertuples():
        frame = load_frame(ScanNet(), indices[source].root, row)
        pairs = pair(frame)
        assert set(pairs.image.tolist()) == set(range(len(frame.cameras)))
        images = np.stack([read_image(camera.image) for camera in frame.cameras])
        seen = images[pairs.image, pairs.row, pairs.column] / 127.5 - 1
        errors.append(np.abs(seen - frame.features[pairs.point]).mean(1))
        others.append(np.abs(seen - frame.features[pairs.point[::-1]]).mean(1))
    assert np.median(np.concatenate(errors)) < 0.08
    assert np.median(np.concatenate(others)) > 0.2


def test_hidden_points_have_no_pairs(indices):
    """Check that paired points are not behind the largest depth that their camera measured."""
    frame = load_frame(ScanNet(), indices[0].root, indices[0].frames.iloc[1])
    pairs = pair(frame)
    for number, camera in enumerate(frame.cameras):
        points = frame.points[pairs.point[pairs.image == number]]
        depth = (points @ camera.lidar_to_camera[:3, :3].T + camera.lidar_to_camera[:3, 3])[:, 2]
        assert depth.min() > 0
        assert depth.max() <= read_depth(camera.depth.image, camera.depth.size).max() + 0.05
    blind = [camera.__class__(**{**camera.__dict__, "depth": None}) for camera in frame.cameras]
    unchecked = pair(frame.__class__(**{**frame.__dict__, "cameras": tuple(blind)}))
    assert len(pairs) < 0.95 * len(unchecked)


def test_every_class_occurs_in_four_rooms(indices):
    frames = [
        load_frame(ScanNet(), indices[0].root, row) for row in indices[0].split("val").frames.itertuples()
    ]
    assert set(np.concatenate([frame.labels for frame in frames]).tolist()) == set(range(21))


def test_captions_name_what_train_images_show(roots):
    tables = [
        pd.read_parquet(root / version / "captions.parquet")
        for root, version in zip(roots, VERSIONS, strict=True)
    ]
    pd.testing.assert_frame_equal(tables[0].drop(columns="image"), tables[1].drop(columns="image"))
    assert len(tables[0]) > 20
    assert tables[0]["image"].str.contains("scene9000_00").all()
    assert set(tables[0]["name"]) <= set(ScanNet.prompts)
    assert all(row.name in row.caption for row in tables[0].itertuples(index=False))
    assert (tables[0]["x1"] <= 80).all()
    assert (tables[0]["y1"] <= 60).all()


@pytest.mark.parametrize("kind", KINDS)
def test_furniture_stands_within_the_walls_and_clear_of_each_other(kind):
    for seed in range(5):
        room = make_room(kind, seeding.generator(seed, kind))
        reach = np.abs(room.primitives.axes) @ room.primitives.half[:, :, None]
        furniture = np.array(
            [room.things[owner].name not in ("wall", "floor", "ceiling") for owner in room.primitives.owner]
        )
        edge = np.abs(room.primitives.centre[furniture, :2]) + reach[furniture, :2, 0]
        assert (edge <= np.array(room.size) / 2 + 0.02).all()
        names = {thing.name for thing in room.things}
        assert {"wall", "floor", "door", "window"} <= names
        tall = [t for t in room.things if t.name in ("bookshelf", "refrigerator", "bed", "bathtub", "toilet")]
        for number, thing in enumerate(tall):
            for other in tall[number + 1 :]:
                gap = np.abs([thing.x - other.x, thing.y - other.y])
                assert gap.max() > 0.3


def test_a_sample_draws_some_of_a_scans_images(indices):
    config = Pretraining(images=2, drop_cuboids=True)
    samples = PretrainingSamples(ScanNet(), indices[0], config, {"images"}, 0.1, False, seed=0)
    chosen = set()
    for epoch in range(4):
        samples.epoch = epoch
        sample = samples[0]
        assert sample.images.shape[:2] == (2, 3)
        assert sample.features.shape[1] == 3
        assert sample.pair_image.max() <= 1
        chosen.add(sample.images.float().mean(dim=(1, 2, 3)).sum().item())
    assert len(chosen) == 4


def test_nothing_is_left_of_a_failure(tmp_path):
    with pytest.raises(InputError, match="expected scannet_frames_25k or scans"):
        generate(rooms(tmp_path / "data", "v1.0", SMALL), seed=0, processes=1)
    assert list(tmp_path.iterdir()) == []
