"""Bad and odd tables, points and labels of nuScenes: what is done to a good file, and what must come out."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from clip2scene.config import DatasetConfig
from clip2scene.datasets.index import build, load_frame, read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.occupancy import NuScenesOccupancy
from clip2scene.errors import InputError

VERSION = "v1.0-tiny"


@pytest.fixture
def root(tiny_root, tmp_path):
    """Return a data root with the tables alone: an index opens no other file."""
    shutil.copytree(tiny_root / VERSION, tmp_path / VERSION)
    return tmp_path


def index_of(root, told=None):
    config = DatasetConfig(root=root, version=VERSION, sweeps=4)
    return build(config, root / "index.parquet", (told if told is not None else []).append)


def every(field, value, channel=None):
    """Return a mutation that sets a field of all records, or removes it where the value is None."""

    def change(records):
        for record in records:
            if channel is None or channel in record.get("filename", ""):
                record.pop(field) if value is None else record.update({field: value})

    return change


def first(field, value):
    """Return a mutation that sets a field of the first record, to a function of the records if it is one."""
    return lambda records: records[0].update({field: value(records) if callable(value) else value})


def cameras(value):
    """Return a mutation of the intrinsics of all cameras."""

    def change(records):
        for record in records:
            if record["camera_intrinsic"]:
                record["camera_intrinsic"] = value(record["camera_intrinsic"])

    return change


def to_a_camera(records):
    """Let the earlier record of each lidar record be one of a camera."""
    camera = next(record["token"] for record in records if "CAM" in record["filename"])
    every("prev", camera, "LIDAR_TOP")(records)


NAN = float("nan")
TABLES = [
    ("scene", lambda r: r.clear(), r"scene\.json: holds no scene"),
    ("scene", lambda r: r[1].update(name=r[0]["name"]), r"scene\.json: two scenes are named"),
    ("scene", every("name", 5), r"scene\.json: record \w+: name: .*string.*, found 5"),
    ("scene", every("name", None), r"scene\.json: record \w+: has no field name"),
    ("scene", every("first_sample_token", "x"), r"sample\.json: holds no token 'x', which scene"),
    ("scene", lambda r: r.append(dict(r[0])), r"scene\.json: token '\w+' comes twice"),
    ("scene", lambda r: r.append(7), r"scene\.json: record 3 has no token"),
    ("scene", every("token", None), r"scene\.json: record 0 has no token"),
    ("sample", every("timestamp", NAN), r"sample\.json: record \w+: timestamp: "),
    ("sample", every("timestamp", "soon"), r"sample\.json: record \w+: timestamp: .*found 'soon'"),
    ("sample", every("timestamp", 1), r"sample\.json: record \w+: timestamp 1 is not after 1"),
    (
        "sample",
        lambda r: [s.update(next=s["token"]) for s in r],
        r"sample\.json: record \w+ has the `next`.*leads back",
    ),
    ("sample", first("timestamp", -5), r"sample\.json: record \w+: timestamp: .*equal to 0, found -5"),
    (
        "sample",
        every("timestamp", 10**30),
        r"record \w+: timestamp: .*less than 9223372036854775808",
    ),
    ("sample", every("next", "gone"), r"sample\.json: holds no token 'gone', which record \w+ names"),
    ("sample", every("next", None), r"sample\.json: record \w+: has no field next"),
    ("sample", lambda r: r.clear(), r"sample\.json: holds no token"),
    ("sample_data", lambda r: r.clear(), r"sample_data\.json: holds no key frame of LIDAR_TOP for record"),
    (
        "sample_data",
        every("filename", "../../etc/passwd"),
        "filename: expected a path relative to the data root",
    ),
    ("sample_data", every("filename", "/etc/passwd"), "filename: expected a path relative to the data root"),
    (
        "sample_data",
        every("is_key_frame", None),
        "; expected a record with is_key_frame",
    ),
    ("sample_data", every("is_key_frame", "False"), "is_key_frame: expected true or false, found 'False'"),
    (
        "sample_data",
        to_a_camera,
        r"record \w+ of LIDAR_TOP has the `prev` \w+ of CAM_",
    ),
    ("sample_data", every("filename", 3), r"sample_data\.json: record \w+: filename: "),
    ("sample_data", every("ego_pose_token", "x"), r"ego_pose\.json: holds no token 'x', which record"),
    ("sample_data", every("calibrated_sensor_token", "x"), r"calibrated_sensor\.json: holds no token 'x'"),
    ("sample_data", every("height", "tall", "CAM"), r"sample_data\.json: record \w+: height: .*found 'tall'"),
    ("sample_data", every("height", 0, "CAM"), "height 0 and width 80; expected pixels of an image"),
    ("sample_data", every("width", -80, "CAM"), "expected pixels of an image"),
    (
        "sample_data",
        every("width", 40, "CAM"),
        "principal point in row .*expected it in the image of 48 x 40",
    ),
    (
        "sample_data",
        lambda r: [d.update(prev=d["token"]) for d in r],
        r"sample_data\.json: record \w+ of time \d+ has the `prev`",
    ),
    ("ego_pose", every("rotation", [0, 0, 0, 0]), r"ego_pose\.json: record \w+: rotation: .*norm 1"),
    ("ego_pose", every("rotation", [2, 0, 0, 0]), r"ego_pose\.json: record \w+: rotation: .*norm 1"),
    ("ego_pose", every("rotation", [1, 0, 0]), r"ego_pose\.json: record \w+: has no field rotation"),
    ("ego_pose", every("translation", [0, NAN, 0]), r"ego_pose\.json: record \w+: translation\.1: .*finite"),
    ("ego_pose", every("translation", "here"), r"ego_pose\.json: record \w+: translation"),
    ("calibrated_sensor", lambda r: r.clear(), r"calibrated_sensor\.json: holds no token"),
    ("calibrated_sensor", cameras(lambda _: []), "camera_intrinsic has 0 rows"),
    ("calibrated_sensor", cameras(lambda k: [[*row, 0] for row in k]), "camera_intrinsic has 3 rows of .4."),
    ("calibrated_sensor", cameras(lambda _: [[0] * 3] * 3), r"calibrated_sensor\.json: record \w+: .*focal"),
    ("calibrated_sensor", cameras(lambda k: [[-k[0][0], 0, k[0][2]], k[1], k[2]]), "focal lengths of -"),
    ("calibrated_sensor", cameras(lambda k: [[NAN, 0, 1], k[1], k[2]]), "camera_intrinsic.*finite"),
    (
        "calibrated_sensor",
        cameras(lambda k: [[2 * v for v in row] for row in k[:2]] + k[2:]),
        "principal point",
    ),
    ("calibrated_sensor", cameras(lambda k: k[::-1]), "focal lengths"),
    ("calibrated_sensor", every("sensor_token", "x"), r"sensor\.json: holds no token 'x'"),
    ("sensor", every("channel", None), r"sensor\.json: record \w+: has no field channel"),
    ("lidarseg", lambda r: r.clear(), r"lidarseg\.json: holds no record; expected one for each key frame"),
    ("lidarseg", every("filename", "../x"), "filename: expected a path relative"),
]


@pytest.mark.parametrize(("table", "change", "message"), TABLES)
def test_wrong_records_are_named_by_table_record_and_field(root, table, change, message):
    path = root / VERSION / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))
    refused(root, message)


def refused(root, message):
    with pytest.raises(InputError, match=message) as error:
        index_of(root)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(root))
    assert not (root / "index.parquet").exists()


@pytest.mark.parametrize("table", ["scene", "sample", "sample_data", "ego_pose", "sensor", "lidarseg"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found a damaged file"),
        (b"[{]", "found a damaged file"),
        (b"\xff\xfe[]", "found a damaged file"),
        (b"{}", "found dict; expected a list of records"),
        (b"<html>", "found a damaged file"),
        (None, "is a folder"),
    ],
)
def test_what_is_no_table_is_named(root, table, content, message):
    path = root / VERSION / f"{table}.json"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    refused(root, rf"{table}\.json: .*{message}")


ACCEPTED = [
    ("sample_data", every("height", "48", "CAM")),
    ("sample_data", every("height", 48.0, "CAM")),
    ("sample", every("note", {"of": "mine"})),
    ("calibrated_sensor", every("more", 1)),
]


@pytest.mark.parametrize(("table", "change"), ACCEPTED)
def test_what_means_the_same_is_read_the_same(root, tiny_index, tiny_root, table, change):
    path = root / VERSION / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(records).replace(", ", ",\r\n").encode())
    expected = read_index(tiny_index, tiny_root).frames.drop(columns="identity")
    assert index_of(root).frames.drop(columns="identity").equals(expected)


def test_tables_that_nothing_is_read_from_may_be_missing(root, tiny_index, tiny_root):
    for name in ("attribute", "category", "instance", "log", "map", "sample_annotation", "visibility"):
        (root / VERSION / f"{name}.json").unlink(missing_ok=True)
    assert index_of(root).ids == read_index(tiny_index, tiny_root).ids


def scenes(root):
    return [scene["name"] for scene in json.loads((root / VERSION / "scene.json").read_text())]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(train=["scene-nowhere"]), "split train names 'scene-nowhere' .1 of 1"),
        (lambda s: s.update(val=s["train"][:1]), "is in train and in val .1 such scenes"),
        (lambda s: s.update(train=[1, 2]), "split train holds 1; expected"),
        (lambda s: s.update(train="all"), "expected a mapping from the name of a split"),
        (lambda s: s.update(train=None), "expected a mapping from the name of a split"),
    ],
)
def test_wrong_splits_are_named(root, change, message):
    path = root / VERSION / "splits.json"
    splits = json.loads(path.read_text())
    change(splits)
    path.write_text(json.dumps(splits))
    refused(root, rf"splits\.json: .*{message}")


def test_names_of_scenes_with_line_ends_are_the_same_names(root, tiny_index, tiny_root):
    path = root / VERSION / "splits.json"
    splits = json.loads(path.read_text())
    path.write_text(json.dumps({name: [f"{scene}\r\n" for scene in names] for name, names in splits.items()}))
    expected = read_index(tiny_index, tiny_root).frames["splits"].map(list).tolist()
    assert index_of(root).frames["splits"].map(list).tolist() == expected


def test_oddities_are_counted_once_and_refuse_nothing(root, capsys):
    (root / VERSION / "splits.json").write_text(json.dumps({"train": scenes(root)[:1]}))
    table = root / VERSION / "calibrated_sensor.json"
    records = json.loads(table.read_text())
    cameras(lambda k: [[k[0][0], 0, 20], k[1], k[2]])(records)
    table.write_text(json.dumps(records))
    (root / VERSION / "lidarseg.json").unlink()
    told = []
    assert len(index_of(root, told)) == 6
    assert len(told) == 2
    assert "unusual intrinsics of 36 of 36 cameras" in told[0]
    assert "4 of 6 keyframes are in no split" in told[1]
    assert "has no lidarseg.json" in capsys.readouterr().err
    index_of(root, told := [])
    build(DatasetConfig(root=root, version=VERSION), root / "index.parquet")
    assert capsys.readouterr().err.count("unusual intrinsics") == 1


def test_all_scenes_with_a_fault_are_counted(root):
    path = root / VERSION / "sample.json"
    records = json.loads(path.read_text())
    every("timestamp", "x")(records)
    path.write_text(json.dumps(records))
    refused(root, r"and 2 more scenes with a fault")


@pytest.fixture
def files(tiny_index, tiny_root, tmp_path):
    """Return root and row of a keyframe whose points and labels may be damaged."""
    row = read_index(tiny_index, tiny_root).frames.iloc[0]
    for path in (row.points, row.labels):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_root / path, tmp_path / path)
    return tmp_path, row


def cloud(change):
    """Return a mutation of the values [N, 5] of a file of points."""

    def write(path):
        values = np.fromfile(path, np.float32).reshape(-1, 5)
        change(values)
        values.tofile(path)

    return write


def column(number, value):
    return cloud(lambda values: values.__setitem__((slice(None), number), value))


def folder(path: Path):
    path.unlink()
    path.mkdir()


def pipe(path: Path):
    path.unlink()
    os.mkfifo(path)


def loop(path: Path):
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("field", "damage", "message"),
    [
        ("points", cloud(lambda v: v.fill(0)), r"all \d+ points are at \[0.0, 0.0, 0.0\] m"),
        (
            "points",
            cloud(lambda v: v.__setitem__((3, 0), 1e9)),
            "point 3 is at .*expected no more than 1e\\+06 m",
        ),
        ("points", cloud(lambda v: v.__setitem__((3, 0), np.inf)), "point 3 is .*finite"),
        ("points", column(3, 4000), "intensity of 4000 to 4000; expected 0 to 255"),
        ("points", column(3, -7), "intensity of -7"),
        ("points", lambda path: path.write_bytes(path.read_bytes()[:20]), "all 1 points are at"),
        ("points", folder, "is a folder"),
        ("points", pipe, "is a pipe or a device; expected a file of 4 bytes a value"),
        ("points", loop, "Too many levels of symbolic links"),
        ("labels", folder, "is a folder"),
        ("labels", loop, "Too many levels of symbolic links"),
        ("labels", lambda path: path.write_bytes(b""), "0 labels; expected"),
        ("labels", lambda path: path.write_bytes(b"\xff" + path.read_bytes()[1:]), "label id 255"),
    ],
)
def test_bad_points_and_labels_are_named(files, field, damage, message):
    root, row = files
    damage(root / row[field])
    with pytest.raises(InputError, match=message) as error:
        load_frame(NuScenes(), root, row)
    assert str(error.value).startswith(f"{root / row[field]}: ")
    assert "\n" not in str(error.value)


def test_intensity_on_another_scale_is_fine_where_it_is_not_used(files):
    root, row = files
    column(3, 4000)(root / row.points)
    assert (load_frame(NuScenesOccupancy(), root, row).features == 1).all()
