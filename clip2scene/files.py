"""Files that are either whole or absent, their hashes, and locks between processes."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from clip2scene.errors import InputError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure."""
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files that `atomic` left in a folder when its process was killed."""
    found = (_TEMPORARY.fullmatch(path.name) for path in folder.glob(".*") if path.is_file())
    return [folder / match[0] for match in found if match and Path(match["name"]).suffix == match["suffix"]]


_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}(?P<suffix>(?:\.[^.]*)?)")
"""Names that `atomic` gives: those of tempfile.mkstemp."""


@contextmanager
def new_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` on success, remove it on failure.

    Raises:
        InputError: `path` exists and is not an empty folder; nothing that is there is ever replaced.
    """
    path = Path(path)
    refuse_unless_empty(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            refuse_unless_empty(path)
            temporary.replace(path)  # the system replaces an empty folder and refuses any other
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Name `path` in errors of the system that name no file, as those of a full disk, or a temporary one."""
    try:
        yield
    except OSError as error:
        temporary = Path(str(error.filename)).name.startswith(f".{Path(path).name}.")
        if error.errno is not None and (error.filename is None or temporary):
            raise OSError(error.errno, error.strerror, str(path)) from None
        if error.errno is None and "writ" in str(error):  # NumPy's: "3 requested and 0 written"
            raise InputError(f"{path}: {first_line(error)}; expected room for it on the disk") from None
        raise


def refuse_unless_empty(path: Path) -> None:
    """Raise an InputError if there is anything but an empty folder at `path`."""
    if path.is_dir():
        if first := next((item.name for item in path.iterdir()), None):
            raise InputError(f"{path}: holds {first}; expected an empty folder, or none")
    elif path.exists():
        raise InputError(f"{path}: is a file; expected an empty folder, or none")


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def locked(path: str | Path, what: str) -> Iterator[None]:
    """Hold a lock between processes while the body runs; wait for it if another process holds it.

    The system lets go of the lock when the process ends, however it ends. The file stays.

    Args:
        path: Lock file.
        what: Name of the locked work, for the line that says that this process waits.
    """
    with lock(path, what):
        yield


def lock(path: str | Path, what: str) -> IO[str]:
    """Take a lock between processes and return its file, which holds it until it is closed; see `locked`."""
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a")
        except PermissionError:  # another user made the file; a lock needs no permission to write
            file = path.open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{what}: another process is at it; waiting for {path}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
    return file


def held(path: str | Path) -> bool:
    """Say whether a process, this one included, holds a lock; see `lock`."""
    try:
        with Path(path).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # it is held, or the file system cannot say
        return True
    return False


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; keys keep their order."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


@contextmanager
def reading(path: str | Path, expected: str, *damage: type[Exception]) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one clear line.

    Args:
        path: The file.
        expected: What it should be, for the message, e.g. ``an image``.
        damage: Errors that a reader raises for a damaged file, beside those of the system and of encodings.

    Raises:
        InputError: the file is missing, is a folder, a pipe or a device, may not be read, or is damaged.
    """
    try:
        if _is_special(path):  # to open a pipe waits for whoever writes into it
            raise InputError(f"{path}: is a pipe or a device; expected {expected}")
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {expected}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; expected {expected}") from None
    except (OSError, UnicodeError, *damage) as error:
        if isinstance(error, OSError) and (error.strerror or not isinstance(error, damage)):
            raise InputError(f"{path}: {error.strerror or first_line(error)}; expected {expected}") from None
        raise InputError(f"{path}: expected {expected}, found a damaged file ({first_line(error)})") from None


def _is_special(path: str | Path) -> bool:
    """Return True if there is something at a path, and it is neither a file nor a folder."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # whoever opens it says what is wrong
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its name if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_text(path: str | Path, expected: str) -> str:
    """Read a text file in UTF-8; a byte order mark is left out.

    Raises:
        InputError: see `reading`.
    """
    with reading(path, expected):
        return Path(path).read_text(encoding="utf-8-sig")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, cannot be read or is not JSON.
    """
    with reading(path, "a JSON file", json.JSONDecodeError, RecursionError):
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))


def read_object(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: the file is missing, cannot be read, is not JSON, or holds something else.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: found {type(values).__name__}; expected a JSON object")
    return values


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
