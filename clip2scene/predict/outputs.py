"""Predicted scans as files: ``.npy``, SemanticKITTI's ``.label``, and a coloured ``.ply``."""

from pathlib import Path

import numpy as np

from clip2scene.datasets.ply import write_vertices
from clip2scene.datasets.semantickitti import SemanticKITTI
from clip2scene.errors import InputError
from clip2scene.files import atomic
from clip2scene.predict.network import Network

FORMATS = ("npy", "label", "ply", "png")
"""Files that a prediction may be written as."""
RAW_IDS = np.array([0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81], np.uint32)
"""[20] semantic id of SemanticKITTI's classes 0..19 (semantic-kitti-api, config/semantic-kitti.yaml,
learning_map_inv)."""


def refuse_foreign_classes(network: Network, formats: tuple[str, ...]) -> None:
    """Raise an InputError if SemanticKITTI's ids are asked for, and the classes are others."""
    if "label" in formats and not isinstance(network.labels, SemanticKITTI):
        found = network.labels.name if network.labels else "words"
        raise InputError(
            f"--as: found label, for {network.title}, whose classes are {found}; expected npy or ply, as "
            "SemanticKITTI's ids exist for its own classes"
        )


def write_npy(path: Path, values: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    with atomic(path) as temporary:
        np.save(temporary, values)


def write_label(path: Path, labels: np.ndarray) -> None:
    """Write classes [N] 0..19 as SemanticKITTI's ids: a little-endian uint32 a point."""
    with atomic(path) as temporary:
        temporary.write_bytes(RAW_IDS[labels].astype("<u4").tobytes())


def write_coloured(path: Path, points: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> None:
    """Write points [N, 3], metres, as a binary PLY file.

    Args:
        path: The file.
        points: [N, 3] float32; points that the sensor did not measure are left out.
        labels: [N] classes 0..C.
        colours: [C + 1, 3] uint8, colour of each class; of points without a class first.
    """
    kept = np.isfinite(points).all(1)
    layout = [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue", "label")]
    vertices = np.empty(kept.sum(), layout)
    for axis, values in zip("xyz", points[kept].T, strict=True):
        vertices[axis] = values
    for channel, values in zip(("red", "green", "blue"), colours[labels[kept]].T, strict=True):
        vertices[channel] = values
    vertices["label"] = labels[kept]
    with atomic(path) as temporary:
        write_vertices(temporary, vertices)
