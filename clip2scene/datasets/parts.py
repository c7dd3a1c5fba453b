"""Parts of files, named so that a path says all of it: a recording holds hundreds of images."""

import re
from io import BytesIO
from pathlib import Path
from typing import BinaryIO


def part(path: str, start: int, length: int) -> str:
    """Name the part of a file that begins at byte `start` and has `length` bytes; see `open_part`."""
    return f"{path}#{start}+{length}"


def file_of(path: str) -> str:
    """Return the file that a part lies in; a path that names no part is the file itself."""
    return path.partition("#")[0]


def open_part(path: str | Path) -> BinaryIO:
    """Open a file, or the part of a file that `part` named, to read bytes.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if match := re.fullmatch(r"(.+)#(\d+)\+(\d+)", str(path)):
        whole, start, length = match.groups()
        with Path(whole).open("rb") as file:
            file.seek(int(start))
            return BytesIO(file.read(int(length)))
    return Path(path).open("rb")
