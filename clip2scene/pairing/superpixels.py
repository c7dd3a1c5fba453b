"""SLIC superpixels of every image of a split, computed in chunks and packed into one file.

The file is an Arrow table (image, height, width, ids) sorted by image path. It is memory-mapped and searched
by bisection, so opening it costs nothing at any size and a loader process holds none of it in memory. `ids`
is the uint16 map of an image in row-major order, compressed with Zstandard. The file's metadata record the
implementation and its parameters, since another implementation gives other superpixels. A chunk is such a
file for some of the images; `pack_superpixels` joins the chunks.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from clip2scene import config
from clip2scene.datasets.index import Index, read_index
from clip2scene.errors import InputError
from clip2scene.files import atomic, first_line, leftovers, reading
from clip2scene.machine import worker_pool
from clip2scene.pairing.images import read_image
from clip2scene.task import Task

SCHEMA = pa.schema(
    [("image", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("ids", pa.large_binary())]
)
_MAGIC = b"ARROW1"  # at the end of every Arrow file
PART = "[0-9]*-of-*.arrow"
"""Pattern of the names of parts."""
BATCH = 64
"""Images per record batch. Chunks hold whole batches, so the packed file does not depend on their number."""


def slic(image: np.ndarray, parameters: config.Superpixels) -> np.ndarray:
    """Segment an image [H, W, 3] uint8 into superpixels; returns ids [H, W] uint16, counted from 0.

    SLidR @ 14729d0, superpixel_segmenter.py, but in float32: at least 99.8 % of the pixels fall into the same
    partition, in three quarters of the time.
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


def compute(task: Task) -> None:
    """Segment the images of a run of the stage ``superpixels``: ``superpixels.arrow``, or one part of it.

    Parts lie in the folder ``parts`` of the run until all of them are there and are packed.

    Raises:
        InputError: an image is missing or damaged, the split has no images, or a part's name is malformed.
    """
    run, data = task.run, task.config.datasets[task.run.target]
    index = read_index(task.inputs["index"], data.root).split(data.pretrain_split)
    parameters = task.config.method(run.method).superpixels
    parts, out = task.record.folder / "parts", task.record.folder / "superpixels.arrow"
    if task.part:
        part = parts / f"{task.part}.arrow"
        if not part.exists():
            write_superpixels(index, data.pretrain_split, parameters, part, task.part, task.processes)
        return
    task.record.begin(task.config, "cpu")
    if chunks := complete(parts):
        pack_superpixels(chunks, split_images(index, data.pretrain_split), out)
    else:
        write_superpixels(index, data.pretrain_split, parameters, out, cores=task.processes)
    task.record.finish()
    for part in [*parts.glob(PART), *leftovers(parts)]:
        part.unlink()  # all of it is in the packed file


def complete(parts: Path) -> list[Path]:
    """Return the files ``1-of-N.arrow`` to ``N-of-N.arrow`` of a folder; nothing if one is missing."""
    counts = {int(path.stem.partition("-of-")[2]) for path in parts.glob(PART)}
    for count in sorted(counts):
        chunks = [parts / f"{number}-of-{count}.arrow" for number in range(1, count + 1)]
        if all(chunk.is_file() for chunk in chunks):
            return chunks
    return []


def write_superpixels(
    index: Index,
    split: str,
    parameters: config.Superpixels,
    out: Path,
    chunk: str = "1-of-1",
    cores: int = 1,
) -> None:
    """Segment one chunk of a split's images and write the superpixels to `out`.

    Args:
        index: The split's part of the data set's index.
        split: Name of the split.
        parameters: SLIC parameters.
        out: File to write.
        chunk: ``K-of-N``: the K-th of N parts of the images, K from 1.
        cores: Number of processes.

    Raises:
        InputError: an image is missing or damaged, the split has no images, or `chunk` is malformed.
    """
    from skimage import __version__

    batches = _chunk(split_images(index, split), chunk)
    provenance = {"algorithm": "skimage.segmentation.slic", "version": __version__, "dtype": "float32"}
    provenance |= {"split": split} | parameters.model_dump()
    schema = SCHEMA.with_metadata({key: str(value) for key, value in provenance.items()})
    segment = partial(_compress, index.root, parameters, image_sizes(index))
    processes = worker_pool(cores) if cores > 1 else None
    with (
        _writer(out, schema) as writer,
        tqdm(desc=f"superpixels {chunk}", total=sum(map(len, batches)), unit="image") as bar,
        processes or nullcontext(),
    ):
        for images in batches:
            rows = []
            for row in (processes.map if processes else map)(segment, images):
                rows.append(row)
                bar.update()
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))


