"""Bad and odd images, superpixels, captions, indexes and subsets, and what must come out."""

import io
import json
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clip2scene.config import Config, Crop, Pretraining, Superpixels
from clip2scene.datasets.fractions import digest, read_subset, write_subset
from clip2scene.datasets.index import read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.errors import InputError
from clip2scene.pairing.images import read_depth, read_image
from clip2scene.pairing.samples import LabelledSamples, PretrainingSamples
from clip2scene.pairing.superpixels import SuperpixelFile, write_superpixels
from clip2scene.pairing.voxelise import unique
from clip2scene.training.teacher import read_captions

GREY = np.tile(np.arange(0, 240, 10, np.uint8)[:, None], (1, 32))
RGB = np.repeat(GREY[..., None], 3, axis=2)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(mode):
    return Image.fromarray(RGB).convert(mode)


GOOD = {
    "RGB": encoded(picture("RGB")),
    "RGBA": encoded(picture("RGBA")),
    "grey": encoded(picture("L")),
    "grey with alpha": encoded(picture("LA")),
    "palette": encoded(picture("L").convert("P")),
    "JPEG": encoded(picture("RGB"), "JPEG", quality=100),
    "grey JPEG": encoded(picture("L"), "JPEG", quality=100),
    "CMYK JPEG": encoded(picture("CMYK"), "JPEG", quality=100),
    "progressive JPEG": encoded(picture("RGB"), "JPEG", quality=100, progressive=True),
    "TIFF": encoded(picture("RGB"), "TIFF"),
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_images_of_other_kinds_are_the_same_colours(tmp_path, data):
    (path := tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_allclose(read_image(path).astype(int), RGB, atol=3)
    assert read_image(path, (12, 16), (0, 0, 24, 32), (24, 32)).shape == (12, 16, 3)


def png(width=32, height=24, depth=8, colour=2, data=None):
    """Return a PNG file chunk by chunk, with a header that may not fit its data."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(b"\0" * 2400) if data is None else data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def zeroed(data, start, length):
    return data[:start] + bytes(length) + data[start + length :]


BAD = {
    "empty": (b"", "not a whole image"),
    "text": (b"<html>404</html>", "not a whole image"),
    "cut": (GOOD["JPEG"][:-200], "not a whole image"),
    "a cut PNG": (GOOD["RGB"][:-40], "not a whole image"),
    "a header alone": (GOOD["JPEG"][:300], "not a whole image"),
    "a zeroed block": (zeroed(GOOD["RGB"], 33, 12), "not a whole image"),
    "a zeroed header": (zeroed(GOOD["RGB"], 8, 25), "not a whole image"),
    "a wrong stream": (png(data=b"nonsense"), "not a whole image"),
    "a bomb": (png(60000, 60000), "not a whole image .*exceeds limit"),
    "half a bomb": (png(10000, 10000), "not a whole image .*exceeds limit"),
    "no pixels": (png(0, 0), "not a whole image"),
    "16 bits of grey": (encoded(Image.fromarray(GREY.astype(np.uint16) * 257)), "expected 8 bits a channel"),
    "floats": (encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "expected 8 bits a channel"),
    "32 bits": (encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "expected 8 bits a channel"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_bad_images_are_named(tmp_path, data, message):
    (path := tmp_path / "a.jpg").write_bytes(data)
    for arguments in ((), ((12, 16),)):
        with pytest.raises(InputError, match=message) as error:
            read_image(path, *arguments)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda path: None, "no such file; expected an image"),
        (lambda path: path.mkdir(), "is a folder; expected an image"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links; expected an image"),
    ],
)
def test_what_is_no_file_is_named(tmp_path, place, message):
    place(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / "a.jpg")


def test_both_sizes_are_named_where_they_differ(tmp_path):
    (path := tmp_path / "a.jpg").write_bytes(GOOD["JPEG"])
    with pytest.raises(InputError, match=r"a\.jpg: image of 24 x 32 pixels; expected 48 x 64"):
        read_image(path, expected=(48, 64))


MILLIMETRES = (1000 + np.arange(768).reshape(24, 32)).astype(np.uint16)
DEPTHS = {
    "8 bits": (encoded(Image.fromarray(GREY)), "one channel of 16 bits"),
    "colour": (GOOD["RGB"], "one channel of 16 bits"),
    "another size": (encoded(Image.fromarray(MILLIMETRES[:12])), "depth of 12 x 32 pixels; expected 24 x 32"),
    "cut": (encoded(Image.fromarray(MILLIMETRES))[:-60], "not a whole depth image"),
    "a bomb": (png(60000, 60000, 16, 0), "not a whole depth image|expected 24 x 32"),
    "text": (b"<html>", "not a whole depth image of 24 x 32 pixels"),
    "empty": (b"", "not a whole depth image"),
    "a short stream": (zlib.compress(bytes(100)), "not a whole depth image"),
    "a long stream": (zlib.compress(bytes(10_000_000)), "not a whole depth image"),
    "a cut stream": (zlib.compress(MILLIMETRES.tobytes())[:-9], "not a whole depth image"),
}


@pytest.mark.parametrize(("data", "message"), DEPTHS.values(), ids=DEPTHS)
def test_bad_depth_is_named(tmp_path, data, message):
    (path := tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        read_depth(path, (24, 32))
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(MILLIMETRES)),
        zlib.compress(MILLIMETRES.tobytes()),
    ],
)
def test_depth_of_every_kind_is_the_same_depth(tmp_path, data):
    (path := tmp_path / "a.png").write_bytes(data)
    assert (read_depth(path, (24, 32)) == MILLIMETRES.astype(np.float32) / 1000).all()


# Files of results that stand between data sets and training.


@pytest.fixture
def index(tiny_index, tiny_root):
    return read_index(tiny_index, tiny_root)


def rows(change):
    """Return a mutation of an index's rows that leaves its schema as it is."""

    def write(path):
        table = pq.read_table(path)
        values = table.to_pylist()
        changed = change(values)
        pq.write_table(pa.Table.from_pylist(values if changed is None else changed, table.schema), path)

    return write


NAN = float("nan")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rows(lambda r: r * 2), "6 of its 12 rows name a keyframe again"),
        (
            rows(lambda r: r[1].update(sweep_poses=[NAN] * 16 * len(r[1]["sweep_points"]))),
            "sweep_poses holds numbers",
        ),
        (
            rows(lambda r: r[0].update(camera_sizes=r[0]["camera_sizes"][2:])),
            "camera_sizes holds 10 values; expected 12",
        ),
        (rows(lambda r: r[0].update(camera_poses=[])), "camera_poses holds 0 values; expected 96"),
        (rows(lambda r: r[0].update(camera_images=[])), "camera_images holds 0 values"),
        (
            rows(lambda r: r[0].update(depth_images=["a"], depth_sizes=[1, 1], depth_intrinsics=[1] * 9)),
            "1 depth images",
        ),
        (rows(lambda r: r[0].update(id=None)), "column id has 1 empty"),
        (rows(lambda r: r[0].update(points=None)), "column points has 1 empty"),
        (
            lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata(None), path),
            "not an index",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a Parquet file"),
        (
            lambda path: path.write_bytes(zeroed(path.read_bytes(), 200, 3000)),
            "not a Parquet file|holds|column|again",
        ),
        (lambda path: path.write_bytes(b""), "not a Parquet file"),
        (lambda path: [path.unlink(), path.mkdir()], "is a folder; expected an index"),
    ],
)
def test_bad_indexes_are_named(tiny_index, tmp_path, damage, message):
    shutil.copy(tiny_index, path := tmp_path / "index.parquet")
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        read_index(path, tmp_path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_an_index_that_its_run_did_not_write_is_refused(tiny_index, tmp_path, make_record):
    """Its rows are consistent: only the hash in run.json tells."""
    record = make_record(tmp_path / "abc", kind="index")
    record.begin(Config(datasets={"nuscenes": {"root": tmp_path}}), "cpu")
    path = Path(shutil.copy(tiny_index, tmp_path / "abc" / "index.parquet"))
    assert len(read_index(path, tmp_path)) == 6
    record.finish()
    assert len(read_index(path, tmp_path)) == 6
    rows(lambda r: r[:4])(path)
    with pytest.raises(InputError, match=r"abc/index\.parquet: its SHA-256 is not the one in run\.json"):
        read_index(path, tmp_path)


def subset(**changes):
    values = {"split": "train", "rule": "frame_skip", "percent": 50, "frames": 2, "ids": ["a", "b"]}
    values |= changes
    if "sha256" not in values:
        values["sha256"] = digest(values["ids"] or [])
    return json.dumps(values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (subset(ids=None), "ids: .*list"),
        (subset(ids=[]), "ids: "),
        (subset(ids=[1, 2]), "ids.0: .*string"),
        (subset(ids=["a", "a"]), "2 ids, of which 1 differ"),
        (subset(frames=3), "2 ids, of which 2 differ; expected 3"),
        (subset(sha256="0"), "its ids have the SHA-256"),
        (subset(sha256=None), "sha256: .*string"),
        (subset(percent=0), "percent: "),
        (subset(percent="half"), "percent: "),
        (subset(percent=10), "percent 10.0; expected 50"),
        (subset(rule="scene_skip"), "rule 'scene_skip'; expected 'frame_skip'"),
        (subset(split="val"), "split 'val'; expected 'train'"),
        ("[]", "not a label subset"),
        ("{", "damaged file"),
    ],
)
def test_bad_subsets_are_named(tmp_path, content, message):
    (path := tmp_path / "subset.json").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_subset(path, "train", "frame_skip", 50)
    assert str(error.value).startswith(f"{path}: ")


