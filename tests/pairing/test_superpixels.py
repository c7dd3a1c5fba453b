import numpy as np
import pyarrow as pa
import pytest
import skimage
from PIL import Image

from clip2scene.config import Superpixels
from clip2scene.datasets.index import read_index
from clip2scene.errors import InputError
from clip2scene.pairing.superpixels import (
    BATCH,
    SuperpixelFile,
    pack_superpixels,
    slic,
    split_images,
    write_superpixels,
)

PARAMETERS = Superpixels(segments=40)


def agreement(first, second):
    """Return the agreement of two partitions: the share of pixels in best-matching segments.

    Each segment of one partition is matched to the segment of the other that it overlaps most. The result is
    the smaller of the shares in both directions.
    """
    common = np.zeros((first.max() + 1, second.max() + 1), np.int64)
    np.add.at(common, (first.ravel(), second.ravel()), 1)
    return min(common.max(axis).sum() for axis in (0, 1)) / first.size


@pytest.fixture(scope="module")
def index(tiny_index, tiny_root):
    return read_index(tiny_index, tiny_root)


@pytest.fixture(scope="module")
def split(index):
    """Return the pre-training split of the index."""
    return index.split("parametrize")


@pytest.fixture(scope="module")
def file(split, tmp_path_factory):
    path = tmp_path_factory.mktemp("superpixels") / "superpixels.arrow"
    write_superpixels(split, "parametrize", PARAMETERS, path, cores=2)
    return path


def test_superpixels_are_those_of_scikit_image(file, split):
    for image in (split.frames.iloc[-1].camera_images[4], split.frames.iloc[0].camera_images[0]):
        pixels = np.asarray(Image.open(split.root / image))
        expected = skimage.segmentation.slic(pixels, n_segments=40, compactness=6, sigma=3.0, start_label=0)
        assert (SuperpixelFile(file)[image] == expected).mean() > 0.99


def test_the_partition_is_that_of_slidr_s_call_in_double_precision(shared_data):
    """Compare with double precision, where field.md found 99.80 to 99.97 % agreement on nuScenes images."""
    path = next((shared_data / "nuscenes_scene-0061").glob("*__CAM_FRONT__*.jpg"))
    pixels = np.asarray(Image.open(path))
    expected = skimage.segmentation.slic(pixels, n_segments=150, compactness=6, sigma=3.0, start_label=0)
    assert agreement(slic(pixels, Superpixels()).astype(np.int64), expected) >= 0.998


def test_the_file_says_how_it_was_made(file):
    metadata = pa.ipc.open_file(file).schema.metadata
    assert metadata[b"algorithm"] == b"skimage.segmentation.slic"
    assert metadata[b"version"].decode() == skimage.__version__
    assert metadata[b"dtype"] == b"float32"
    assert metadata[b"segments"] == b"40"
    assert metadata[b"compactness"] == b"6.0"


def test_an_image_of_another_split_is_refused_by_name(file, index):
    image = index.split("val").frames.iloc[0].camera_images[0]
    with pytest.raises(InputError, match=image):
        SuperpixelFile(file)[image]


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr("clip2scene.pairing.superpixels.BATCH", 5)


def pack(split, chunks, out):
    pack_superpixels(chunks, split_images(split, "parametrize"), out)


@pytest.mark.usefixtures("small_batches")
def test_however_they_are_scattered_the_bytes_are_the_same(split, tmp_path):
    """Write one chunk, two chunks, and more chunks than there are batches, so that some are empty."""
    written = []
    for count in (1, 2, 9):
        chunks = [tmp_path / f"{k}-of-{count}.arrow" for k in range(1, count + 1)]
        for chunk in chunks:
            write_superpixels(split, "parametrize", PARAMETERS, chunk, chunk.stem)
        pack(split, chunks, tmp_path / f"{count}.arrow")
        written.append((tmp_path / f"{count}.arrow").read_bytes())
    assert written[0] == written[1] == written[2]


def test_processes_and_packing_change_no_byte(file, split, tmp_path):
    assert BATCH >= 24
    write_superpixels(split, "parametrize", PARAMETERS, tmp_path / "one.arrow", cores=1)
    assert (tmp_path / "one.arrow").read_bytes() == file.read_bytes()
    pack(split, [file], tmp_path / "packed.arrow")
    assert (tmp_path / "packed.arrow").read_bytes() == file.read_bytes()


def test_chunks_that_do_not_belong_together_are_refused(file, split, tmp_path):
    other, out = tmp_path / "other.arrow", tmp_path / "packed.arrow"
    write_superpixels(split, "parametrize", Superpixels(segments=20), other, "2-of-2")
    with pytest.raises(InputError, match=r"other\.arrow: made as .*segments=20.*expected .*segments=40"):
        pack(split, [file, other], out)
    with pytest.raises(InputError, match="48 images, not those of the split"):
        pack(split, [file, file], out)
    with pytest.raises(InputError, match="'3-of-2': expected K-of-N"):
        write_superpixels(split, "parametrize", PARAMETERS, out, "3-of-2")
    assert not out.exists()
