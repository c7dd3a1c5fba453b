"""Image files: what a damaged one raises, and the size that a header gives."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from clip2scene.datasets.parts import open_part
from clip2scene.errors import InputError
from clip2scene.files import first_line, reading

DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, OverflowError, MemoryError,
    zlib.error, struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""Errors that Pillow raises for a damaged image."""

LARGEST = 89_478_485
"""Pixels above which an image counts as a decompression bomb: Pillow's limit, which nuscenes-devkit lifts."""


@contextmanager
def decoding(path: str | Path, expected: str) -> Iterator[None]:
    """Turn whatever goes wrong while an image is read into one line that names the file.

    Args:
        path: Image file, or a part of a file.
        expected: What it should be, e.g. ``image``.

    Raises:
        InputError: the file is missing, may not be read, or is damaged.
    """
    with reading(path, f"{'an' if expected[0] in 'aeiou' else 'a'} {expected}"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                yield
        except InputError:
            raise
        except (*DAMAGE, Image.DecompressionBombWarning) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's: the file cannot be read
            text = first_line(error).replace(", could be decompression bomb DOS attack.", "")
            text = text.partition(" <_io.")[0]  # Pillow's name of a part of a file
            raise InputError(f"{path}: not a whole {expected} ({text})") from None


def refuse_bomb(image: Image.Image) -> None:
    """Raise a ValueError if an image, of which only the header was read, has more than `LARGEST` pixels."""
    if image.width * image.height > LARGEST:
        raise ValueError(f"image of {image.height} x {image.width} pixels exceeds limit of {LARGEST}")


def image_size(path: Path) -> tuple[int, int]:
    """Return the height and width of an image in pixels, from its header alone.

    Raises:
        InputError: the file is missing or is not an image.
    """
    with decoding(path, "image"), open_part(path) as file, Image.open(file) as image:
        return image.size[::-1]