def test_a_good_subset_is_read(tmp_path):
    write_subset(path := tmp_path / "subset.json", ["a", "b"], "train", "all", 100)
    assert read_subset(path) == read_subset(path, "train", "all", 100) == ["a", "b"]


@pytest.fixture(scope="module")
def superpixels(tiny_index, tiny_root, tmp_path_factory):
    path = tmp_path_factory.mktemp("superpixels") / "superpixels.arrow"
    write_superpixels(read_index(tiny_index, tiny_root).split("val"), "val", Superpixels(segments=8), path)
    return path


def paint(file):
    return [file.map(name.as_py(), (48, 80)) for name in file._table["image"]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "not a superpixel file"),
        (lambda data: b"<html>", "not a superpixel file"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data[:-1], "cut short"),
        (lambda data: zeroed(data, len(data) - 200, 180), "not a superpixel file"),
        (lambda data: zeroed(data, len(data) // 2, 400), "not a superpixel file|holds no|pixels"),
        (None, "is a folder"),
    ],
)
def test_bad_superpixels_are_named(superpixels, tmp_path, damage, message):
    path = tmp_path / "superpixels.arrow"
    path.mkdir() if damage is None else path.write_bytes(damage(superpixels.read_bytes()))
    with pytest.raises(InputError, match=message) as error:
        paint(SuperpixelFile(path))
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_superpixels_of_another_size_and_table_are_named(superpixels, tmp_path):
    file = SuperpixelFile(superpixels)
    name = file._table["image"][0].as_py()
    with pytest.raises(InputError, match="in 48 x 80 pixels; expected 96 x 160, as the image has"):
        file.map(name, (96, 160))
    table = pa.table({"image": ["a"]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match="columns image; expected image, height, width, ids"):
        SuperpixelFile(tmp_path / "a.arrow")["a"]


CAPTIONS = {
    "image": ["a.jpg"],
    "x0": [0],
    "y0": [0],
    "x1": [9],
    "y1": [9],
    "caption": ["a car"],
    "name": ["car"],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption": [None]}, "row 0: caption is None; expected text"),
        ({"name": [5]}, "row 0: name is 5; expected text"),
        ({"x1": [0]}, "row 0: box .*expected pixels x0 < x1"),
        ({"y0": [NAN]}, "row 0: box"),
        ({"x0": ["left"]}, "row 0: box"),
        ({"x0": [-3]}, "row 0: box"),
        (None, "expected a table of captioned crops, found a damaged file"),
    ],
)
def test_bad_captions_are_named(tmp_path, change, message):
    path = tmp_path / "captions.parquet"
    pd.DataFrame(CAPTIONS | (change or {})).to_parquet(path)
    if change is None:
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=message) as error:
        read_captions(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


# What training sees.

SETTINGS = Pretraining(sweeps=1, crop=Crop(size=(32, 64), minimum_pairs=20))


@pytest.mark.parametrize("factor", [0.5, 2])
def test_an_image_of_another_size_is_refused_when_it_is_read(index, tmp_path, factor):
    shutil.copytree(index.root / "samples", tmp_path / "samples")
    path = tmp_path / index.frames["camera_images"].iloc[0][2]
    with Image.open(path) as image:
        image.resize((int(80 * factor), int(48 * factor))).save(path)
    moved = replace(index, root=tmp_path)
    with pytest.raises(InputError, match=rf"{path.name}: image of .* pixels; expected 48 x 80") as error:
        PretrainingSamples(NuScenes(), moved, SETTINGS, {"images"}, 0.1, False, 0)[0]
    assert str(path) in str(error.value)
    with pytest.raises(InputError, match="expected 48 x 80"):
        write_superpixels(moved, "train", Superpixels(segments=8), tmp_path / "superpixels.arrow")


@pytest.mark.parametrize(
    ("voxel_size", "message"),
    [(1e9, "lie in one voxel of 1e\\+09 m"), (1e-9, "expected fewer than 1073741824")],
)
def test_voxels_that_no_network_takes_name_the_frame(index, voxel_size, message):
    class Positive(NuScenes):
        def read_points(self, path):
            points, features = super().read_points(path)
            return np.abs(points), features

    with pytest.raises(InputError, match=rf"frame {index.ids[0]} of .*{message}"):
        LabelledSamples(Positive(), index, voxel_size, False, augment=False, seed=0)[0]


def test_points_far_away_are_voxels_of_their_own():
    """A million metres at 5 cm a voxel: a key of one number would leave int64."""
    coordinates = np.array([[0, 0, 0, 0], [0, 4e7, -4e7, 4e7], [0, 0, 0, 0], [9, 4e7, -4e7, 4e7]]).astype(
        np.int64
    )
    representative, inverse = unique(coordinates)
    assert representative.tolist() == [0, 1, 3]
    assert inverse.tolist() == [0, 1, 0, 2]
