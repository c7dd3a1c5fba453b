"""Readers of colour and depth images."""

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from clip2scene.datasets.parts import open_part
from clip2scene.datasets.pictures import decoding, refuse_bomb
from clip2scene.errors import InputError

Box = tuple[int, int, int, int]
"""Box in an image: top, left, height and width, pixels."""


WIDE = ("I", "F")
"""Modes, and starts of modes, of images with one channel of 16 bits or more, which RGB would cut off."""


def read_image(
    path: Path,
    size: tuple[int, int] | None = None,
    box: Box | None = None,
    expected: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read an image; grey, palette and CMYK images become RGB, and transparency is dropped.

    Args:
        path: Image file, or a part of a file (`clip2scene.datasets.parts.open_part`).
        size: Height and width to resize to, pixels, bilinear with antialiasing; None keeps the size. A JPEG
            is decoded at 1/2, 1/4 or 1/8 of its size if the crop is then still at least `size`.
        box: Crop to resize; None for the whole image. Ignored if `size` is None.
        expected: Height and width that the image must have, pixels; None for any.

    Returns:
        [H, W, 3] uint8, RGB.

    Raises:
        InputError: the file is missing, is not a complete image, has another size, or has a channel of 16
            bits.
    """
    with decoding(path, "image"), open_part(path) as file, Image.open(file) as image:
        width, height = image.size
        if expected is not None and (height, width) != tuple(expected):
            found = f"image of {height} x {width} pixels"
            raise InputError(f"{path}: {found}; expected {expected[0]} x {expected[1]} (height x width)")
        refuse_bomb(image)
        if image.mode.startswith(WIDE):
            raise InputError(f"{path}: image with a channel of {image.mode}; expected 8 bits a channel")
        if size is None:
            return np.asarray(image.convert("RGB"))
        top, left, box_height, box_width = box or (0, 0, height, width)
        image.draft("RGB", (width * size[1] // box_width, height * size[0] // box_height))
        x, y = image.width / width, image.height / height
        part = (left * x, top * y, (left + box_width) * x, (top + box_height) * y)
        return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR, part))


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
    expected = f"{size[0]} x {size[1]} pixels"
    with decoding(path, f"depth image of {expected}"):
        with open_part(path) as file:
            data = file.read()
        if data.startswith(b"\x89PNG"):
            with Image.open(BytesIO(data)) as image:
                if (found := image.size[::-1]) != tuple(size):
                    raise InputError(f"{path}: depth of {found[0]} x {found[1]} pixels; expected {expected}")
                values = np.asarray(image)
        else:
            stream = zlib.decompressobj()
            values = stream.decompress(data, 2 * size[0] * size[1] + 1)  # no more, whatever the stream says
            if len(values) > 2 * size[0] * size[1] or not stream.eof:
                raise ValueError(f"more or fewer bytes than {2 * size[0] * size[1]}")
            values = np.frombuffer(values, "<u2").reshape(size)
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.dtype.itemsize < 2:
        found = f"depth of {values.shape[2:] or 1} channels of {values.dtype}"
        raise InputError(f"{path}: {found}; expected one channel of 16 bits, millimetres")
    if values.dtype.itemsize > 2 and values.size and not 0 <= values.min() <= values.max() < 1 << 16:
        found = f"depths of {values.min()} to {values.max()}"
        raise InputError(f"{path}: {found}; expected 0 to 65535 millimetres")
    return values.astype(np.float32) / 1000
