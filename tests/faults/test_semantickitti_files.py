"""Bad and odd calibrations, poses, times, scans and labels of SemanticKITTI, and what must come out."""

import shutil

import numpy as np
import pytest

from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.occupancy import SemanticKITTIOccupancy
from clip2scene.datasets.semantickitti import SemanticKITTI
from clip2scene.errors import InputError


@pytest.fixture
def data(tiny_kitti, tmp_path):
    """Return the section of a copy that a test may damage."""
    shutil.copytree(tiny_kitti.root / "sequences", tmp_path / "sequences")
    return tiny_kitti.model_copy(update={"root": tmp_path})


@pytest.fixture(scope="module")
def good(tiny_kitti, tmp_path_factory):
    return build(tiny_kitti, tmp_path_factory.mktemp("index") / "index.parquet")


def lines(change):
    """Return a mutation of the lines of a text file."""

    def write(path):
        found = path.read_text().splitlines()
        path.write_text("".join(f"{line}\n" for line in change(found)))

    return write


def matrix(name, change):
    """Return a mutation of the matrix [3, 4] that a line of a calibration names."""

    def each(line):
        if not line.startswith(f"{name}:"):
            return line
        values = np.array(line.split()[1:], float).reshape(3, 4)
        changed = change(values)
        return f"{name}: " + " ".join(map(str, (values if changed is None else changed).ravel()))

    return lines(lambda found: [each(line) for line in found])


def pose(change):
    """Return a mutation of the second pose [3, 4] of a sequence."""

    def write(found):
        values = np.array(found[1].split(), float).reshape(3, 4)
        changed = change(values)
        return [found[0], " ".join(map(str, (values if changed is None else changed).ravel())), *found[2:]]

    return lines(write)


REFUSED = [
    ("calib.txt", matrix("Tr", lambda m: 0 * m), "calib.txt: Tr: pose is not rigid"),
    ("calib.txt", matrix("Tr", lambda m: 2 * m), "calib.txt: Tr: pose is not rigid"),
    ("calib.txt", matrix("Tr", lambda m: m * [[-1], [1], [1]]), "Tr: pose is not rigid.*determinant is -1"),
    ("calib.txt", matrix("Tr", lambda m: m * np.nan), "calib.txt: holds a number that is not finite"),
    ("calib.txt", matrix("P2", lambda m: 0 * m), "calib.txt: P2, for .*focal lengths of 0 and 0"),
    (
        "calib.txt",
        matrix("P2", lambda m: m * [[8], [8], [1]]),
        "principal point.*expected it in the image of 48 x 160",
    ),
    ("calib.txt", matrix("P2", lambda m: m * [[-1], [1], [1]]), "focal lengths of -"),
    ("calib.txt", lines(lambda found: [x.replace("P3", "P2") for x in found]), "calib.txt: has two lines P2"),
    ("calib.txt", lines(lambda found: [x.replace("Tr", "Rt") for x in found]), "calib.txt: has no line Tr"),
    (
        "calib.txt",
        lines(lambda found: [x.replace("P2:", "P2: 1") for x in found]),
        "found 13 values in a line",
    ),
    ("calib.txt", lines(lambda found: [x.replace("P2: ", "P2: x") for x in found]), "could not convert"),
    ("calib.txt", lambda path: path.write_bytes(b"\xff\xfe\x00"), "found a damaged file"),
    ("calib.txt", lambda path: path.write_bytes(b""), "has no line P2"),
    ("poses.txt", pose(lambda m: m * 1.01), "poses.txt: line 2: pose is not rigid"),
    ("poses.txt", pose(lambda m: m * 0), "poses.txt: line 2: pose is not rigid"),
    ("poses.txt", pose(lambda m: m + np.array([0, 0, 0, 1e9])), "poses.txt: line 2: pose is 1e\\+09 m away"),
    ("poses.txt", pose(lambda m: m + np.inf), "poses.txt: holds a number that is not finite"),
    ("poses.txt", lines(lambda found: [f"{line} 1" for line in found]), "found 13 values in a line"),
    ("poses.txt", lines(lambda found: ["garbage " * 12] * 3), "could not convert"),
    (
        "poses.txt",
        lines(lambda found: ["r t", *found]),
        "poses.txt: line 1: found 2 values in a line; expected",
    ),
    ("poses.txt", lambda path: path.write_bytes(b""), "0 lines; expected one for scan 000002"),
    (
        "times.txt",
        lines(lambda found: found[::-1]),
        "times.txt: scan 000001 is taken at .*expected times that rise",
    ),
    ("times.txt", lines(lambda found: ["1", "1", "1"]), "expected times that rise"),
    ("times.txt", lines(lambda found: ["nan", "1", "2"]), "not finite"),
    ("times.txt", lines(lambda found: ["0", "soon", "2"]), "could not convert"),
    ("times.txt", lambda path: [path.unlink(), path.mkdir()], "is a folder"),
    ("image_2/000000.png", lambda path: path.write_text("<html>"), "000000.png: not a whole image"),
    ("image_2/000000.png", lambda path: [path.unlink(), path.symlink_to(path)], "holds no|symbolic links"),
]


