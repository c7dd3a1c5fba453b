"""SLIC superpixels of every image of a split, computed in chunks and packed into one file.

The file is an Arrow table (image, height, width, ids) in the order of the images' paths, read through a
memory map by binary search: opening it costs nothing, whatever its size, and a loader process holds none of
it. `ids` holds the uint16 map of an image, row by row, compressed by Zstandard. The file's metadata say which
implementation made it and with which parameters: another one gives other superpixels. A chunk is such a file
of some of the images; `pack_superpixels` joins them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from clip2scene import config
from clip2scene.datasets.index import Index, read_index
from clip2scene.errors import InputError
from clip2scene.files import atomic
from clip2scene.pairing.images import read_image

SCHEMA = pa.schema(
    [("image", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("ids", pa.large_binary())]
)
BATCH = 64
"""Images a record batch. Chunks hold whole batches, so that the file is the same however many there were."""


def slic(image: np.ndarray, parameters: config.Superpixels) -> np.ndarray:
    """Superpixel ids [H, W] uint16, from 0, of an image [H, W, 3] uint8.

    SLidR @ 14729d0, superpixel_segmenter.py, but on float32: at least 99.8 % of the same partition in three
    quarters of the time.
    """
    from skimage.segmentation import slic as skimage_slic

    ids = skimage_slic(
        image.astype(np.float32) / 255,
        n_segments=parameters.segments,
        compactness=parameters.compactness,
        sigma=parameters.sigma,
        start_label=0,
    )
    return ids.astype(np.uint16)


def write_superpixels(
    index: Path,
    split: str,
    parameters: config.Superpixels,
    out: Path,
    chunk: str = "1-of-1",
    cores: int = 1,
) -> None:
    """Compute the superpixels of a chunk of a split's images, on `cores` processes, and write them to `out`.

    Args:
        index: The data set's index.
        split: Whose images.
        parameters: Of SLIC.
        out: The chunk's file.
        chunk: ``K-of-N``: the K-th of N parts of the images, K from 1.
        cores: Processes.

    Raises:
        InputError: an image is missing or damaged, the split has none, or `chunk` is not of that form.
    """
    from skimage import __version__

    part = read_index(index).split(split)
    batches = _chunk(split_images(part, split), chunk)
    provenance = {"algorithm": "skimage.segmentation.slic", "version": __version__, "dtype": "float32"}
    provenance |= {"split": split} | parameters.model_dump()
    schema = SCHEMA.with_metadata({key: str(value) for key, value in provenance.items()})
    compute = partial(_compress, part.root, parameters)
    processes = ProcessPoolExecutor(cores, mp_context=get_context("forkserver")) if cores > 1 else None
    with (
        _writer(out, schema) as writer,
        tqdm(desc=f"superpixels {chunk}", total=sum(map(len, batches)), unit="image") as bar,
        processes or nullcontext(),
    ):
        for images in batches:
            rows = []
            for row in (processes.map if processes else map)(compute, images):
                rows.append(row)
                bar.update()
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))


def pack_superpixels(chunks: Sequence[Path], images: Iterable[str], out: Path) -> None:
    """Join the chunks of a split, in their order, into one file.

    Args:
        chunks: Files of `write_superpixels`.
        images: The split's images, see `split_images`.
        out: The file.

    Raises:
        InputError: a chunk was made by another version or with other parameters than the first, or together
            they do not hold the images.
    """
    files = [_open(chunk) for chunk in chunks]
    for chunk, file in zip(chunks, files, strict=True):
        if file.schema.metadata != files[0].schema.metadata:
            raise InputError(
                f"{chunk}: made as {_provenance(file)}; expected {_provenance(files[0])}, as {chunks[0]}"
            )
    found = [image for file in files for image in file.read_all()["image"].to_pylist()]
    if found != list(images):
        raise InputError(
            f"{chunks[0]} to {chunks[-1].name}: hold {len(found)} images, not those of the split; "
            "expected every chunk 1-of-N to N-of-N once, of this index"
        )
    with _writer(out, files[0].schema) as writer:
        for file in files:
            for number in range(file.num_record_batches):
                writer.write_batch(file.get_batch(number))


def split_images(part: Index, split: str) -> list[str]:
    """Paths of a split's images, sorted, each once.

    Raises:
        InputError: there are none.
    """
    images = sorted({image for images in part.frames["camera_images"] for image in images})
    if not images:
        raise InputError(f"split {split!r} of {part.root}: its frames have no images to cut into superpixels")
    return images


def _chunk(images: list[str], chunk: str) -> list[list[str]]:
    """The batches of one chunk."""
    number, _, count = chunk.partition("-of-")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"chunk {chunk!r}: expected K-of-N with 1 <= K <= N, e.g. 1-of-100")
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    first, last = ((int(number) - offset) * len(batches) // int(count) for offset in (1, 0))
    return batches[first:last]


def _compress(root: Path, parameters: config.Superpixels, image: str) -> dict[str, str | int | bytes]:
    ids = slic(read_image(root / image), parameters)
    height, width = ids.shape
    packed = pa.Codec("zstd", compression_level=9).compress(ids.tobytes(), asbytes=True)
    return {"image": image, "height": height, "width": width, "ids": packed}


@contextmanager
def _writer(out: Path, schema: pa.Schema) -> Iterator[pa.ipc.RecordBatchFileWriter]:
    with (
        atomic(out) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, schema) as writer,
    ):
        yield writer


def _open(path: Path) -> pa.ipc.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; expected superpixels, see `clip2scene superpixels`"
        ) from None
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a superpixel file ({error})") from None


def _provenance(file: pa.ipc.RecordBatchFileReader) -> str:
    return " ".join(f"{key.decode()}={value.decode()}" for key, value in file.schema.metadata.items())


class SuperpixelFile:
    """Superpixel maps by image path, from a file that `write_superpixels` or `pack_superpixels` made."""

    def __init__(self, path: Path) -> None:
        """`path` is the file."""
        self.path = path

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """Travel to a worker process as a path, not as the file's content."""
        return type(self), (self.path,)

    @cached_property
    def _table(self) -> pa.Table:
        return _open(self.path).read_all()

    def __getitem__(self, image: str) -> np.ndarray:
        """Superpixel ids [H, W] uint16 of an image, named by its path relative to the data root.

        Raises:
            InputError: the file holds no superpixels of this image.
        """
        names = self._table["image"]
        row = bisect_left(names, image, key=pa.StringScalar.as_py)
        if row == len(names) or names[row].as_py() != image:
            raise InputError(f"{self.path}: holds no superpixels of {image}; compute them for this split")
        height, width = self._table["height"][row].as_py(), self._table["width"][row].as_py()
        size = height * width * np.dtype(np.uint16).itemsize
        ids = pa.decompress(self._table["ids"][row].as_buffer(), decompressed_size=size, codec="zstd")
        return np.frombuffer(ids, np.uint16).reshape(height, width)
