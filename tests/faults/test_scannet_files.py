"""Bad and odd meshes, recordings, images and split lists of ScanNet, and what must come out."""

import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clip2scene.config import Pretraining
from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.ply import read_vertices, write_vertices
from clip2scene.datasets.scannet import ScanNet
from clip2scene.datasets.sens import read_recording, write_recording
from clip2scene.errors import InputError
from clip2scene.pairing.plausibility import look
from clip2scene.pairing.samples import PretrainingSamples

SCANS = ("scene9000_00", "scene9001_00", "scene9002_00")


@pytest.fixture
def data(tiny_rooms, tmp_path):
    """Return the section of a copy that a test may damage."""
    root = shutil.copytree(tiny_rooms.root, tmp_path / "rooms")
    (root / "synthetic.json").unlink()
    return tiny_rooms.model_copy(update={"root": root})


def index_of(data, told=None):
    return build(data, data.root / "index.parquet", (told if told is not None else []).append)


PLACE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 2]])


def mesh(path, colour="u1", colours=(0, 51, 255), label=None, labels=(1, 2, 0), places=PLACE):
    """Write a PLY file whose colours and labels have any type, which `write_vertices` does not do."""
    kinds = [(name, "<f4") for name in "xyz"] + [(name, colour) for name in ("red", "green", "blue")]
    kinds += [("label", label)] if label else []
    vertices = np.zeros(3, kinds)
    for axis, name in enumerate("xyz"):
        vertices[name] = places[:, axis]
    for name, value in zip(("red", "green", "blue"), colours, strict=True):
        vertices[name] = value
    if label:
        vertices["label"] = labels
    write_vertices(path, vertices)
    return path


@pytest.mark.parametrize(
    ("kind", "colours"),
    [
        ("u1", (0, 51, 255)),
        ("<f4", (0, 0.2, 1)),
        ("<f4", (0, 51, 255)),
        ("<u2", (0, 51 * 257, 65535)),
        ("<i4", (0, 51, 255)),
    ],
)
def test_colours_of_every_type_are_the_same_colours(tmp_path, kind, colours):
    _, features = ScanNet().read_points(mesh(tmp_path / "a.ply", kind, colours))
    np.testing.assert_allclose(features, [[-1, -0.6, 1]] * 3, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "colours", "message"),
    [
        ("<f4", (0, -1, 1), "colours of -1 to 1; expected 0 to 255"),
        ("<f4", (0, 0, 999), "colours of 0 to 999; expected 0 to 255, or 0 to 1"),
        ("<f4", (0, np.nan, 1), "colours of nan"),
        ("i1", (0, -3, 1), "colours of -3"),
    ],
)
def test_colours_that_cannot_be_are_refused(tmp_path, kind, colours, message):
    with pytest.raises(InputError, match=message):
        ScanNet().read_points(mesh(tmp_path / "a.ply", kind, colours))


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        ("<u2", (1, 50, 149), [1, 0, 0]),  # scene0270_00, scene0270_02 and scene0384_00
        ("<u2", (39, 40, 13), [20, 0, 0]),
        ("<i4", (1, 50, 0), [1, 0, 0]),
        ("<f4", (1, 39, 50), [1, 20, 0]),
    ],
)
def test_labels_of_every_type_are_the_same_classes(tmp_path, kind, labels, expected):
    assert ScanNet().read_labels(mesh(tmp_path / "a.ply", label=kind, labels=labels)).tolist() == expected


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("<i4", (1, -2, 0), "label id -2; expected 0 to 40"),
        ("<i2", (1, -1, 50), "label id -1"),
        ("<u2", (1, 41, 50), "label id 41"),
        ("<u2", (1, 255, 0), "label id 255"),
        ("<f4", (1, 1.5, 0), "numbers with fractions"),
        ("<f4", (1, np.nan, 0), "numbers with fractions"),
    ],
)
def test_labels_that_cannot_be_are_refused(tmp_path, kind, labels, message):
    with pytest.raises(InputError, match=message):
        ScanNet().read_labels(mesh(tmp_path / "a.ply", label=kind, labels=labels))


