import hashlib
import json
import shutil

import numpy as np
import pytest
from nuscenes.eval.lidarseg.utils import LidarsegClassMapper

from clip2scene.config import DatasetConfig
from clip2scene.datasets.index import build, load_frame, read_index
from clip2scene.datasets.nuscenes import LIDARSEG_TO_CLASS, NuScenes, official_splits
from clip2scene.errors import InputError
from clip2scene.pairing.samples import LabelledSamples


def test_the_class_map_is_that_of_the_lidarseg_challenge(tiny_root):
    from nuscenes import NuScenes as Devkit

    devkit = Devkit("v1.0-tiny", str(tiny_root), verbose=False)
    mapper = LidarsegClassMapper(devkit)
    assert LIDARSEG_TO_CLASS.tolist() == [mapper.fine_idx_2_coarse_idx_mapping[i] for i in range(32)]
    names = {index: name for name, index in mapper.coarse_name_2_coarse_idx_mapping.items()}
    assert list(NuScenes.classes) == [names[i] for i in range(1, 17)]


def test_prompts_keep_two_underscores_and_lose_the_others():
    assert [name for name in NuScenes.prompts if "_" in name] == ["traffic_cone", "other_flat"]
    assert NuScenes.prompts[10] == "driveable surface"


def test_official_splits_are_those_behind_published_numbers():
    splits = official_splits()
    assert {name: len(splits[name]) for name in ("train", "val", "test", "parametrize", "verifying")} == {
        "train": 700,
        "val": 150,
        "test": 150,
        "parametrize": 600,
        "verifying": 100,
    }
    digest = {
        name: hashlib.md5("\n".join(sorted(scenes)).encode()).hexdigest() for name, scenes in splits.items()
    }
    assert digest["train"] == "99be35976adbcf930e4479e8cc2c75be"
    assert digest["val"] == "15b40c3d0a84336174136b689c2ac5d6"
    assert digest["verifying"] == "102d2329ce10a23bb7eb4911b210e25e"
    assert set(splits["parametrize"]) | set(splits["verifying"]) == set(splits["train"])


def test_every_official_version_has_its_scenes():
    """Check overlaps: two scenes of mini_train are in val, so training on mini leaks into trainval's val."""
    splits = {name: set(scenes) for name, scenes in official_splits().items()}
    assert (len(splits["mini_train"]), len(splits["mini_val"])) == (8, 2)
    assert not splits["mini_train"] & splits["mini_val"]
    assert splits["mini_train"] & splits["val"] == {"scene-0553", "scene-0796"}
    assert not splits["test"] & (splits["train"] | splits["val"])
    assert not splits["train"] & splits["val"]


@pytest.fixture
def as_version(tiny_root, tmp_path):
    """Return a function that lays out the tiny data set as an official version with the given scene names."""

    def lay_out(version, scenes):
        root = tmp_path / version
        shutil.copytree(tiny_root, root)
        (root / "v1.0-tiny").rename(root / version)
        (root / version / "splits.json").unlink()
        (root / "lidarseg" / "v1.0-tiny").rename(root / "lidarseg" / version)
        lidarseg = root / version / "lidarseg.json"
        lidarseg.write_text(lidarseg.read_text().replace("v1.0-tiny", version))
        table = root / version / "scene.json"
        records = json.loads(table.read_text())
        for record, name in zip(records, scenes, strict=True):
            record["name"] = name
        table.write_text(json.dumps(records))
        return root

    return lay_out


def index_of(root, version, tmp_path):
    return build(DatasetConfig(root=root, version=version), tmp_path / "index.parquet")


def test_mini_is_read_by_its_own_splits_and_by_the_official_ones(as_version, tmp_path):
    root = as_version("v1.0-mini", ["scene-0061", "scene-0553", "scene-0103"])
    index = index_of(root, "v1.0-mini", tmp_path)
    assert set(index.split("mini_train").frames["scene"]) == {"scene-0061", "scene-0553"}
    assert set(index.split("mini_val").frames["scene"]) == {"scene-0103"}
    assert set(index.split("train").frames["scene"]) == {"scene-0061"}
    assert set(index.split("val").frames["scene"]) == {"scene-0553", "scene-0103"}
    assert load_frame(NuScenes(), root, index.frames.iloc[0]).labels is not None


