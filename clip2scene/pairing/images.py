"""Reading images, of colour and of depth."""

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clip2scene.errors import InputError
from clip2scene.files import open_part

Box = tuple[int, int, int, int]
"""Part of an image: top, left, height, width, pixels."""


def read_image(path: Path, size: tuple[int, int] | None = None, box: Box | None = None) -> np.ndarray:
    """An image [H, W, 3], uint8.

    Args:
        path: The image file, or a part of a file (`clip2scene.files.open_part`).
        size: Height and width to resize to, bilinear with antialiasing; None leaves the image as it is.
            A JPEG is decoded at half, a quarter or an eighth of its size where that is still fine enough.
        box: The part of the image to resize; None for all of it.

    Raises:
        InputError: the file is missing or is not a whole image.
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
    """A depth image [H, W], float32, metres; 0 where nothing was measured.

    Args:
        path: Millimetres in 16 bits: a PNG file, or a zlib stream in a ``.sens`` file.
        size: Expected height and width, pixels.

    Raises:
        InputError: the file is missing, is not a whole image, or has another size.
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
