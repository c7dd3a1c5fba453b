"""ScanNet's ``.sens`` files: all RGB-D frames of a recording, with their poses, in one file.

The official readers are a C++ toolkit and a Python 2 script. This module supports version 4 of the layout
(ScanNet/ScanNet @ 3830fce, SensReader), little-endian throughout. It reads only the frame headers. Images
stay in the file and are addressed by byte range (`clip2scene.datasets.parts.part`).
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clip2scene.errors import InputError
from clip2scene.files import reading

VERSION = 4
LARGEST = 1 << 14
"""Largest side of an image, pixels."""
_JPEG, _ZLIB_USHORT, _UNIT = 2, 1, 1000.0
# Codecs of colour and depth, width and height of colour, then of depth, depth units per metre, frames.
_SIZES = struct.Struct("<iiIIIIfQ")
_MOTION = 128  # bytes of an inertial measurement; these follow the frames, after their number
_FRAME = np.dtype([("pose", "<f4", (4, 4)), ("timestamps", "<u8", 2), ("sizes", "<u8", 2)])


@dataclass(frozen=True)
class Recording:
    """Headers of a ``.sens`` file with F frames.

    Attributes:
        colour_size, depth_size: Height and width of the images, pixels.
        colour_intrinsics, depth_intrinsics: [3, 3] float64, pixels. Depth is registered to colour, so one
            pose serves both, and the file's extrinsics must not be applied (ScanNet/ScanNet issue 92).
        poses: [F, 4, 4] float64, camera to world, metres; not finite where tracking failed.
        colour, depth: [F, 2] int64, bytes: start and length of each frame's JPEG and zlib stream in the file.
    """

    colour_size: tuple[int, int]
    depth_size: tuple[int, int]
    colour_intrinsics: np.ndarray
    depth_intrinsics: np.ndarray
    poses: np.ndarray
    colour: np.ndarray
    depth: np.ndarray


def read_recording(path: Path) -> Recording:
    """Read the headers of a ``.sens`` file.

    Raises:
        InputError: the file is missing, truncated, of another version, or its images are neither JPEG nor
            zlib-compressed 16-bit depth in millimetres.
    """
    with reading(path, "a .sens file"), path.open("rb") as file:
        try:
            return _read(file, path, path.stat().st_size)
        except (struct.error, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: truncated; expected a whole .sens file") from None


def _read(file: BinaryIO, path: Path, length: int) -> Recording:
    version, name = struct.unpack("<IQ", file.read(12))
    if version != VERSION:
        raise InputError(f"{path}: a .sens file of version {version}; expected {VERSION}")
    if name > length:
        raise InputError(f"{path}: truncated; the name of its sensor has {name} bytes, the file {length}")
    file.seek(name, 1)
    matrices = np.frombuffer(file.read(4 * 16 * 4), "<f4").reshape(4, 4, 4).astype(np.float64)
    codec, depth_codec, width, height, depth_width, depth_height, unit, count = _SIZES.unpack(
        file.read(_SIZES.size)
    )
    if (codec, depth_codec, unit) != (_JPEG, _ZLIB_USHORT, _UNIT):
        found = f"codecs {codec} and {depth_codec}, {unit:g} depth units a metre"
        raise InputError(f"{path}: {found}; expected JPEG ({_JPEG}), zlib ({_ZLIB_USHORT}) and {_UNIT:g}")
    sides = {"width": width, "height": height, "depth width": depth_width, "depth height": depth_height}
    if bad := next((name for name, side in sides.items() if not 0 < side <= LARGEST), None):
        raise InputError(f"{path}: {bad} of {sides[bad]} pixels; expected 1 to {LARGEST}")
    if count == 0:
        raise InputError(f"{path}: holds no frame; expected at least one")
    poses, parts = [], []
    for _ in range(count):
        header = np.frombuffer(file.read(_FRAME.itemsize), _FRAME, 1)[0]
        start, (colour, depth) = file.tell(), header["sizes"].tolist()
        if not (colour and depth):
            raise InputError(
                f"{path}: frame {len(poses)} of {count} is empty; expected a JPEG and a depth stream"
            )
        if start + colour + depth > length:
            raise InputError(f"{path}: truncated in frame {len(poses)} of {count}")
        poses.append(header["pose"].astype(np.float64))
        parts.append(((start, colour), (start + colour, depth)))
        file.seek(colour + depth, 1)
    _refuse_more_frames(file, path, length, count)
    colour, depth = np.array(parts, np.int64).reshape(-1, 2, 2).swapaxes(0, 1)
    return Recording(
        (height, width),
        (depth_height, depth_width),
        matrices[0, :3, :3],
        matrices[2, :3, :3],
        np.array(poses).reshape(-1, 4, 4),
        colour,
        depth,
    )


def _refuse_more_frames(file: BinaryIO, path: Path, length: int, count: int) -> None:
    """Raise an InputError if another frame follows the last one that the header counts."""
    rest = length - file.tell()
    if rest < _FRAME.itemsize or (rest - 8) % _MOTION == 0:
        return
    header = np.frombuffer(file.read(_FRAME.itemsize), _FRAME, 1)[0]
    images = header["sizes"].tolist()
    if min(images) > 0 and file.tell() + sum(images) <= length:
        raise InputError(f"{path}: counts {count} frames, and more follow; expected the number of all")


def write_recording(
    path: Path,
    images: Sequence[bytes],
    depths: Sequence[np.ndarray],
    poses: Sequence[np.ndarray],
    size: tuple[int, int],
    intrinsics: tuple[np.ndarray, np.ndarray],
) -> None:
    """Write a ``.sens`` file of F frames.

    Args:
        path: File to write.
        images: F colour images as JPEG streams.
        depths: F depth images [H, W] uint16, millimetres.
        poses: F matrices [4, 4], camera to world, metres.
        size: Height and width of the colour images, pixels.
        intrinsics: [3, 3] of colour and of depth, pixels.
    """
    colour, depth = (np.eye(4, dtype="<f4") for _ in range(2))
    colour[:3, :3], depth[:3, :3] = intrinsics
    identity = np.eye(4, dtype="<f4")
    name = b"StructureSensor"
    height, width = depths[0].shape
    with path.open("wb") as file:
        file.write(struct.pack("<IQ", VERSION, len(name)) + name)
        file.write(b"".join(matrix.tobytes() for matrix in (colour, identity, depth, identity)))
        file.write(_SIZES.pack(_JPEG, _ZLIB_USHORT, size[1], size[0], width, height, _UNIT, len(images)))
        for number, (image, values, pose) in enumerate(zip(images, depths, poses, strict=True)):
            packed = zlib.compress(values.astype("<u2").tobytes())
            header = np.array((pose, (number, number), (len(image), len(packed))), _FRAME)
            file.write(header.tobytes() + image + packed)
        file.write(struct.pack("<Q", 0))  # no inertial measurements
