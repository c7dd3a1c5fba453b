import numpy as np
import pyarrow as pa
import pytest
import skimage
from PIL import Image

from clip2scene.config import Superpixels
from clip2scene.datasets.index import read_index
from clip2scene.errors import InputError
from clip2scene.pairing.superpixels import SuperpixelFile, write_superpixels


@pytest.fixture(scope="module")
def file(tiny_index, tmp_path_factory):
    path = tmp_path_factory.mktemp("superpixels") / "superpixels.arrow"
    write_superpixels(tiny_index, "parametrize", Superpixels(segments=40), path, cores=2)
    return path


def test_superpixels_are_those_of_scikit_image(file, tiny_index):
    index = read_index(tiny_index).split("parametrize")
    image = index.frames.iloc[-1].camera_images[4]
    pixels = np.asarray(Image.open(index.root / image))
    expected = skimage.segmentation.slic(pixels, n_segments=40, compactness=6, sigma=3.0, start_label=0)
    assert (SuperpixelFile(file)[image] == expected).mean() > 0.99


def test_the_file_says_how_it_was_made(file):
    metadata = pa.ipc.open_file(file).schema.metadata
    assert metadata[b"version"].decode() == skimage.__version__
    assert metadata[b"segments"] == b"40"
    assert metadata[b"compactness"] == b"6.0"


def test_an_image_of_another_split_is_refused_by_name(file, tiny_index):
    image = read_index(tiny_index).split("val").frames.iloc[0].camera_images[0]
    with pytest.raises(InputError, match=image):
        SuperpixelFile(file)[image]


def test_one_process_writes_the_same_bytes_as_two(file, tiny_index, tmp_path):
    path = tmp_path / "superpixels.arrow"
    write_superpixels(tiny_index, "parametrize", Superpixels(segments=40), path, cores=1)
    assert path.read_bytes() == file.read_bytes()
