"""A digest of what lies in a download, so that files added to it are seen."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from clip2scene.files import sha256

LARGEST_TEXT = 1 << 24
"""Bytes up to which a text counts by its content; nuScenes' splits and calibrations are smaller."""
TEXT_DEPTH = 3
"""Parts of the path of a text that counts by its content; ScanNet's poses, a million files, have four."""


def survey(root: Path, folders: Iterable[str] = ()) -> str:
    """Return the SHA-256 of the names and sizes of a data set's files.

    Of small texts near the root, such as lists of splits, calibrations and poses of a sequence, the content
    counts rather than the size: an edit may leave the size as it is. Times and places do not count: a copy,
    or a link to the data set, has the same digest.

    Args:
        root: Data root.
        folders: Folders below it that are looked at, with all that they hold; the whole root if empty.
    """
    entries: list[str] = []
    waiting = [root / folder for folder in folders or ("",)]
    with ThreadPoolExecutor(16) as pool:  # network file systems answer slowly, and many at a time
        while waiting:
            found = list(pool.map(partial(_list, root), waiting))
            waiting = [Path(entry) for folders_in, _ in found for entry in folders_in]
            entries += [
                f"{os.path.relpath(path, root)}\0{what}" for _, files in found for path, what in files
            ]
    return hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()


def _list(root: Path, folder: Path) -> tuple[list[str], list[tuple[str, int | str]]]:
    """Return the folders in a folder, and its files with what counts of them; hidden ones are left out."""
    folders, files = [], []
    near = len(folder.relative_to(root).parts) < TEXT_DEPTH
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink() and _leads_back(Path(entry.path), folder, root):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.is_file():
                    size = entry.stat().st_size
                    text = near and size <= LARGEST_TEXT and entry.name.endswith((".txt", ".json"))
                    files.append((entry.path, sha256(entry.path) if text else size))
    except OSError:
        pass  # whoever reads the data set says what is missing or may not be read
    return folders, files


def _leads_back(link: Path, folder: Path, root: Path) -> bool:
    """Say whether a link leads to itself, or to a folder on the way from the root, so that it never ends."""
    try:
        target = link.resolve(strict=True)
    except (FileNotFoundError, PermissionError):
        return False
    except (OSError, RuntimeError):  # it leads to itself; a RuntimeError before Python 3.13
        return True
    way = (folder, *folder.parents)[: len(folder.relative_to(root).parts) + 1]
    return any(place.resolve().is_relative_to(target) for place in way)
