"""Vertices of binary PLY files, such as ScanNet's meshes.

This reader exists because training reads one mesh per sample and never needs the faces. plyfile is under the
GPL and requires numpy 2, meshio does not support ``ushort``, and trimesh takes 25 times as long.
"""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clip2scene.errors import InputError
from clip2scene.files import reading

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2", "ushort": "<u2",
    "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4", "float": "<f4",
    "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip
_NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "f4": "float"}
_HEADER = re.compile(
    rb"ply\r?\nformat binary_little_endian 1\.0\r?\n(?:(?:comment|obj_info).*\n)*"
    rb"element vertex (?P<count>\d{1,18})\r?\n"
    rb"(?P<properties>(?:(?:comment.*|obj_info.*|property (?!list)\w+ \w+\r?)\n)+)"
    rb"(?:element .*\n(?:(?:comment|obj_info|element|property).*\n)*)?end_header\r?\n"
)
_LONGEST_HEADER = 1 << 14


def read_vertices(path: Path, *properties: str) -> np.ndarray:
    """Read the vertices of a little-endian binary PLY file; they must be its first element.

    Args:
        path: File to read.
        properties: Scalar properties that the vertices must have.

    Returns:
        [N] structured array with one field per vertex property; N is at least 1.

    Raises:
        InputError: the file is missing, truncated, empty, of another format, or lacks a property.
    """
    with reading(path, "a PLY file"), path.open("rb") as file:
        count, layout = _read_header(file, path)
        there = (path.stat().st_size - file.tell()) // max(1, layout.itemsize)
        vertices = np.fromfile(file, layout, min(count, there))
    if missing := [name for name in properties if name not in (layout.names or ())]:
        raise InputError(f"{path}: its vertices have no property {missing[0]}; found {layout.names}")
    if count == 0 or len(vertices) < count:
        raise InputError(f"{path}: holds {len(vertices)} of {count} vertices; expected all, and at least one")
    return vertices


def _read_header(file: BinaryIO, path: Path) -> tuple[int, np.dtype]:
    """Return the number and layout of the vertices, and leave the file at the first vertex."""
    match = _HEADER.match(file.read(_LONGEST_HEADER))
    if match is None:
        raise InputError(
            f"{path}: expected a binary little-endian PLY file that starts with its vertices, all of whose "
            "properties are numbers"
        )
    file.seek(match.end())
    properties = re.findall(r"^property (\w+) (\w+)", match["properties"].decode("latin-1"), re.M)
    if unknown := [kind for kind, _ in properties if kind not in _TYPES]:
        raise InputError(
            f"{path}: a property of its vertices is of type {unknown[0]}, which PLY does not know"
        )
    names = [name for _, name in properties]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: its vertices have the property {twice} twice; expected it once")
    return int(match["count"]), np.dtype([(name, _TYPES[kind]) for kind, name in properties])


def write_vertices(path: Path, vertices: np.ndarray) -> None:
    """Write a structured array [N] as the vertices of a little-endian binary PLY file without faces."""
    fields = [(_NAMES[kind.str[1:]], name) for name, (kind, _) in vertices.dtype.fields.items()]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {kind} {name}" for kind, name in fields),
        "element face 0",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    path.write_bytes("\n".join(header).encode() + b"\n" + vertices.tobytes())