def test_the_test_version_has_neither_labels_nor_annotations(as_version, tmp_path):
    root = as_version("v1.0-test", ["scene-0077", "scene-0078", "scene-0079"])
    (root / "v1.0-test" / "lidarseg.json").unlink()
    for name in ("sample_annotation", "instance", "attribute", "visibility"):
        (root / "v1.0-test" / f"{name}.json").write_text("[]")
    index = index_of(root, "v1.0-test", tmp_path)
    assert len(index.split("test")) == len(index)
    assert index.frames["labels"].isna().all()
    frame = load_frame(NuScenes(), root, index.frames.iloc[1], sweeps=[0])
    assert frame.labels is None
    assert len(frame.cameras) == 6
    with pytest.raises(InputError, match="has no labels"):
        LabelledSamples(NuScenes(), index, 0.1, False, augment=False, seed=0)[0]


def test_sweeps_are_the_latest_first_at_twenty_a_second(tiny_index, tiny_root):
    """Check the lags, seconds before the keyframe; a scene's first keyframe may have few sweeps."""
    for row in read_index(tiny_index, tiny_root).frames.itertuples():
        assert len(row.sweep_lags) == len(row.sweep_points)
        np.testing.assert_allclose(row.sweep_lags, 0.05 * np.arange(1, len(row.sweep_lags) + 1), atol=0.011)


def test_a_real_keyframe_is_read_whole(shared_data):
    path = next((shared_data / "nuscenes_scene-0061").glob("*.pcd.bin"))
    points, intensity = NuScenes().read_points(path)
    assert points.shape == (34688, 3)
    assert intensity.shape == (34688, 1)
    assert (intensity.min(), intensity.max()) == (0, 255)


@pytest.fixture
def frame(tiny_index, tiny_root, tmp_path):
    """Return root and index row of a keyframe, copied so that a test may damage its files."""
    row = read_index(tiny_index, tiny_root).frames.iloc[0]
    for path in (row.points, row.labels):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_root / path, tmp_path / path)
    return tmp_path, row


def truncate(path):
    path.write_bytes(path.read_bytes()[:-8])


def empty(path):
    path.write_bytes(b"")


def put_nan(path):
    values = np.fromfile(path, np.float32)
    values[7] = np.nan
    values.tofile(path)


def put_unknown_id(path):
    values = np.fromfile(path, np.uint8)
    values[3] = 32
    values.tofile(path)


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    ("field", "damage", "message"),
    [
        ("points", truncate, "bytes; expected 20 for each point"),
        ("points", empty, "at least one point"),
        ("points", put_nan, "point 1 is .*nan.*; expected finite numbers"),
        ("points", remove, "no such file"),
        ("labels", truncate, r"labels; expected \d+, one for each point of .*\.pcd\.bin"),
        ("labels", put_unknown_id, "label id 32; expected 0 to 31"),
        ("labels", remove, "no such file"),
    ],
)
def test_damage_is_named_with_its_file(frame, field, damage, message):
    root, row = frame
    path = root / row[field]
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        load_frame(NuScenes(), root, row)
    assert str(error.value).startswith(f"{path}: ")


def test_an_incomplete_download_is_named_and_leaves_no_index(tiny_root, tmp_path):
    out = tmp_path / "index.parquet"
    with pytest.raises(InputError, match="nowhere: no such folder"):
        build(DatasetConfig(root=tmp_path / "nowhere"), out)
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    with pytest.raises(InputError, match=r"v1\.0-trainval: no such folder; versions found .*v1\.0-tiny"):
        build(DatasetConfig(root=root, version="v1.0-trainval"), out)
    (root / "v1.0-tiny" / "ego_pose.json").unlink()
    with pytest.raises(InputError, match=r"ego_pose\.json: no such file"):
        build(DatasetConfig(root=root, version="v1.0-tiny"), out)
    assert not out.exists()


def test_a_version_without_lidarseg_has_frames_without_labels(tiny_root, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    (root / "v1.0-tiny" / "lidarseg.json").unlink()
    index = build(DatasetConfig(root=root, version="v1.0-tiny"), tmp_path / "index.parquet")
    row = index.frames.iloc[0]
    assert load_frame(NuScenes(), root, row).labels is None
