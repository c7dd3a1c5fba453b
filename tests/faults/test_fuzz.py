"""Damaged bytes of every kind of file from outside: each gives a valid result, or one line that names it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clip2scene.config import load_config
from clip2scene.config_training import Superpixels
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.scannet import ScanNet
from clip2scene.datasets.semantickitti import SemanticKITTI
from clip2scene.datasets.sens import read_recording, write_recording
from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import read_confusion, write_confusion
from clip2scene.models.weights import read_checkpoint, write_checkpoint
from clip2scene.pairing.images import read_depth, read_image
from clip2scene.pairing.superpixels import SuperpixelFile, split_images, write_superpixels
from clip2scene.run_files import read_log

BOUNDED = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@dataclass(frozen=True)
class Kind:
    """A whole file of a kind, and how it is read and looked at."""

    path: Path
    read: Callable[[Path], Any]


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for a file's bytes with up to three pieces overwritten, cut out or put in."""
    place = st.integers(0, len(whole) - 1)
    edit = st.tuples(
        st.sampled_from(["overwrite", "cut", "insert", "end"]), place, st.binary(min_size=1, max_size=9)
    )

    def apply(edits: list[tuple[str, int, bytes]]) -> bytes:
        data = bytearray(whole)
        for what, start, piece in edits:
            match what:
                case "overwrite":
                    data[start : start + len(piece)] = piece
                case "cut":
                    del data[start : start + 20 * len(piece)]
                case "insert":
                    data[start:start] = piece
                case "end":
                    del data[start:]
        return bytes(data)

    return st.lists(edit, min_size=1, max_size=3).map(apply)


def complaint(read: Callable[[], Any]) -> str:
    """Return the message of the InputError that a reader raises; empty if it raises none."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""


def recording(path: Path) -> None:
    found = read_recording(path)
    start, length = found.depth[0].tolist()
    read_depth(f"{path}#{start}+{length}", found.depth_size)


def scan(path: Path) -> None:
    points, features = NuScenes().read_points(path)
    assert np.isfinite(points).all()
    assert len(points) == len(features) > 0


def labels(reader: Callable[[Path], np.ndarray], classes: int) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        found = reader(path)
        assert found.min(initial=0) >= 0
        assert found.max(initial=0) <= classes

    return read


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, tiny_root, tiny_kitti, tiny_rooms, tiny_index) -> dict[str, Kind]:
    folder = tmp_path_factory.mktemp("fuzz")
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(image).save(folder / "a.jpg")
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(image[..., 0].astype(np.uint16) * 9).save(folder / "depth.png")
    write_checkpoint(folder / "a.pt", {"state_dict": {"weight": torch.zeros(3, 4)}, "epochs": 3})
    write_confusion(folder / "confusion.npz", ["a", "b"], {"all": np.ones((2, 4, 4), np.int64)})
    (folder / "metrics.jsonl").write_text("".join(f'{{"step": {n}, "loss": {n}.5}}\n' for n in range(9)))
    (folder / "config.yaml").write_text("datasets: {a: {root: data/a}}\npretrain: {epochs: 3}\nseed: 1\n")
    depth, intrinsics = np.arange(192).reshape(12, 16), np.array([[20, 0, 16], [0, 20, 12], [0, 0, 1]])
    write_recording(
        folder / "a.sens", [b"jpeg"] * 3, [depth] * 3, [np.eye(4)] * 3, (24, 32), (intrinsics, intrinsics)
    )
    index = read_index(tiny_index, tiny_root).split("train")
    write_superpixels(index, "train", Superpixels(segments=20), folder / "superpixels.arrow")
    name = split_images(index, "train")[0]

    def first(root: Path, pattern: str) -> Path:
        return min(root.rglob(pattern))

    def parquet(path: Path) -> None:
        found = read_index(path, tiny_root)
        load_frame(NuScenes(), tiny_root, found.frames.iloc[0])

    whole = {
        "jpg": (folder / "a.jpg", read_image),
        "png": (folder / "a.png", read_image),
        "depth": (folder / "depth.png", lambda path: read_depth(path, (24, 32))),
        "sens": (folder / "a.sens", recording),
        "mesh": (first(tiny_rooms.root, "*_vh_clean_2.ply"), ScanNet().read_points),
        "mesh labels": (first(tiny_rooms.root, "*.labels.ply"), labels(ScanNet().read_labels, 20)),
        "nuScenes points": (first(tiny_root / "samples", "*.pcd.bin"), scan),
        "nuScenes labels": (first(tiny_root / "lidarseg", "*.bin"), labels(NuScenes().read_labels, 16)),
        "KITTI points": (first(tiny_kitti.root, "velodyne/*.bin"), SemanticKITTI().read_points),
        "KITTI labels": (first(tiny_kitti.root, "*.label"), labels(SemanticKITTI().read_labels, 19)),
        "index": (tiny_index, parquet),
        "superpixels": (folder / "superpixels.arrow", lambda path: SuperpixelFile(path)[name]),
        "checkpoint": (folder / "a.pt", read_checkpoint),
        "confusion": (folder / "confusion.npz", lambda path: read_confusion(path, 3)),
        "log": (folder / "metrics.jsonl", read_log),
        "configuration": (folder / "config.yaml", load_config),
    }
    return {kind: Kind(*values) for kind, values in whole.items()}


@pytest.mark.parametrize(
    "kind",
    [
        "jpg", "png", "depth", "sens", "mesh", "mesh labels", "nuScenes points", "nuScenes labels",
        "KITTI points", "KITTI labels", "index", "superpixels", "checkpoint", "confusion", "log",
        "configuration",
    ],
)  # fmt: skip
def test_damage_ends_in_a_valid_result_or_in_one_line(kinds, tmp_path, kind):
    path, whole = tmp_path / kinds[kind].path.name, kinds[kind].path.read_bytes()
    path.write_bytes(whole)
    kinds[kind].read(path)

    @BOUNDED
    @given(damaged(whole))
    def check(data: bytes) -> None:
        path.unlink()  # what is mapped into memory keeps the old file
        path.write_bytes(data)
        message = complaint(lambda: kinds[kind].read(path))
        assert "\n" not in message
        # of an index, a path that it holds may be what is wrong
        assert not message or str(path) in message or kind == "index"

    check()


def test_damaged_tables_end_in_an_index_or_in_one_line(tiny_root, tmp_path):
    shutil.copytree(tiny_root, tmp_path / "data", copy_function=shutil.copy)
    root = tmp_path / "data"
    paths = sorted((root / "v1.0-tiny").glob("*.json"))

    @BOUNDED
    @given(st.data())
    def check(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(paths))
        whole = path.read_bytes()
        path.write_bytes(data.draw(damaged(whole)))
        message = complaint(lambda: NuScenes().build_index(root, "v1.0-tiny", 2))
        path.write_bytes(whole)
        assert "\n" not in message
        assert not message or str(root) in message

    check()
