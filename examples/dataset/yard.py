"""Yard: an example of a data set in a format of its own, lidar scans of a yard without images.

Layout: ``<split>/<scene>/<number>.npz`` with ``points`` [N, 4] float32 (x, y, z in metres, sensor frame;
intensity 0 to 255) and ``labels`` [N] uint8 (0 = ignored, 1 to 3 the classes in their order).
``python -m yard FOLDER`` writes a small one, in place of a download.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from clip2scene.datasets.frame import Dataset
from clip2scene.errors import InputError

SPLITS = ("train", "val")
PERIOD = 500_000
"""Time between scans of a scene, microseconds."""


class Yard(Dataset):
    """Lidar scans of a yard with three classes; the class names are also the prompts of the text encoder."""

    name: ClassVar[str] = "yard"
    keyframes: ClassVar[Mapping[str, Mapping[str, int]]] = {"*": {"train": 16, "val": 4}}
    classes: ClassVar[tuple[str, ...]] = ("ground", "wall", "tree")
    prompts: ClassVar[tuple[str, ...]] = classes
    colours: ClassVar[np.ndarray] = np.array([[140, 120, 90], [180, 60, 60], [40, 140, 60]], np.uint8)
    images_each: ClassVar[int] = 0

    def build_index(self, root: Path, version: str, sweeps: int) -> pd.DataFrame:
        """Return a row a scan, in the order of the paths.

        Raises:
            InputError: the folder holds no scan.
        """
        files = sorted(root.glob("*/*/*.npz"))
        rows = [_row(file.relative_to(root)) for file in files if file.parts[-3] in SPLITS]
        if not rows:
            raise InputError(f"{root}: holds no scan; expected train/<scene>/000000.npz and on")
        return pd.DataFrame(rows)

    def read_points(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Read points [N, 3] float32 (metres, sensor frame) and intensity [N, 1] float32, 0 to 255."""
        values = _read(path, "points", np.float32)
        if values.ndim != 2 or values.shape[1] != 4 or not np.isfinite(values).all():
            raise InputError(f"{path}: points: found shape {values.shape}; expected [N, 4], finite")
        return values[:, :3].copy(), values[:, 3:].copy()

    def read_labels(self, path: Path) -> np.ndarray:
        """Read labels [N] int64, 0 to 3."""
        labels = _read(path, "labels", np.int64)
        if labels.size and not 0 <= labels.min() <= labels.max() <= len(self.classes):
            raise InputError(f"{path}: labels: found {labels.min()} to {labels.max()}; expected 0 to 3")
        return labels


def _row(path: Path) -> dict[str, Any]:
    """Return the index row of a scan; it has neither earlier sweeps nor images."""
    split, scene, _ = path.parts
    lists = (
        "sweep_points", "sweep_poses", "sweep_lags", "camera_names", "camera_images", "camera_sizes",
        "camera_intrinsics", "camera_poses",
    )  # fmt: skip
    return {
        "id": f"{scene}/{path.stem}",
        "scene": scene,
        "splits": [split],
        "timestamp": PERIOD * int(path.stem),
        "points": str(path),
        "labels": str(path),
        **{column: [] for column in lists},
    }


def _read(path: Path, name: str, kind: type) -> np.ndarray:
    """Read one array of a scan.

    Raises:
        InputError: the file is missing or damaged, or has no such array.
    """
    try:
        with np.load(path, allow_pickle=False) as scan:
            return scan[name].astype(kind)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # numpy names no error of its own for a damaged archive
        raise InputError(f"{path}: {name}: cannot be read ({error})") from None


def write(root: Path, seed: int = 0) -> None:
    """Write four scenes of four scans for training and one for validation: ground, a wall and trees."""
    rng = np.random.default_rng(seed)
    for number in range(5):
        scene = root / ("val" if number == 4 else "train") / f"yard-{number}"
        scene.mkdir(parents=True, exist_ok=True)
        for scan in range(4):
            points, labels = _scan(rng)
            np.savez(scene / f"{scan:06d}.npz", points=points, labels=labels)


def _scan(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw points [1600, 4] float32 on ground, a wall and three trees, and their labels [1600] uint8."""
    ground = np.column_stack([rng.uniform(-12, 12, (900, 2)), rng.normal(-1.7, 0.02, 900)])
    wall = np.column_stack([rng.uniform(-10, 10, 400), np.full(400, 8.0), rng.uniform(-1.7, 2, 400)])
    stems = rng.uniform(-9, 6, (3, 2))[rng.integers(0, 3, 300)]
    trees = np.column_stack([stems + rng.normal(0, 0.2, (300, 2)), rng.uniform(-1.7, 3, 300)])
    labels = np.repeat([1, 2, 3], [900, 400, 300]).astype(np.uint8)
    intensity = np.clip(rng.normal(np.array([0, 20, 60, 35])[labels], 8), 0, 255)
    points = np.concatenate([ground, wall, trees])
    return np.column_stack([points, intensity]).astype(np.float32), labels


if __name__ == "__main__":
    write(Path(sys.argv[1]))
