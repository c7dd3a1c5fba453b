"""Agreement of calibration, poses and time stamps: what cannot be is refused, what is odd is counted.

Both look at matrices alone and open no file. `check_index` runs once, when an index is built.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from clip2scene.datasets.binary import FARTHEST
from clip2scene.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

RIGID = 1e-3
"""Largest deviation of an element of R R^T from the identity, for a rotation R."""
OFF_CENTRE = 0.15
"""Distance of a principal point from its image's middle, as a share of the side, beyond which it is odd."""
FOCAL = (0.1, 10.0)
"""Range of usual focal lengths, as shares of the image's width."""
FASTEST = 100.0
"""Speed between a keyframe and its earlier sweeps beyond which poses are odd, metres a second."""

LONGEST = 60.0
"""Time from an earlier sweep to its keyframe beyond which time stamps are odd, seconds."""


class Faults(InputError):
    """Several faults of one data set.

    Attributes:
        lines: One line a fault; the message is the first of them and their number.
    """

    def __init__(self, lines: list[str], noun: str) -> None:
        more = f" (and {len(lines) - 1:,} more {noun} with a fault)" if len(lines) > 1 else ""
        super().__init__(lines[0] + more)
        self.lines = lines


def each(items: Iterable[T], read: Callable[[T], R], noun: str) -> list[R]:
    """Return what `read` makes of every item; an item with a fault does not hide those of the others.

    Args:
        items: E.g. the scans of a data set.
        read: Raises an InputError for a fault.
        noun: Plural of what an item is, for the message.

    Raises:
        Faults: one item or more have a fault.
    """
    results, lines = [], []
    for item in items:
        try:
            results.append(read(item))
        except InputError as error:
            lines += error.lines if isinstance(error, Faults) else [str(error)]
    if lines:
        raise Faults(lines, noun)
    return results


def warn(line: str) -> None:
    """Print a warning on a line of its own."""
    print(f"warning: {line}", file=sys.stderr, flush=True)


def check_rigid(pose: np.ndarray, where: str) -> None:
    """Refuse a pose [4, 4] that is not a rotation and a translation of at most `FARTHEST` metres.

    Args:
        pose: The matrix, metres.
        where: Start of the message: file, and line or field.

    Raises:
        InputError: see above.
    """
    if reason := next(_not_rigid(pose[None]), None):
        raise InputError(f"{where}: {reason[1]}")


def _not_rigid(poses: np.ndarray) -> Iterator[tuple[int, str]]:
    """Yield the number of each pose of [P, 4, 4] that is not rigid, and what was found and expected."""
    finite = np.isfinite(poses).all((1, 2))
    rotation = np.where(finite[:, None, None], poses[:, :3, :3], np.eye(3))
    with np.errstate(over="ignore", invalid="ignore"):
        skew = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max((1, 2))
        determinant = np.linalg.det(rotation)
    with np.errstate(invalid="ignore"):
        last = (np.abs(poses[:, 3] - [0, 0, 0, 1]) <= 1e-6).all(1)
    far = np.abs(np.where(finite[:, None], poses[:, :3, 3], 0)).max(1)
    good = finite & (skew <= RIGID) & (determinant > 0) & last & (far <= FARTHEST)
    for number in np.flatnonzero(~good).tolist():
        if not finite[number]:
            yield number, "pose holds a number that is not finite; expected finite numbers"
        elif not last[number]:
            yield number, f"last row of the pose is {poses[number, 3].tolist()}; expected 0 0 0 1"
        elif far[number] > FARTHEST:
            yield number, f"pose is {far[number]:g} m away; expected no more than {FARTHEST:g} m"
        else:
            yield (
                number,
                f"pose is not rigid: R R^T is off by {skew[number]:.3g} and the determinant is "
                f"{determinant[number]:.3g}; expected a rotation to {RIGID:g}",
            )


