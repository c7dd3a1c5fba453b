"""Agreement of points and images on a few keyframes, before a network trains on all of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clip2scene.datasets.frame import Camera, Dataset, Frame
from clip2scene.datasets.index import Index, load_frame
from clip2scene.datasets.plausible import warn
from clip2scene.errors import InputError
from clip2scene.pairing.images import read_depth
from clip2scene.pairing.projection import PixelPairs, pair

KEYFRAMES = 3
"""Number of keyframes of a split that are looked at."""
FAR_BELOW = 0.6
"""A share of pairs below this part of the usual share is odd."""
DEPTHS = (0.1, 20.0)
"""Range of the usual median of a depth image, metres."""
DIM = 1.0
"""Largest intensity of a keyframe in the unit 0 to 1; a format whose values reach 255 has larger ones."""


@dataclass(frozen=True)
class Pairing:
    """Agreement of points and images over a few keyframes.

    Attributes:
        keyframes: Number of keyframes.
        visible: Share of their points that fall into an image, from 0 to 1; agreeing with its depth, if any.
        agreeing: Share of the points in the view of a depth image whose depth agrees; None without depth.
        odd: A line for each kind of oddity.
    """

    keyframes: int
    visible: float
    agreeing: float | None
    odd: tuple[str, ...]

    def __str__(self) -> str:
        """Return the numbers in words."""
        agreeing = (
            "" if self.agreeing is None else f", {self.agreeing:.0%} of those in view agree with its depth"
        )
        return f"{self.visible:.0%} of the points of {self.keyframes} keyframes find a pixel{agreeing}"


def look(dataset: Dataset, index: Index) -> Pairing | None:
    """Pair the points of a few keyframes with their images.

    Args:
        dataset: Reads the files.
        index: A split; `KEYFRAMES` of those with images are looked at, evenly spaced.

    Returns:
        What was found; None where no keyframe has images.

    Raises:
        InputError: a file is missing or damaged.
    """
    rows = np.flatnonzero(index.has_images.to_numpy())
    if not len(rows):
        return None
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, KEYFRAMES).round().astype(int))]
    seen, agree, brightest, medians = [], [], [], []
    for number in chosen:
        frame = load_frame(dataset, index.root, index.frames.iloc[number], labels=False)
        pairs = pair(frame)
        seen.append(len(np.unique(pairs.point)) / len(frame.points))
        brightest.append(float(frame.features.max()))
        if frame.cameras[0].depth is not None:
            in_view = pair(replace(frame, cameras=tuple(replace(c, depth=None) for c in frame.cameras)))
            agree.append(len(pairs) / max(1, len(in_view)))
            medians += _medians(frame.cameras)
    visible, agreeing = float(np.mean(seen)), float(np.mean(agree)) if agree else None
    odd = []
    for share, usual, what in (
        (visible, dataset.visible_share, "points find a pixel"),
        (agreeing, dataset.agreeing_share, "points in view agree with the measured depth"),
    ):
        if share is not None and usual is not None and share < FAR_BELOW * usual:
            odd.append(
                f"{share:.0%} of {len(chosen)} keyframes' {what}, usually about {usual:.0%}; do poses, "
                "intrinsics and points belong together?"
            )
    if dataset.intensity_range and dataset.intensity_range[1] > DIM and max(brightest) <= DIM:
        limits = "{:g} to {:g}".format(*dataset.intensity_range)
        odd.append(f"intensities of {len(chosen)} keyframes reach {max(brightest):g} only; expected {limits}")
    if unusual := [median for median in medians if not DEPTHS[0] <= median <= DEPTHS[1]]:
        odd.append(
            f"{len(unusual)} of {len(medians)} depth images have a median of e.g. {unusual[0]:g} m; expected "
            f"{DEPTHS[0]:g} to {DEPTHS[1]:g} m, stored in millimetres"
        )
    return Pairing(len(chosen), visible, agreeing, tuple(odd))


def warn_if_unpaired(dataset: Dataset, index: Index) -> None:
    """Warn of oddities (`look`) before a network trains; files that cannot be read are left to training."""
    try:
        found = look(dataset, index)
    except InputError:
        return
    for line in found.odd if found else ():
        warn(f"{index.root}: {line}")


def leave_out_blind(index: Index, tell: Callable[[str], None] = warn) -> Index:
    """Return the keyframes of an index but for those whose depth images hold no measurement at all.

    Depth images of a keyframe are read until one holds a measurement, most often the first.

    Args:
        index: Part of an index.
        tell: Receives a line with the number of keyframes that are left out, if any.

    Raises:
        InputError: every keyframe is left out.
    """
    if not index.frames["depth_images"].map(len).any():
        return index
    kept = np.array([_measures(index.root, row) for row in index.frames.itertuples()])
    if kept.all():
        return index
    first = index.frames["id"][~kept].iloc[0]
    found = f"{index.root}: no depth image of {np.sum(~kept)} of {len(kept)} frames holds a measurement"
    if not kept.any():
        raise InputError(f"{found}, the first is {first}; expected depth in millimetres")
    tell(f"{found}; they are left out, the first is {first}")
    return replace(index, frames=index.frames[kept])


def _measures(root: Path, row: object) -> bool:
    """Return True if a depth image of a row of an index holds a measurement, or cannot be read."""
    images, sizes = row.depth_images, np.reshape(row.depth_sizes, (-1, 2)).tolist()
    try:
        return not len(images) or any(
            read_depth(root / image, tuple(size)).any() for image, size in zip(images, sizes, strict=True)
        )
    except InputError:
        return True  # training names the file


def _medians(cameras: Iterable[Camera]) -> list[float]:
    """Return the median of the measured depths of each camera's depth image, metres, where there are any."""
    depths = [read_depth(camera.depth.image, camera.depth.size) for camera in cameras if camera.depth]
    return [float(np.median(depth[depth > 0])) for depth in depths if depth.any()]


def best_cameras(frame: Frame, cameras: tuple[Camera, ...], count: int) -> tuple[Camera, ...]:
    """Return the `count` of `cameras` with the most pairs, in their order.

    A sample whose random choice of images shows no point, as images without any depth do, takes these.
    """
    pairs: PixelPairs = pair(replace(frame, cameras=cameras))
    found = np.bincount(pairs.image, minlength=len(cameras))
    chosen = np.sort(np.argsort(-found, kind="stable")[:count])
    return tuple(cameras[number] for number in chosen)
