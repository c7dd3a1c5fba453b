"""ScanNet files written byte by byte, and the errors for damaged ones."""

import hashlib
import io
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clip2scene.config import DatasetConfig
from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.scannet import NYU40_TO_CLASS, SPLIT_MD5, ScanNet, official_split
from clip2scene.datasets.sens import read_recording, write_recording
from clip2scene.errors import InputError
from clip2scene.pairing.images import read_depth, read_image
from clip2scene.pairing.projection import pair

COLOUR, DEPTH = (24, 32), (12, 16)
"""Heights and widths, pixels. As in ScanNet, sizes and intrinsics of colour and depth images differ."""
INTRINSICS = np.array([[20.0, 0, 15.5], [0, 20.0, 11.5], [0, 0, 1]])
DEPTH_INTRINSICS = np.array([[9.0, 0, 7.5], [0, 9.0, 5.5], [0, 0, 1]])
SCANS = {
    "scene0191_00": "scans",
    "scene0191_01": "scans",
    "scene0568_00": "scans",
    "scene0707_00": "scans_test",
}


def mesh(path, points, colours, labels=None):
    """Write a mesh in ScanNet's layout: vertices with colour, alpha and optionally label, then triangles."""
    kinds = ["float x", "float y", "float z", "uchar red", "uchar green", "uchar blue", "uchar alpha"]
    rows = [struct.pack("<3f4B", *point, *colour, 255) for point, colour in zip(points, colours, strict=True)]
    if labels is not None:
        kinds.append("ushort label")
        rows = [row + struct.pack("<H", label) for row, label in zip(rows, labels, strict=True)]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment VCGLIB generated",
        f"element vertex {len(rows)}",
    ]
    header += [f"property {kind}" for kind in kinds]
    header += ["element face 2", "property list uchar int vertex_indices", "end_header", ""]
    faces = struct.pack("<B3iB3i", 3, 0, 1, 2, 3, 1, 2, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(header).encode() + b"".join(rows) + faces)