def check_intrinsics(matrix: np.ndarray, size: tuple[int, int], where: str) -> None:
    """Refuse intrinsics [3, 3] that no image of this size has.

    Args:
        matrix: The intrinsics, pixels.
        size: Height and width of the image, pixels.
        where: Start of the message: file, and line or field.

    Raises:
        InputError: a number is not finite, a focal length is not positive, the last row is not 0 0 1, the
            principal point lies outside the image, or the image has no pixels.
    """
    height, width = (int(side) for side in size)
    if not (0 < height < 1 << 16 and 0 < width < 1 << 16):
        raise InputError(f"{where}: image of {height} x {width} pixels; expected 1 to 65,535 a side")
    if not np.isfinite(matrix).all():
        raise InputError(f"{where}: intrinsics hold a number that is not finite; expected finite numbers")
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        found = f"focal lengths of {matrix[0, 0]:g} and {matrix[1, 1]:g} pixels"
        raise InputError(f"{where}: intrinsics have {found}; expected more than 0")
    if not np.allclose(matrix[2], [0, 0, 1], atol=1e-6) or matrix[1, 0] != 0:
        raise InputError(f"{where}: intrinsics are {matrix.tolist()}; expected rows f s x, 0 f y and 0 0 1")
    if not (0 <= matrix[0, 2] <= width and 0 <= matrix[1, 2] <= height):
        found = f"principal point in row {matrix[1, 2]:g} and column {matrix[0, 2]:g}"
        raise InputError(f"{where}: {found}; expected it in the image of {height} x {width} pixels")


def check_index(frames: pd.DataFrame, root: Path) -> list[str]:
    """Check the keyframes of an index: refuse what cannot be, count what is odd.

    Args:
        frames: Rows of an index, before it is written.
        root: Data root, for the messages.

    Returns:
        A line for each kind of oddity, with its count and first example.

    Raises:
        Faults: keyframes are named twice, or have lists of unequal lengths, poses that are not rigid or
            intrinsics that no image of their size has.
    """
    if frames.empty:
        raise InputError(f"{root}: holds no keyframe; expected at least one")
    if (twice := frames["id"].duplicated()).any():
        raise InputError(f"{root}: keyframe {frames['id'][twice].iloc[0]} comes twice; expected unique names")
    names = {*_EACH, "sweep_points", "camera_names", "depth_images"} & set(frames.columns)
    if found := unequal({name: frames[name].map(len).to_numpy() for name in names}):
        raise InputError(f"{root}: keyframe {frames['id'].iloc[found[0]]}: {found[1]}")
    lines = [*_pose_faults(frames, root, "sweep_poses", "sweep_points")]
    lines += _pose_faults(frames, root, "camera_poses", "camera_names")
    cameras = list(_cameras(frames))
    seen: set[tuple[Any, ...]] = set()
    for identifier, name, size, matrix in cameras:  # a data set has few different cameras
        if (key := (size, matrix.tobytes())) in seen:
            continue
        seen.add(key)
        try:
            check_intrinsics(matrix, size, f"{root}: keyframe {identifier}, {name}")
        except InputError as error:
            lines.append(str(error))
    if lines:
        raise Faults(lines, "poses or cameras")
    return [*_odd(frames, cameras, root)]


_EACH = {
    "sweep_poses": ("sweep_points", 16), "sweep_lags": ("sweep_points", 1),
    "camera_images": ("camera_names", 1), "camera_sizes": ("camera_names", 2),
    "camera_intrinsics": ("camera_names", 9), "camera_poses": ("camera_names", 16),
    "depth_sizes": ("depth_images", 2), "depth_intrinsics": ("depth_images", 9),
}  # fmt: skip
"""Columns of lists: the column that they go with, and how many values belong to each of its items."""


def unequal(lengths: dict[str, np.ndarray]) -> tuple[int, str] | None:
    """Return the first row whose lists do not go together, and what was found and expected there.

    Args:
        lengths: [N] int64, length of each row's list, by column.
    """
    for name, (other, count) in _EACH.items():
        if name not in lengths:
            continue
        if len(bad := np.flatnonzero(lengths[name] != count * lengths[other])):
            found, expected = (int(values[bad[0]]) for values in (lengths[name], count * lengths[other]))
            return int(bad[0]), f"{name} holds {found} values; expected {expected}, {count} for each {other}"
    if "depth_images" in lengths:
        depth, images = lengths["depth_images"], lengths["camera_names"]
        if len(bad := np.flatnonzero((depth != 0) & (depth != images))):
            found, expected = int(depth[bad[0]]), int(images[bad[0]])
            return int(bad[0]), f"{found} depth images; expected {expected}, one for each camera, or none"
    return None


