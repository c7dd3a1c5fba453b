from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch

from clip2scene.config import Crop, Pretraining, Superpixels
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.errors import InputError
from clip2scene.pairing.samples import LabelledSamples, PretrainingSamples
from clip2scene.pairing.superpixels import write_superpixels

CONFIG = Pretraining(sweeps=3, crop=Crop(size=(24, 44)))


@pytest.fixture(scope="module")
def index(tiny_index, tiny_root):
    return read_index(tiny_index, tiny_root).split("train")


def samples(index, needs=("images", "sweeps"), config=CONFIG, seed=0, superpixels=None):
    return PretrainingSamples(NuScenes(), index, config, needs, 0.2, False, seed, superpixels)


def same(first, second):
    tensors = [field.name for field in fields(first) if isinstance(getattr(first, field.name), torch.Tensor)]
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in tensors)


def test_seed_and_epoch_decide_a_sample(index):
    data = samples(index)
    first = data[1]
    assert same(first, samples(index)[1])
    data.epoch = 1
    assert not torch.equal(first.points[:50], data[1].points[:50])
    assert not torch.equal(first.points[:50], samples(index, seed=1)[1].points[:50])


def test_every_sweep_is_a_cloud_of_its_own_under_one_rotation(index):
    sample = samples(index, config=CONFIG.model_copy(update={"consecutive_sweeps": True}))[1]
    frame = load_frame(NuScenes(), index.root, index.frames.iloc[1], sweeps=[0, 1])
    assert torch.equal(sample.coordinates[sample.inverse, 0].long(), sample.sweep)
    assert torch.equal(sample.sweep, torch.from_numpy(frame.sweep))
    rotation = np.linalg.lstsq(frame.points, sample.points.numpy(), rcond=None)[0]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
    np.testing.assert_allclose(sample.points, frame.points @ rotation, atol=1e-3)


def test_voxels_hold_their_points_and_the_features_of_the_first(index):
    sample = samples(index)[1]
    voxel = torch.floor(sample.points / 0.2).int()
    assert torch.equal(sample.coordinates[sample.inverse, 1:], voxel)
    frame = load_frame(NuScenes(), index.root, index.frames.iloc[1])
    keyframe = sample.coordinates[:, 0] == 0
    np.testing.assert_array_equal(
        sample.features[keyframe], frame.features[sample.representative[keyframe].numpy()]
    )


def test_cells_join_sweeps_where_they_meet(index):
    sample = samples(index)[1]
    order = sample.grid_cell.argsort(stable=True)
    cell, points, sweep = sample.grid_cell[order], sample.points[order], sample.sweep[order]
    together = cell[1:] == cell[:-1]
    distance = (points[1:] - points[:-1])[together].norm(dim=1)
    assert distance.max() <= 0.2 * 3**0.5 + 1e-3
    assert (sweep[1:] != sweep[:-1])[together].any()


def test_a_frame_takes_the_sweeps_that_there_are(index):
    few = index.frames.iloc[[1]].copy()
    few["sweep_points"] = [few["sweep_points"].iloc[0][:1]]
    few["sweep_poses"] = [few["sweep_poses"].iloc[0][:16]]
    assert samples(replace(index, frames=few))[0].sweep.max() == 1


def test_a_sample_holds_what_is_needed_and_never_labels(index):
    sample = samples(index, needs=("images",))[1]
    assert sample.images.shape == (6, 3, 24, 44)
    assert sample.images.dtype == torch.uint8
    assert sample.sweep.max() == 0
    assert sample.superpixels is None
    assert sample.labels is None
    assert len(sample.pair_point) == len(sample.pair_image) == len(sample.pair_row) == len(sample.pair_column)
    assert sample.pair_row.max() < 24
    assert sample.pair_column.max() < 44
    assert samples(index, needs=())[1].images is None


def test_superpixels_lie_under_their_images(index, tmp_path):
    path = tmp_path / "superpixels.arrow"
    write_superpixels(index, "train", Superpixels(segments=20), path)
    sample = samples(index, needs=("images", "superpixels"), superpixels=path)[0]
    assert sample.superpixels.shape == (6, 24, 44)
    ids = [set(part.unique().tolist()) for part in sample.superpixels]
    assert sum(map(len, ids)) == len(set.union(*ids))
    with pytest.raises(InputError, match="superpixels"):
        samples(index, needs=("images", "superpixels"))


def test_dropping_cuboids_keeps_pairs_on_their_pixels(index):
    """Check that every paired point is a point of the frame, by its distance to the z axis."""
    config = CONFIG.model_copy(
        update={"drop_cuboids": True, "crop": Crop(size=(24, 44), minimum_pairs=1, minimum_share=0)}
    )
    sample = samples(index, config=config, needs=("images",))[1]
    frame = load_frame(NuScenes(), index.root, index.frames.iloc[1])
    assert 0 < len(sample.points) < len(frame.points)
    radius = np.linalg.norm(frame.points[:, :2], axis=1).round(2)
    paired = sample.points[sample.pair_point][:, :2].norm(dim=1).numpy().round(2)
    assert np.isin(paired, [radius, radius + 0.01, radius - 0.01]).mean() > 0.99