def pack_superpixels(chunks: Sequence[Path], images: Iterable[str], out: Path) -> None:
    """Join the chunks of a split, in the given order, into one file.

    Args:
        chunks: Files written by `write_superpixels`.
        images: The split's images, see `split_images`.
        out: File to write.

    Raises:
        InputError: a chunk was made by another version or with other parameters than the first, or the
            chunks together do not hold exactly `images`.
    """
    files = [_open(chunk) for chunk in chunks]
    for chunk, file in zip(chunks, files, strict=True):
        if file.schema.metadata != files[0].schema.metadata:
            raise InputError(
                f"{chunk}: made as {_provenance(file)}; expected {_provenance(files[0])}, as {chunks[0]}"
            )
    found = []
    for chunk, file in zip(chunks, files, strict=True):
        with _decoding(chunk):
            found += file.read_all()["image"].to_pylist()
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
    """Return the sorted, unique image paths of a split.

    Raises:
        InputError: the split has no images.
    """
    images = sorted({image for images in part.frames["camera_images"] for image in images})
    if not images:
        raise InputError(f"split {split!r} of {part.root}: its frames have no images to cut into superpixels")
    return images


def _chunk(images: list[str], chunk: str) -> list[list[str]]:
    """Return the record batches (lists of images) of one chunk."""
    number, _, count = chunk.partition("-of-")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"chunk {chunk!r}: expected K-of-N with 1 <= K <= N, e.g. 1-of-100")
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    first, last = ((int(number) - offset) * len(batches) // int(count) for offset in (1, 0))
    return batches[first:last]


def image_sizes(part: Index) -> dict[str, tuple[int, int]]:
    """Return the height and width, pixels, that the index gives for every image."""
    images = part.frames["camera_images"].explode().dropna()
    sizes = np.concatenate([np.empty(0, np.int64), *part.frames["camera_sizes"]]).reshape(-1, 2)
    return dict(zip(images, map(tuple, sizes.astype(int).tolist()), strict=True))


def _compress(
    root: Path, parameters: config.Superpixels, sizes: dict[str, tuple[int, int]], image: str
) -> dict[str, str | int | bytes]:
    ids = slic(read_image(root / image, expected=sizes[image]), parameters)
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


DAMAGE = (pa.ArrowException, OSError, ValueError, EOFError, OverflowError, KeyError, MemoryError)
"""Errors that Arrow raises for a damaged file."""


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn an error that Arrow raises for a damaged file into one line."""
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path}: not a superpixel file ({first_line(error)}); compute it again") from None


def _open(path: Path) -> pa.ipc.RecordBatchFileReader:
    with reading(path, "superpixels, see `clip2scene superpixels`"):
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - len(_MAGIC)))
            whole = file.read() == _MAGIC
        if not whole:
            raise InputError(f"{path}: not a superpixel file, or cut short; compute it again")
        with _decoding(path):
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            if not reader.schema.equals(SCHEMA) or reader.schema.metadata is None:
                found = ", ".join(reader.schema.names)
                raise InputError(
                    f"{path}: columns {found}; expected {', '.join(SCHEMA.names)} and their origin"
                )
            return reader


def _provenance(file: pa.ipc.RecordBatchFileReader) -> str:
    return " ".join(f"{key.decode()}={value.decode()}" for key, value in file.schema.metadata.items())


class SuperpixelFile:
    """Superpixel maps by image path, read from a file of `write_superpixels` or `pack_superpixels`."""

    def __init__(self, path: Path) -> None:
        """Store the path; the file is opened on first use."""
        self.path = path

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """Pickle the path only, not the table, for loader processes."""
        return type(self), (self.path,)

    @cached_property
    def _table(self) -> pa.Table:
        with _decoding(self.path):
            table = _open(self.path).read_all()
            table.validate(full=True)  # Arrow reads outside its memory where offsets are wrong
        if any(column.null_count for column in table.columns):
            raise InputError(f"{self.path}: has empty values; expected none; compute it again")
        return table

    def map(self, image: str, expected: tuple[int, int] | None = None) -> np.ndarray:
        """Return the superpixel ids [H, W] uint16 of an image.

        Args:
            image: Its path relative to the data root.
            expected: Height and width that the map must have, pixels; None for any.

        Raises:
            InputError: the file holds no superpixels of this image, is damaged, or has them in another size.
        """
        names = self._table["image"]
        row = bisect_left(names, image, key=pa.StringScalar.as_py)
        if row == len(names) or names[row].as_py() != image:
            raise InputError(f"{self.path}: holds no superpixels of {image}; compute them for this split")
        height, width = self._table["height"][row].as_py(), self._table["width"][row].as_py()
        if expected is not None and (height, width) != tuple(expected):
            found = f"superpixels of {image} in {height} x {width} pixels"
            raise InputError(
                f"{self.path}: {found}; expected {expected[0]} x {expected[1]}, as the image has"
            )
        size = height * width * np.dtype(np.uint16).itemsize
        with _decoding(self.path):
            ids = pa.decompress(self._table["ids"][row].as_buffer(), decompressed_size=size, codec="zstd")
            return np.frombuffer(ids, np.uint16).reshape(height, width)

    def __getitem__(self, image: str) -> np.ndarray:
        """Return the superpixel ids [H, W] uint16 of an image; see `map`."""
        return self.map(image)
