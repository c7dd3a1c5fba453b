"""Reading images."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clip2scene.errors import InputError

Box = tuple[int, int, int, int]
"""Part of an image: top, left, height, width, pixels."""


def read_image(path: Path, size: tuple[int, int] | None = None, box: Box | None = None) -> np.ndarray:
    """An image [H, W, 3], uint8.

    Args:
        path: The image file.
        size: Height and width to resize to, bilinear with antialiasing; None leaves the image as it is.
            A JPEG is decoded at half, a quarter or an eighth of its size where that is still fine enough.
        box: The part of the image to resize; None for all of it.

    Raises:
        InputError: the file is missing or is not a whole image.
    """
    try:
        with Image.open(path) as image:
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
