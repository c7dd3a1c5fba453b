"""Readers of colour and depth images."""

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clip2scene.datasets.parts import open_part
from clip2scene.errors import InputError

Box = tuple[int, int, int, int]
"""Box in an image: top, left, height and width, pixels."""


def read_image(path: Path, size: tuple[int, int] | None = None, box: Box | None = None) -> np.ndarray:
    """Read an image.

    Args:
        path: Image file, or a part of a file (`clip2scene.datasets.parts.open_part`).
        size: Height and width to resize to, pixels, bilinear with antialiasing; None keeps the size. A JPEG
            is decoded at 1/2, 1/4 or 1/8 of its size if the crop is then still at least `size`.
        box: Crop to resize; None for the whole image. Ignored if `size` is None.

    Returns:
        [H, W, 3] uint8, RGB.

    Raises:
        InputError: the file is missing or is not a complete image.
    """
    try:
        with open_part(path) as file, Image.open(file) as image:
            if size is None:
                return np.asarray(image.convert("RGB"))
            width, height = image.size
            top, left, box_height, box_width = box or (0, 0, height, width)
            image.draft("RGB", (width * size[1] // box_width, height * size[0] // box_height))
            x, y = image.width / width, image.height / height
            part = (left * x, top * y, (left + box_width) * x, (top + box_height) * y)
            return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR, part))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an image") from None
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path}: not a whole image ({error})") from None


def read_depth(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a depth image.

    Args:
        path: PNG file, or zlib stream in a ``.sens`` file, of 16-bit depths in millimetres.
        size: Expected height and width, pixels.

    Returns:
        [H, W] float32, metres; 0 where nothing was measured.

    Raises:
        InputError: the file is missing, is not a complete image, or has another size.
    """
    try:
        with open_part(path) as file:
            data = file.read()
        if data.startswith(b"\x89PNG"):
            with Image.open(BytesIO(data)) as image:
                values = np.asarray(image)
        else:
            values = np.frombuffer(zlib.decompress(data), "<u2").reshape(size)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a depth image") from None
    except (zlib.error, ValueError, OSError) as error:
        raise InputError(
            f"{path}: not a whole depth image of {size[0]} x {size[1]} pixels ({error})"
        ) from None
    if values.shape != size:
        raise InputError(f"{path}: depth of {values.shape}; expected {size[0]} x {size[1]} pixels")
    return values.astype(np.float32) / 1000