def turn_cameras_up(index, count):
    """Return the index with the first `count` cameras of every frame pointed at the sky."""
    frames = index.frames.copy()
    up = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -1000], [0, 0, 0, 1]])
    frames["camera_poses"] = [
        np.concatenate([np.tile(up.ravel(), count), poses[16 * count :]]) for poses in frames["camera_poses"]
    ]
    return replace(index, frames=frames)


def test_a_camera_without_pairs_is_legal_and_none_with_pairs_is_refused(index):
    sample = samples(turn_cameras_up(index, 2))[0]
    assert set(sample.pair_image.tolist()) <= {2, 3, 4, 5}
    assert len(sample.images) == 6
    with pytest.raises(InputError, match=f"{index.ids[0]} .*none of its points falls into any image"):
        samples(turn_cameras_up(index, 6))[0]


def test_a_missing_or_broken_image_is_named(index, tmp_path):
    frames = index.frames.iloc[:1].copy()
    kind = frames["camera_images"].dtype

    def with_first(path):
        images = [path, *frames["camera_images"].iloc[0][1:]]
        return replace(index, frames=frames.assign(camera_images=pd.Series([images], frames.index, kind)))

    with pytest.raises(InputError, match=r"broken\.jpg: no such file"):
        samples(with_first("broken.jpg"))[0]
    whole = (index.root / index.frames.iloc[0].camera_images[0]).read_bytes()
    (tmp_path / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"broken\.jpg: not a whole image"):
        samples(with_first(str(tmp_path / "broken.jpg")))[0]


def test_labelled_samples_move_only_where_augmented(index):
    plain = LabelledSamples(NuScenes(), index, 0.2, False, augment=False, seed=0)[1]
    frame = load_frame(NuScenes(), index.root, index.frames.iloc[1])
    assert torch.equal(plain.points, torch.from_numpy(frame.points))
    assert torch.equal(plain.labels, torch.from_numpy(frame.labels))
    augmented = LabelledSamples(NuScenes(), index, 0.2, True, augment=True, seed=0)[1]
    assert torch.equal(augmented.labels, plain.labels)
    assert not torch.equal(augmented.points, plain.points)
    unlabelled = replace(index, frames=index.frames.assign(labels=None))
    with pytest.raises(InputError, match="has no labels"):
        LabelledSamples(NuScenes(), unlabelled, 0.2, False, augment=False, seed=0)[0]


def rotation_of(before, after):
    """Return the matrix that takes points [N, 3] before augmentation to those after it."""
    return np.linalg.lstsq(before, after, rcond=None)[0]


def test_clouds_may_be_augmented_each_by_itself(index):
    """Every sweep has its own rotation, and crops of its own of the keyframe's six images."""
    config = CONFIG.model_copy(update={"augmentation": "cloud", "consecutive_sweeps": True})
    sample = samples(index, config=config)[1]
    frame = load_frame(NuScenes(), index.root, index.frames.iloc[1], sweeps=[0, 1])
    assert torch.equal(sample.sweep, torch.from_numpy(frame.sweep))
    rotations = []
    for sweep in range(3):
        mine = frame.sweep == sweep
        rotations.append(rotation_of(frame.points[mine], sample.points.numpy()[mine]))
        np.testing.assert_allclose(rotations[-1] @ rotations[-1].T, np.eye(3), atol=1e-3)
    assert max(np.abs(rotations[0] - other).max() for other in rotations[1:]) > 0.1
    # cells are those before augmentation, whatever becomes of the points
    assert torch.equal(sample.grid_cell, samples(index, config=frozen(config))[1].grid_cell)

    assert sample.images.shape == (18, 3, 24, 44)
    assert torch.equal(sample.pair_image // 6, sample.sweep[sample.pair_point])
    assert (sample.pair_image.diff() >= 0).all()
    assert not torch.equal(sample.images[:6], sample.images[6:12])


def frozen(config):
    return config.model_copy(update={"augmentation": "sample"})


def test_superpixels_of_clouds_lie_under_their_own_crops(index, tmp_path):
    path = tmp_path / "superpixels.arrow"
    write_superpixels(index, "train", Superpixels(segments=20), path)
    config = CONFIG.model_copy(update={"augmentation": "cloud"})
    sample = samples(index, ("images", "sweeps", "superpixels"), config, superpixels=path)[0]
    assert sample.superpixels.shape == (18, 24, 44)


def test_merged_sweeps_are_one_cloud(index):
    config = CONFIG.model_copy(update={"merge_sweeps": True})
    merged, apart = samples(index, config=config)[1], samples(index)[1]
    assert merged.coordinates[:, 0].unique().tolist() == [0]
    for name in ("points", "sweep", "grid_cell", "pair_point", "pair_row", "images"):
        assert torch.equal(getattr(merged, name), getattr(apart, name)), name
    # points of several sweeps share a voxel, so that there are fewer
    assert len(merged.coordinates) < len(apart.coordinates)
    voxel = torch.floor(merged.points / 0.2).int()
    assert torch.equal(merged.coordinates[merged.inverse, 1:], voxel)
    own = samples(index, config=config.model_copy(update={"augmentation": "cloud"}))[1]
    assert len(own.images) == 6  # one cloud, one augmentation