def header(old, new):
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (header(b"float y", b"float x"), "property x twice"),
        (header(b"vertex 3", b"vertex 30"), "holds 3 of 30 vertices"),
        (header(b"vertex 3", b"vertex 999999999999999999"), "holds 3 of 9+ vertices"),
        (header(b"vertex 3", b"vertex 0"), "holds 0 of 0 vertices"),
        (header(b"vertex 3", b"vertex -3"), "expected a binary little-endian PLY file"),
        (header(b"little", b"big"), "expected a binary little-endian PLY file"),
        (header(b"binary_little_endian", b"ascii"), "expected a binary little-endian PLY file"),
        (header(b"float z", b"quad z"), "of type quad"),
        (header(b"float z", b"float w"), "no property z"),
        (header(b"property float z", b"property list uchar float z"), "all of whose properties are numbers"),
        (header(b"end_header", b"end"), "expected a binary little-endian PLY file"),
        (lambda path: path.write_bytes(b""), "expected a binary little-endian PLY file"),
        (lambda path: [path.unlink(), path.mkdir()], "is a folder"),
        (lambda path: mesh(path, places=PLACE * np.float32(1e20)), "vertex 1 is at .*no more than 1e\\+06 m"),
        (lambda path: mesh(path, places=PLACE * 0), "all 3 points are at"),
        (lambda path: mesh(path, places=PLACE * np.nan), "vertex 0 is .*finite"),
    ],
)
def test_bad_meshes_are_named(tmp_path, damage, message):
    damage(path := mesh(tmp_path / "a.ply"))
    with pytest.raises(InputError, match=message) as error:
        ScanNet().read_points(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        header(b"property float x", b"comment of mine \xe9\nproperty float x"),
        header(
            b"format binary_little_endian 1.0\n", b"format binary_little_endian 1.0\ncomment a\nobj_info b\n"
        ),
        lambda path: path.write_bytes(path.read_bytes().replace(b"\nproperty", b"\r\nproperty")),
    ],
)
def test_comments_and_line_ends_change_nothing(tmp_path, change):
    path = mesh(tmp_path / "a.ply")
    expected = read_vertices(path).tolist()
    change(path)
    assert read_vertices(path).tolist() == expected


def text(value):
    return lambda path: path.write_text(value)


ZERO, EYE = "0 0 0 0\n" * 4, "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
FOLDER = "scannet_frames_25k/scene9000_00"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (f"{FOLDER}/intrinsics_color.txt", text(ZERO), "focal lengths of 0 and 0"),
        (
            f"{FOLDER}/intrinsics_depth.txt",
            text(EYE.replace("0 1 0", "0 -1 0", 1)),
            "focal lengths of 1 and -1",
        ),
        (f"{FOLDER}/intrinsics_depth.txt", text("5 0 999 0\n0 5 9 0\n0 0 1 0\n0 0 0 1"), "principal point"),
        (f"{FOLDER}/intrinsics_color.txt", text("1 2 3"), "not a matrix of 4 x 4 numbers"),
        (f"{FOLDER}/intrinsics_color.txt", lambda path: path.unlink(), "no such file"),
        (f"{FOLDER}/pose/000000.txt", text(EYE.replace("1", "2", 1)), "pose is not rigid"),
        (f"{FOLDER}/pose/000000.txt", text(ZERO), "last row of the pose|not rigid"),
        (f"{FOLDER}/pose/000000.txt", text(EYE.replace("0 0 0 1", "0 0 1 1")), "last row of the pose"),
        (f"{FOLDER}/pose/000000.txt", text("here"), "not a matrix of 4 x 4 numbers"),
        (f"{FOLDER}/pose/000000.txt", lambda path: path.write_bytes(b"\xff\xfe"), "found a damaged file"),
        (f"{FOLDER}/color/000000.jpg", text("<html>"), "not a whole image"),
        ("scannetv2_train.txt", text("scene9999_00"), "names 'scene9999_00' .1 of 1 such names"),
        ("scannetv2_train.txt", text("../../x"), "names '../../x'"),
        ("scannetv2_train.txt", lambda path: path.write_bytes(b"\xff\xfe"), "found a damaged file"),
        ("scannetv2_train.txt", text("scene9000_00 scene9002_00"), "scannetv2_val.txt"),
        ("scannetv2_train.txt", lambda path: [path.unlink(), path.mkdir()], "is a folder"),
    ],
)
def test_bad_files_are_named_when_the_index_is_built(data, name, damage, message):
    path = data.root / name
    if not path.exists():
        path = min(path.parent.iterdir())
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        index_of(data)
    assert "\n" not in str(error.value)
    assert str(data.root) in str(error.value)


def test_a_scan_in_both_lists_is_named(data):
    (data.root / "scannetv2_val.txt").write_text("scene9002_00\nscene9000_00\n")
    with pytest.raises(InputError, match=r"val\.txt: scan scene9000_00 is in scannetv2_train\.txt too"):
        index_of(data)


def test_lists_with_windows_line_ends_are_the_same_lists(data):
    path = data.root / "scannetv2_train.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert index_of(data).split("train").ids == list(SCANS[:2])


def test_a_missing_image_does_not_stop_the_index(data):
    image = min((data.root / FOLDER / "color").iterdir())
    image.unlink()
    row = index_of(data).frames.iloc[0]
    assert len(row.camera_images) == 3
    assert row.camera_images[0] == str(image.relative_to(data.root))


def test_scans_without_mesh_or_posed_images_are_counted(data, capsys):
    index_of(data)
    assert "listed scans" not in capsys.readouterr().err
    (data.root / "scans" / SCANS[0] / f"{SCANS[0]}_vh_clean_2.ply").unlink()
    shutil.rmtree(data.root / "scannet_frames_25k" / SCANS[1] / "pose")
    assert index_of(data).ids == list(SCANS)
    told = capsys.readouterr().err
    assert f"{data.root}: 1 of 3 listed scans have no mesh, the first is {SCANS[0]}" in told
    frames = data.root / "scannet_frames_25k"
    assert f"{frames}: 1 of 3 listed scans have no posed image, the first is {SCANS[1]}" in told


