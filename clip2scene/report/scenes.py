"""The pictures of `clip2scene figures`, small enough to stand in a page."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from clip2scene import layout
from clip2scene.files import read_object, reading
from clip2scene.study import Study

WIDEST = 1200
"""Wider pictures are made this wide, pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Attributes:
        name: Name of its file, without the ending.
        caption: What it shows, and of which runs, as the file says.
        data: The picture as a ``data:`` address.
        size: Width and height, pixels.
    """

    name: str
    caption: str
    data: str
    size: tuple[int, int]


def read_scenes(study: Study) -> list[Picture]:
    """Return the pictures of scenes that were drawn for the study; none before they are drawn.

    Curves are left out: the page draws them itself.
    """
    receipt = layout.receipt(study.config, f"figures-{study.name}")
    if not receipt.exists():
        return []
    drawn = [Path(file) for file in read_object(receipt)["files"]]
    return [read_picture(path) for path in drawn if path.name.startswith(("scene-", "annotation_free-"))]


def read_picture(path: Path) -> Picture:
    """Read a picture and the caption in it, PNG's ``Description``.

    Raises:
        InputError: the file is missing or no picture.
    """
    with reading(path, "a picture", UnidentifiedImageError, SyntaxError), Image.open(path) as image:
        image.load()
        caption = str(image.info.get("Description", path.stem))
        small = image.convert("RGB")
    if small.width > WIDEST:
        small = small.resize((WIDEST, round(small.height * WIDEST / small.width)), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, "WEBP", quality=70, method=4)
    address = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(path.stem, caption, address, small.size)