def _pose_faults(frames: pd.DataFrame, root: Path, column: str, names: str) -> Iterator[str]:
    """Yield a line for each pose of a column that is not rigid."""
    counts = frames[column].map(len).to_numpy() // 16
    poses = np.concatenate([np.empty(0), *frames[column]]).astype(np.float64).reshape(-1, 4, 4)
    rows, starts = np.repeat(np.arange(len(frames)), counts), np.cumsum(counts) - counts
    for number, reason in _not_rigid(poses):
        row = frames.iloc[rows[number]]
        name = row[names][number - starts[rows[number]]]
        yield f"{root}: keyframe {row['id']}, {name}: {reason}"


def _cameras(frames: pd.DataFrame) -> Iterator[tuple[str, str, tuple[int, int], np.ndarray]]:
    """Yield keyframe, name, size and intrinsics [3, 3] of every colour and depth camera."""
    for kind in ("camera", "depth"):
        if f"{kind}_sizes" not in frames:
            continue
        columns = (
            frames["id"],
            frames["camera_names"],
            frames[f"{kind}_sizes"],
            frames[f"{kind}_intrinsics"],
        )
        for identifier, names, sizes, intrinsics in zip(*columns, strict=True):
            matrices = np.asarray(intrinsics, np.float64).reshape(-1, 3, 3)
            for name, size, matrix in zip(names, np.reshape(sizes, (-1, 2)).tolist(), matrices, strict=False):
                yield identifier, name if kind == "camera" else f"{name} (depth)", tuple(size), matrix


def _odd(frames: pd.DataFrame, cameras: list[tuple], root: Path) -> Iterator[str]:
    """Yield a line for each kind of oddity of an index."""
    apart = [
        f"keyframe {identifier}, {name}: focal length {matrix[0, 0]:g}, principal point {matrix[0, 2]:g} "
        f"{matrix[1, 2]:g} in {size[1]} x {size[0]} pixels"
        for identifier, name, size, matrix in cameras
        if not FOCAL[0] <= matrix[0, 0] / size[1] <= FOCAL[1]
        or abs(matrix[0, 2] / size[1] - 0.5) > OFF_CENTRE
        or abs(matrix[1, 2] / size[0] - 0.5) > OFF_CENTRE
    ]
    if apart:
        yield (
            f"{root}: unusual intrinsics of {len(apart):,} of {len(cameras):,} cameras ({apart[0]}); "
            "expected the principal point near the middle; were the images resized?"
        )
    falls = frames["timestamp"].diff().lt(0) & frames["scene"].eq(frames["scene"].shift())
    if falls.any():
        first = frames["id"][falls].iloc[0]
        yield f"{root}: time stamps fall before {falls.sum():,} keyframes, the first is {first}"
    lost = frames.loc[frames["splits"].map(len) == 0, "id"]
    if len(lost):
        share = f"{len(lost):,} of {len(frames):,} keyframes"
        yield f"{root}: {share} are in no split, the first is {lost.iloc[0]}"
    old = frames.loc[frames["sweep_lags"].map(lambda lags: max(lags, default=0) > LONGEST), "id"]
    if len(old):
        yield (
            f"{root}: {len(old):,} keyframes have earlier sweeps of over {LONGEST:g} s before, the first "
            f"is {old.iloc[0]}; are their time stamps in another unit?"
        )
    fast = list(_fast(frames))
    if fast:
        yield (
            f"{root}: {len(fast):,} keyframes move by more than {FASTEST:g} m/s from their earlier sweeps, "
            f"the first is {fast[0]}; expected poses in metres and time stamps in their order"
        )


def _fast(frames: pd.DataFrame) -> Iterator[str]:
    """Yield the keyframes with a sweep whose pose implies an unusual speed."""
    for identifier, poses, lags in zip(
        frames["id"], frames["sweep_poses"], frames["sweep_lags"], strict=True
    ):
        if len(lags):
            moved = np.linalg.norm(np.asarray(poses).reshape(-1, 4, 4)[:, :3, 3], axis=1)
            if (moved > FASTEST * np.maximum(np.asarray(lags, np.float64), 0.01)).any():
                yield identifier