def blind(data, scan):
    """Empty every depth image of a scan."""
    for path in (data.root / "scannet_frames_25k" / scan / "depth").iterdir():
        Image.fromarray(np.zeros((36, 48), np.uint16)).save(path)


def samples(data, index):
    settings = Pretraining(**data.pretrain)
    return PretrainingSamples(ScanNet(), index, settings, {"images"}, data.voxel_size, False, 0)


def test_scans_without_any_depth_are_left_out_and_counted(data, capsys):
    blind(data, SCANS[0])
    found = samples(data, index_of(data).split("train"))
    assert found.index.ids == [SCANS[1]]
    assert "no depth image of 1 of 2 frames holds a measurement; they are left out" in capsys.readouterr().err
    assert len(found[0].pair_point) > 20
    blind(data, SCANS[1])
    with pytest.raises(InputError, match="no depth image of 2 of 2 frames .*expected depth in millimetres"):
        samples(data, index_of(data).split("train"))


def test_a_draw_of_images_without_depth_takes_others(data):
    for path in sorted((data.root / FOLDER / "depth").iterdir())[:2]:
        Image.fromarray(np.zeros((36, 48), np.uint16)).save(path)
    found = samples(data, index_of(data).split("train"))
    for found.epoch in range(6):
        assert len(found[0].pair_point) > 20


def test_depth_in_metres_and_meshes_turned_against_their_poses_are_odd(data):
    index = index_of(data)
    assert look(ScanNet(), index).odd == ()
    frames = index.frames.copy()
    frames["camera_poses"] = [
        (np.reshape(poses, (-1, 4, 4)) @ np.diag([-1.0, -1, 1, 1])).ravel()
        for poses in frames["camera_poses"]
    ]
    (line,) = look(ScanNet(), replace(index, frames=frames)).odd
    assert "points in view agree with the measured depth, usually about 85%" in line
    for path in data.root.glob("scannet_frames_25k/*/depth/*.png"):
        with Image.open(path) as image:
            values = np.asarray(image)
        Image.fromarray((values // 100).astype(np.uint16)).save(path)
    assert any("depth images have a median of e.g. 0.0" in line for line in look(ScanNet(), index).odd)


SIZE, DEPTH = (24, 32), (12, 16)
K = np.array([[20.0, 0, 15.5], [0, 20.0, 11.5], [0, 0, 1]])


@pytest.fixture
def recording(tmp_path):
    path, depth = tmp_path / "a.sens", np.arange(192).reshape(DEPTH)
    write_recording(path, [b"jpeg"] * 3, [depth] * 3, [np.eye(4)] * 3, SIZE, (K, K / [[2], [2], [1]]))
    return path


HEAD = 12 + 15 + 4 * 64  # bytes before codecs and sizes


def put(offset, form, value):
    """Return a mutation that overwrites a number of a recording."""

    def write(path):
        data = bytearray(path.read_bytes())
        struct.pack_into(form, data, offset, value)
        path.write_bytes(data)

    return write


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (put(0, "<I", 5), "version 5; expected 4"),
        (put(4, "<Q", 2**63 - 1), "truncated; the name of its sensor has 9223372036854775807 bytes"),
        (put(4, "<Q", 2**64 - 1), "truncated"),
        (put(HEAD, "<i", 0), "codecs 0 and 1"),
        (put(HEAD + 4, "<i", 7), "codecs 2 and 7"),
        (put(HEAD + 8, "<I", 4_000_000_000), "width of 4000000000 pixels"),
        (put(HEAD + 20, "<I", 0), "depth height of 0 pixels"),
        (put(HEAD + 24, "<f", 5000), "5000 depth units"),
        (put(HEAD + 28, "<Q", 0), "holds no frame"),
        (put(HEAD + 28, "<Q", 2**62), "truncated"),
        (put(HEAD + 28, "<Q", 2), "counts 2 frames, and more follow"),
        (put(HEAD + 36 + 64 + 16, "<Q", 2**63), "truncated in frame 0 of 3"),
        (put(HEAD + 36 + 64 + 16, "<Q", 0), "frame 0 of 3 is empty"),
        (lambda path: path.write_bytes(b""), "truncated"),
        (lambda path: [path.unlink(), path.mkdir()], "is a folder"),
    ],
)
def test_bad_recordings_are_named(recording, damage, message):
    damage(recording)
    with pytest.raises(InputError, match=message) as error:
        read_recording(recording)
    assert str(error.value).startswith(f"{recording}: ")


def test_a_frame_is_read_as_before(data):
    frame = load_frame(ScanNet(), data.root, index_of(data).frames.iloc[0])
    assert frame.features.dtype == np.float32
    assert frame.labels.max() <= 20
