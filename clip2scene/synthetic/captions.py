"""Crops of synthetic images with captions, from which a small CLIP can be trained."""

from collections.abc import Iterator

import numpy as np

from clip2scene.synthetic.categories import CATEGORIES, CLASSES, THINGS, category_id, prompt
from clip2scene.synthetic.raycast import View
from clip2scene.synthetic.world import World

Rng = np.random.Generator
Bounds = tuple[int, int, int, int]
Row = tuple[str, int, int, int, int, str, str]

_SMALLEST, _LARGEST = 24, 96
_SMALLEST_AREA = 30
_THINGS, _STUFF = 6, 3
_THING_SHARE, _STUFF_SHARE = 0.10, 0.5
_SENTENCES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a low resolution photo of a {}.",
    "a photo of a {} on the street.",
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "a {} in the scene.",
    "{}",
)
COLUMNS = ("image", "x0", "y0", "x1", "y1", "caption", "name")
"""What a row of ``captions.parquet`` holds: path, bounds in pixels, sentence, class prompt."""


def caption_image(world: World, view: View, image: str, rng: Rng) -> list[Row]:
    """Crops of one image, up to `_THINGS` or `_STUFF` a class, in each of which that class is the main one.

    A thing is the main class of a crop around it once it covers a share of it and no other kind of thing
    covers nearly as much; stuff has to cover most of the crop.

    Args:
        world: For the colours of its things.
        view: What the pixels of the image show.
        image: Its path, for the rows.
        rng: Chooses places, sizes and words.

    Returns:
        Rows of `COLUMNS`: path, bounds of the crop in pixels (x1 and y1 exclusive), caption, class prompt.
    """
    owner = np.full(view.index.shape, -1)
    hit = view.index >= 0
    owner[hit] = view.primitives.owner[view.index[hit]]
    rows = []
    for name in CLASSES:
        shown = view.category == category_id(name)
        for colour, bounds in _things(world, owner, shown, rng) if name in THINGS else _stuff(shown, rng):
            x0, y0, x1, y1 = bounds
            counts = np.bincount(view.category[y0:y1, x0:x1].ravel(), minlength=len(CATEGORIES))
            if _is_main(name, counts / counts.sum()):
                rows.append((image, *bounds, _words(name, colour, counts, rng), prompt(name)))
    return rows


def _things(world: World, owner: np.ndarray, shown: np.ndarray, rng: Rng) -> Iterator[tuple[str, Bounds]]:
    """The colours of things of a class, and squares around their pixels with some margin.

    Of a thing that fills more than the largest crop, a part is taken.
    """
    things, areas = np.unique(owner[shown], return_counts=True)
    for thing in rng.permutation(things[areas >= _SMALLEST_AREA])[:_THINGS]:
        rows, columns = np.nonzero(owner == thing)
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        if extent <= _LARGEST:
            side = extent * rng.uniform(0.9, 1.4)
            y, x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
        else:
            side = rng.uniform(_LARGEST / 2, _LARGEST)
            place = rng.integers(len(rows))
            y, x = rows[place], columns[place]
        y, x = y + rng.normal(0, 0.06 * side), x + rng.normal(0, 0.06 * side)
        yield world.things[thing].shape.colour, _square(y, x, side, owner.shape)


def _stuff(shown: np.ndarray, rng: Rng) -> Iterator[tuple[str, Bounds]]:
    """Squares of any size around pixels of a class; stuff has no colour to name."""
    pixels = np.flatnonzero(shown)
    for place in rng.choice(pixels, _STUFF) if len(pixels) else ():
        side = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
        yield "", _square(*divmod(int(place), shown.shape[1]), side, shown.shape)


def _square(y: float, x: float, side: float, size: tuple[int, int]) -> Bounds:
    """x0, y0, x1, y1 of a square around a place, of a size within limits, moved into the image."""
    height, width = size
    side = int(np.clip(side, _SMALLEST, _LARGEST))
    side_y, side_x = min(side, height), min(side, width)
    x0 = int(np.clip(round(x - side_x / 2), 0, width - side_x))
    y0 = int(np.clip(round(y - side_y / 2), 0, height - side_y))
    return x0, y0, x0 + side_x, y0 + side_y


def _is_main(name: str, share: np.ndarray) -> bool:
    """Whether a class is what a crop shows, from the shares of all categories [32]."""
    own = share[category_id(name)]
    if name not in THINGS:
        return own >= _STUFF_SHARE
    others = max(share[category_id(other)] for other in THINGS if other != name)
    return own >= _THING_SHARE and others < 0.7 * own


def _words(name: str, colour: str, counts: np.ndarray, rng: Rng) -> str:
    """A sentence on the main class, at times with its colour or with what is beside it."""
    subject = prompt(name)
    if colour and rng.random() < 0.3:
        subject = f"{colour} {subject}"
    beside = max((other for other in CLASSES if other != name), key=lambda other: counts[category_id(other)])
    if counts[category_id(beside)] > 0.2 * counts.sum() and rng.random() < 0.15:
        subject = f"{subject} next to a {prompt(beside)}"
    return _SENTENCES[rng.integers(len(_SENTENCES))].format(subject)