@pytest.mark.parametrize(("name", "damage", "message"), REFUSED)
def test_bad_files_of_a_sequence_are_named(data, name, damage, message):
    path = data.root / "sequences" / "00" / name
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        build(data, data.root / "index.parquet")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (data.root / "index.parquet").exists()


ACCEPTED = {
    "extra lines": ("calib.txt", lines(lambda found: ["P1_note: taken at noon", "", "S_00: 1 2", *found])),
    "a mark of the byte order": (
        "calib.txt",
        lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()),
    ),
    "CRLF": ("calib.txt", lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))),
    "blank lines": ("poses.txt", lines(lambda found: [*found, "", "  "])),
    "CRLF in poses": ("poses.txt", lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))),
    "tabs": ("poses.txt", lambda path: path.write_text(path.read_text().replace(" ", "\t"))),
    "a mark in times": ("times.txt", lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())),
    "more poses than scans": ("poses.txt", lines(lambda found: [*found, found[-1]])),
}


@pytest.mark.parametrize(("name", "change"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_means_the_same_is_read_the_same(data, good, name, change):
    change(data.root / "sequences" / "00" / name)
    index = build(data, data.root / "index.parquet")
    assert index.frames.drop(columns="identity").equals(good.frames.drop(columns="identity"))


def test_every_sequence_with_a_fault_is_counted(data):
    for name in ("00", "01", "08"):
        (data.root / "sequences" / name / "calib.txt").write_text("")
    with pytest.raises(InputError, match="00/calib.txt.*and 2 more sequences with a fault"):
        build(data, data.root / "index.parquet")


def test_sequences_without_scans_and_gaps_are_counted(data, capsys):
    sequences = data.root / "sequences"
    (sequences / "00" / "velodyne" / "000001.bin").unlink()
    shutil.rmtree(sequences / "01" / "velodyne")
    (sequences / "01" / "velodyne").mkdir()
    (sequences / "01" / "velodyne" / "0_copy.bin").write_bytes(b"")
    index = build(data, data.root / "index.parquet")
    assert index.ids == ["00/000000", "00/000002", *(f"08/{number:06d}" for number in range(3))]
    told = capsys.readouterr().err
    assert (
        f"warning: {sequences}/01: holds no scan in velodyne (1 such sequences); they are left out\n" in told
    )
    assert f"warning: {sequences}/00: lacks velodyne/000001.bin (1 such scans)" in told
    assert "/08" not in told


def test_a_leap_is_counted(data):
    pose(lambda m: m + np.array([0, 0, 0, 5000]))(data.root / "sequences" / "08" / "poses.txt")
    told = []
    build(data, data.root / "index.parquet", told.append)
    assert [line for line in told if "2 keyframes move by more than 100 m/s" in line]


def scan(change):
    def write(path):
        values = np.fromfile(path, np.float32).reshape(-1, 4)
        changed = change(values)
        (values if changed is None else np.float32(changed)).tofile(path)

    return write


def ids(change):
    def write(path):
        values = np.fromfile(path, np.uint32)
        change(values).astype(np.uint32).tofile(path)

    return write


@pytest.mark.parametrize(
    ("field", "damage", "message"),
    [
        ("points", scan(lambda v: v * [1, 1, 1, 255]), "remission of .* to 2.*; expected 0 to 1"),
        ("points", scan(lambda v: v - [0, 0, 0, 3]), "remission of -3"),
        ("points", scan(lambda v: v * 0), "points are at"),
        ("points", scan(lambda v: v * [1e9, 1, 1, 1]), "expected no more than 1e\\+06 m"),
        ("points", scan(lambda v: v * [1, np.nan, 1, 1]), "expected finite numbers"),
        ("points", lambda path: path.write_bytes(path.read_bytes()[:-3]), "expected a multiple of 4"),
        ("points", lambda path: path.write_bytes(b""), "at least one point"),
        ("labels", ids(lambda v: v[:-1]), "labels; expected"),
        ("labels", ids(lambda v: v * 0 + 12), "label id 12; expected one of 0, 1, 10"),
        ("labels", ids(lambda v: v * 0 + 65535), "label id 65535"),
        ("labels", lambda path: path.write_bytes(path.read_bytes()[:-2]), "expected a multiple of 4"),
        ("labels", lambda path: [path.unlink(), path.mkdir()], "is a folder"),
    ],
)
def test_bad_scans_and_labels_are_named(data, good, field, damage, message):
    row = good.frames.iloc[0]
    damage(data.root / row[field])
    with pytest.raises(InputError, match=message) as error:
        load_frame(SemanticKITTI(), data.root, row)
    assert str(error.value).startswith(f"{data.root / row[field]}: ")


def test_remission_on_another_scale_is_fine_where_it_is_not_used(data, good):
    row = good.frames.iloc[0]
    scan(lambda v: v * [1, 1, 1, 255])(data.root / row.points)
    assert (load_frame(SemanticKITTIOccupancy(), data.root, row).features == 1).all()
