"""Digests of keyframes by kind of data: each changes with what its readers see, and with nothing else."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clip2scene.config import DatasetConfig
from clip2scene.datasets.identity import KINDS, MARKER, keyframe_digests, split_digests
from clip2scene.datasets.index import Index, build, read_index
from clip2scene.datasets.parts import part
from clip2scene.files import read_json, sha256, write_json

ALL = list(KINDS)


@pytest.fixture
def download(tiny_root, tmp_path) -> Path:
    """Copy the tiny data set without its marker: what a downloaded data set looks like."""
    shutil.copytree(tiny_root, tmp_path / "data", ignore=shutil.ignore_patterns(MARKER))
    return tmp_path / "data"


@pytest.fixture
def synthetic(tiny_root, tmp_path) -> Path:
    """Copy the tiny data set with its marker."""
    return shutil.copytree(tiny_root, tmp_path / "data")


@pytest.fixture
def frames(tiny_index, tiny_root) -> pd.DataFrame:
    return read_index(tiny_index, tiny_root).frames


def changed(before: list[list[str]], after: list[list[str]]) -> dict[int, list[str]]:
    """Return the kinds of data whose digests differ, by the number of the keyframe."""
    found = {
        row: [kind for kind, a, b in zip(KINDS, old, new, strict=True) if a != b]
        for row, (old, new) in enumerate(zip(before, after, strict=True))
    }
    return {row: kinds for row, kinds in found.items() if kinds}


def index_of(root: Path, sweeps: int = 4) -> Index:
    return build(DatasetConfig(root=root, version="v1.0-tiny", sweeps=sweeps), root.parent / "index.parquet")


def resize(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def test_every_keyframe_has_a_digest_of_its_own_for_every_kind(frames, download):
    digests = keyframe_digests(frames, download)
    assert np.shape(digests) == (len(frames), len(KINDS))
    assert len(set(np.ravel(digests))) == len(frames) * len(KINDS)


def test_moving_the_root_or_linking_to_it_changes_nothing(download, tmp_path):
    here = index_of(download)
    file = (tmp_path / "index.parquet").read_bytes()
    (tmp_path / "link").symlink_to(download)
    assert index_of(tmp_path / "link").frames.equals(here.frames)
    assert (tmp_path / "index.parquet").read_bytes() == file
    moved = tmp_path / "disk" / "nuscenes"
    shutil.copytree(download, moved, copy_function=shutil.copyfile)  # with new times
    shutil.rmtree(download)
    assert index_of(moved).frames.equals(here.frames)
    assert (tmp_path / "disk" / "index.parquet").read_bytes() == file


def test_the_index_keeps_the_digests(download):
    index = index_of(download)
    kept = [list(row) for row in index.frames["identity"]]
    assert kept == keyframe_digests(index.frames, download)


@pytest.mark.parametrize(("column", "kind"), [("labels", "labels"), ("points", "points")])
def test_another_size_of_a_file_changes_its_kind_and_keyframe_alone(frames, download, column, kind):
    before = keyframe_digests(frames, download)
    last = len(frames) - 1  # no later keyframe has its scan among its sweeps
    resize(download / frames[column].iloc[last])
    assert changed(before, keyframe_digests(frames, download)) == {last: [kind]}


def test_another_size_of_an_image_or_a_sweep_changes_its_kind(frames, download):
    before = keyframe_digests(frames, download)
    resize(download / frames["camera_images"].iloc[1][2])
    assert changed(before, keyframe_digests(frames, download)) == {1: ["images"]}
    before = keyframe_digests(frames, download)
    sweep = next(path for path in frames["sweep_points"].iloc[1] if path.startswith("sweeps/"))
    resize(download / sweep)
    holders = [row for row, sweeps in enumerate(frames["sweep_points"]) if sweep in list(sweeps)]
    assert 1 in holders
    assert changed(before, keyframe_digests(frames, download)) == {row: ["sweeps"] for row in holders}


def test_new_labels_change_the_labels_of_their_split_alone(frames, download):
    before = split_digests(keyframe_digests(frames, download))
    resize(download / frames["labels"].iloc[0])
    after = split_digests(keyframe_digests(frames, download))
    assert list(before) == ALL
    assert {kind for kind in KINDS if before[kind] != after[kind]} == {"labels"}


def test_adding_sweeps_changes_the_sweeps_alone(download):
    few, many = index_of(download, sweeps=2), index_of(download, sweeps=4)
    different = changed(*([list(row) for row in index.frames["identity"]] for index in (few, many)))
    assert set(map(tuple, different.values())) == {("sweeps",)}
    before, after = (split_digests(index.frames["identity"]) for index in (few, many))
    assert {kind for kind in KINDS if before[kind] != after[kind]} == {"sweeps"}


def test_a_pose_changes_the_images(frames, download):
    poses = [np.array(row) for row in frames["camera_poses"]]
    poses[0] = poses[0] + np.eye(1, len(poses[0]))[0] * 1e-9
    turned = frames.assign(camera_poses=poses)
    before = keyframe_digests(frames, download)
    assert changed(before, keyframe_digests(turned, download)) == {0: ["images"]}


def test_a_missing_file_counts_as_missing(frames, download):
    before = keyframe_digests(frames, download)
    path = download / frames["labels"].iloc[0]
    kept = path.read_bytes()
    path.unlink()
    assert changed(before, keyframe_digests(frames, download)) == {0: ["labels"]}
    path.write_bytes(b"")  # an empty file is not a missing one
    empty = keyframe_digests(frames, download)
    path.unlink()
    assert changed(empty, keyframe_digests(frames, download)) == {0: ["labels"]}
    path.write_bytes(kept)
    assert keyframe_digests(frames, download) == before


def test_keyframes_that_are_added_leave_the_others_as_they_were(frames, download):
    assert keyframe_digests(frames, download)[:3] == keyframe_digests(frames.iloc[:3], download)


def test_content_of_equal_size_counts_where_the_marker_holds_its_hash(frames, synthetic):
    """Of a download, whose files nobody hashes, it does not."""
    label = frames["labels"].iloc[0]
    before = keyframe_digests(frames, synthetic)
    content = bytearray((synthetic / label).read_bytes())
    content[0] ^= 1
    (synthetic / label).write_bytes(content)
    marker = read_json(synthetic / MARKER)
    assert marker["files"][label] != sha256(synthetic / label)
    marker["files"][label] = sha256(synthetic / label)  # as `generate` would have written it
    write_json(synthetic / MARKER, marker)
    assert changed(before, keyframe_digests(frames, synthetic)) == {0: ["labels"]}

    (synthetic / MARKER).unlink()
    sizes = keyframe_digests(frames, synthetic)
    content[0] ^= 1
    (synthetic / label).write_bytes(content)
    assert keyframe_digests(frames, synthetic) == sizes


def test_a_part_of_a_file_counts_by_its_file(frames, tmp_path):
    """As ScanNet's images do, which lie in one recording a scan."""
    (tmp_path / "a.sens").write_bytes(bytes(100))
    first, second = ([part("a.sens", start, 10)] for start in (0, 10))
    one = frames.iloc[:1]
    digests = [keyframe_digests(one.assign(camera_images=[images]), tmp_path) for images in (first, second)]
    assert changed(*digests) == {0: ["images"]}
    resize(tmp_path / "a.sens")
    again = keyframe_digests(one.assign(camera_images=[first]), tmp_path)
    assert changed(digests[0], again) == {0: ["images"]}


def test_the_digest_of_a_split_holds_the_order_of_its_keyframes(frames, download):
    digests = keyframe_digests(frames, download)
    turned = split_digests(digests[::-1])
    assert all(turned[kind] != value for kind, value in split_digests(digests).items())