def jpeg(value):
    stream = io.BytesIO()
    Image.fromarray(np.full((*COLOUR, 3), value, np.uint8)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def recording(path, images, depths, poses, version=4, codecs=(2, 1), shift=1000.0, sensor=b"test"):
    """Write a .sens file field by field, in the order of ScanNet's SensReader/python/SensorData.py."""
    data = struct.pack("I", version) + struct.pack("Q", len(sensor)) + sensor
    for intrinsics in (INTRINSICS, np.eye(3), DEPTH_INTRINSICS, np.eye(3)):
        matrix = np.eye(4, dtype=np.float32)
        matrix[:3, :3] = intrinsics
        data += matrix.tobytes()
    data += struct.pack("ii", *codecs) + struct.pack("IIII", *COLOUR[::-1], *DEPTH[::-1])
    data += struct.pack("f", shift) + struct.pack("Q", len(images))
    for stamp, (image, depth, pose) in enumerate(zip(images, depths, poses, strict=True)):
        packed = zlib.compress(depth.astype(np.uint16).tobytes())
        data += pose.astype(np.float32).tobytes() + struct.pack("QQQQ", stamp, stamp, len(image), len(packed))
        data += image + packed
    path.write_bytes(data + struct.pack("Q", 0))


LOST = np.full((4, 4), -np.inf)
POSE = np.eye(4)
POSE[:3, 3] = 1.0, 2.0, 0.5
LABELS = [1, 39, 40, 0, 28]
POINTS = np.array([[0, 0, 2], [0.3, 0.1, 2], [0, 0, 3], [0, 0, -2], [0.2, -0.2, 2.04]])
"""Points [5, 3] in the camera frame, metres: visible, visible, hidden behind the first, behind the camera,
and visible within the tolerance of 5 cm."""


@pytest.fixture
def root(tmp_path):
    """Write four scans (two of one train room, one val, one test) with images in both layouts."""
    for scan, folder in SCANS.items():
        files = tmp_path / folder / scan
        points, colours = POINTS + POSE[:3, 3], [(0, 51, 255)] * 5
        mesh(files / f"{scan}_vh_clean_2.ply", points, colours)
        if folder == "scans":
            mesh(files / f"{scan}_vh_clean_2.labels.ply", points, colours, LABELS)
        poses, depths = [POSE, LOST, POSE], [np.full(DEPTH, 2000 + number) for number in range(3)]
        recording(files / f"{scan}.sens", [jpeg(80 * number) for number in range(3)], depths, poses)
        frames = tmp_path / "scannet_frames_25k" / scan
        for kind in ("color", "depth", "pose"):
            (frames / kind).mkdir(parents=True)
        for number, (depth, pose) in enumerate(zip(depths, poses, strict=True)):
            (frames / "color" / f"{100 * number:06d}.jpg").write_bytes(jpeg(80 * number))
            Image.fromarray(depth.astype(np.uint16)).save(frames / "depth" / f"{100 * number:06d}.png")
            np.savetxt(frames / "pose" / f"{100 * number:06d}.txt", pose)
        for kind, intrinsics in (("color", INTRINSICS), ("depth", DEPTH_INTRINSICS)):
            matrix = np.eye(4)
            matrix[:3, :3] = intrinsics
            np.savetxt(frames / f"intrinsics_{kind}.txt", matrix)
    for split, scans in (("train", list(SCANS)[:2]), ("val", list(SCANS)[2:3]), ("test", list(SCANS)[3:])):
        (tmp_path / f"scannetv2_{split}.txt").write_text("\n".join(scans))
    return tmp_path


@pytest.fixture(params=["scannet_frames_25k", "scans"])
def index(request, root):
    """Build the index from either image layout; the frames are the same."""
    return build(DatasetConfig(format="scannet", root=root, version=request.param), root / "index.parquet")


def test_official_lists_are_those_behind_published_numbers():
    ids = {name: official_split(name) for name in SPLIT_MD5}
    assert {name: len(scans) for name, scans in ids.items()} == {"train": 1201, "val": 312, "test": 100}
    for name, scans in ids.items():
        assert hashlib.md5("\n".join(sorted(scans)).encode()).hexdigest() == SPLIT_MD5[name]
    assert len({scan for scans in ids.values() for scan in scans}) == 1613


def test_class_map_is_that_of_the_benchmark():
    """Compare with the ids in classes_SemVoxLabel-nyu40id.txt of ScanNet's repository."""
    names = dict(zip(ScanNet.classes, np.flatnonzero(NYU40_TO_CLASS).tolist(), strict=True))
    assert names["wall"] == 1
    assert names["desk"] == 14
    assert names["refrigerator"] == 24
    assert names["toilet"] == 33
    assert names["other furniture"] == 39
    assert NYU40_TO_CLASS[[0, 13, 15, 22, 38, 40]].tolist() == [0] * 6


def test_a_scan_is_a_frame(index):
    assert index.ids == list(SCANS)
    assert index.frames["scene"].tolist() == ["scene0191", "scene0191", "scene0568", "scene0707"]
    assert index.split("train").ids == list(SCANS)[:2]
    frame = load_frame(ScanNet(), index.root, index.frames.iloc[0])
    np.testing.assert_allclose(frame.points, POINTS + POSE[:3, 3], atol=1e-6)
    np.testing.assert_allclose(frame.features, [[-1, -0.6, 1]] * 5, atol=1e-6)
    assert frame.labels.tolist() == [1, 20, 0, 0, 16]
    assert load_frame(ScanNet(), index.root, index.frames.iloc[3]).labels is None


def test_cameras_are_the_frames_with_a_pose(index):
    frame = load_frame(ScanNet(), index.root, index.frames.iloc[0])
    assert len(frame.cameras) == 2
    for camera, grey, millimetres in zip(frame.cameras, (0, 160), (2000, 2002), strict=True):
        np.testing.assert_allclose(camera.intrinsics, INTRINSICS, rtol=1e-6)
        np.testing.assert_allclose(camera.depth.intrinsics, DEPTH_INTRINSICS, rtol=1e-6)
        np.testing.assert_allclose(camera.lidar_to_camera, np.linalg.inv(POSE), atol=1e-6)
        assert (camera.size, camera.depth.size) == (COLOUR, DEPTH)
        assert read_image(camera.image).shape == (*COLOUR, 3)
        assert (read_image(camera.image) == grey).all()
        assert (read_depth(camera.depth.image, DEPTH) == np.float32(millimetres) / 1000).all()


def test_pairs_are_checked_against_the_measured_depth(index):
    pairs = pair(load_frame(ScanNet(), index.root, index.frames.iloc[0]))
    first = pairs[pairs.image == 0]
    assert first.point.tolist() == [0, 1, 4]
    assert first.row.tolist() == [12, 12, 10]  # colour intrinsics: 11.5 + 20 y / z
    assert first.column.tolist() == [16, 18, 17]


def test_an_unmeasured_depth_shows_nothing(root):
    Image.fromarray(np.zeros(DEPTH, np.uint16)).save(
        root / "scannet_frames_25k" / "scene0191_00" / "depth" / "000000.png"
    )
    config = DatasetConfig(format="scannet", root=root, version="scannet_frames_25k")
    frame = load_frame(ScanNet(), root, build(config, root / "index.parquet").frames.iloc[0])
    assert set(pair(frame).image.tolist()) == {1}


def test_long_recordings_are_thinned_to_every_hundredth_frame(root):
    path, scan = root / "scans" / "scene0191_00" / "scene0191_00.sens", "scene0191_00"
    image, depth = jpeg(0), np.zeros(DEPTH)
    for frames, expected in ((1000, range(0, 1000, 100)), (40, range(0, 40, 5)), (5, range(5))):
        recording(path, [image] * frames, [depth] * frames, [POSE] * frames)
        index = build(DatasetConfig(format="scannet", root=root, version="scans"), root / "index.parquet")
        row = index.subset([scan]).frames.iloc[0]
        assert list(row.camera_names) == [f"{number:06d}" for number in expected]


def test_missing_scans_have_rows_and_are_named_when_read(root):
    """Index missing scans too, as nuScenes' tables do; `clip2scene check-data` counts them."""
    config = DatasetConfig(format="scannet", root=root, version="scans")
    shutil.rmtree(root / "scans" / "scene0191_01")
    row = build(config, root / "index.parquet").subset(["scene0191_01"]).frames.iloc[0]
    assert len(row.camera_names) == 0
    with pytest.raises(InputError, match=r"scene0191_01_vh_clean_2\.ply: no such file"):
        load_frame(ScanNet(), root, row)
    (root / "scannetv2_train.txt").unlink()
    assert len(build(config, root / "index.parquet").split("train")) == 1201


def test_what_is_no_scannet_is_refused(root):
    config = DatasetConfig(format="scannet", root=root, version="v2")
    with pytest.raises(InputError, match="expected scannet_frames_25k or scans"):
        build(config, root / "index.parquet")
    shutil.rmtree(root / "scannet_frames_25k")
    for version in ("scannet_frames_25k", "scans"):
        with pytest.raises(InputError, match=f"{version}: no such folder"):
            build(config.model_copy(update={"version": version}), root / "index.parquet")
        shutil.rmtree(root / "scans", ignore_errors=True)
    assert not (root / "index.parquet").exists()


def test_the_test_split_may_be_absent(root):
    shutil.rmtree(root / "scans_test")
    index = build(DatasetConfig(format="scannet", root=root, version="scans"), root / "index.parquet")
    assert index.ids == list(SCANS)[:3]


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def ascii_format(path):
    path.write_bytes(path.read_bytes().replace(b"binary_little_endian", b"ascii"))


def without_colour(path):
    path.write_bytes(path.read_bytes().replace(b"red", b"rod"))


def no_ply(path):
    path.write_bytes(b"OFF\n")


@pytest.mark.parametrize(
    ("field", "damage", "message"),
    [
        ("points", cut, "holds [0-4] of 5 vertices"),
        ("points", ascii_format, "expected a binary little-endian PLY file"),
        ("points", without_colour, "have no property red"),
        ("points", no_ply, "expected a binary little-endian PLY file"),
        ("points", lambda path: mesh(path, POINTS * np.nan, [(0, 0, 0)] * 5), "vertex 0 is .*nan.*finite"),
        ("points", lambda path: path.unlink(), "no such file"),
        (
            "labels",
            lambda path: mesh(path, POINTS, [(0, 0, 0)] * 5, [41] * 5),
            "label id 41; expected 0 to 40",
        ),
        ("labels", lambda path: mesh(path, POINTS[:3], [(0, 0, 0)] * 3, [1] * 3), "3 labels; expected 5"),
    ],
)
def test_damaged_meshes_are_named(index, field, damage, message):
    row = index.frames.iloc[0]
    damage(index.root / row[field])
    with pytest.raises(InputError, match=message) as error:
        load_frame(ScanNet(), index.root, row)
    assert str(error.value).startswith(f"{index.root / row[field]}: ")


def test_damaged_recordings_are_named(tmp_path):
    path, frame = tmp_path / "a.sens", ([jpeg(0)], [np.zeros(DEPTH)], [POSE])
    for changes, message in (
        ({"version": 3}, r"a\.sens: a \.sens file of version 3"),
        ({"codecs": (2, 2)}, "codecs 2 and 2"),
        ({"shift": 5000.0}, "5000 depth units a metre"),
    ):
        recording(path, *frame, **changes)
        with pytest.raises(InputError, match=message):
            read_recording(path)
    recording(path, *frame)
    for length in (8, 200, 330, path.stat().st_size - 20):
        whole = path.read_bytes()
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.sens: truncated"):
            read_recording(path)
        path.write_bytes(whole)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.sens: no such file"):
        read_recording(path)


def test_recordings_are_written_as_the_official_reader_reads_them(tmp_path):
    frames = [jpeg(0), jpeg(90)], [np.full(DEPTH, 1), np.full(DEPTH, 65535)], [POSE, LOST]
    recording(tmp_path / "theirs.sens", *frames, sensor=b"StructureSensor")
    write_recording(tmp_path / "ours.sens", *frames, COLOUR, (INTRINSICS, DEPTH_INTRINSICS))
    assert (tmp_path / "ours.sens").read_bytes() == (tmp_path / "theirs.sens").read_bytes()


def test_damaged_depth_is_named(index):
    row = index.frames.iloc[0]
    (camera, _) = load_frame(ScanNet(), index.root, row).cameras
    with pytest.raises(InputError, match="12 x 17"):
        read_depth(camera.depth.image, (12, 17))
    with pytest.raises(InputError, match="no such file; expected a depth image"):
        read_depth(index.root / "gone.png", DEPTH)
    (index.root / "bad.png").write_bytes(b"\x89PNG...")
    with pytest.raises(InputError, match=r"bad\.png: not a whole depth image"):
        read_depth(index.root / "bad.png", DEPTH)
