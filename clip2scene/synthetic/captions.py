"""Crops of synthetic images with captions, from which a small CLIP can be trained."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clip2scene.synthetic.categories import CLASSES, THINGS, category_id, prompt
from clip2scene.synthetic.raycast import View

if TYPE_CHECKING:
    from clip2scene.synthetic.rooms import Room
    from clip2scene.synthetic.world import World

Rng = np.random.Generator
Bounds = tuple[int, int, int, int]
Row = tuple[str, int, int, int, int, str, str]

_SMALLEST, _LARGEST = 24, 96
_SMALLEST_AREA = 30
_THINGS, _STUFF = 6, 3
_STUFF_SHARE = 0.5
_SENTENCES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a low resolution photo of a {}.",
    "a photo of a {} {place}.",
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "a {} in the scene.",
    "{}",
)
COLUMNS = ("image", "x0", "y0", "x1", "y1", "caption", "name")
"""What a row of ``captions.parquet`` holds: path, bounds in pixels, sentence, class prompt."""


@dataclass(frozen=True)
class Vocabulary:
    """The classes of a data set and what captions call them.

    Attributes:
        ids: Label id of each class.
        things: Classes of which there are single ones, with bounds; the others are stuff.
        prompts: What each class is called.
        place: Where it all is.
        close_ups: How many parts of a thing are cropped beside all of it.
        thing_share: How much of a crop a thing has to cover to be its main class.
    """

    ids: Mapping[str, int]
    things: Sequence[str]
    prompts: Mapping[str, str]
    place: str
    close_ups: int = 0
    thing_share: float = 0.10


STREETS = Vocabulary(
    {name: category_id(name) for name in CLASSES},
    THINGS,
    {name: prompt(name) for name in CLASSES},
    "on the street",
)


def caption_image(
    scene: "World | Room", view: View, image: str, rng: Rng, words: Vocabulary = STREETS
) -> list[Row]:
    """Crops of one image, up to `_THINGS` or `_STUFF` a class, in each of which that class is the main one.

    A thing is the main class of a crop around it once it covers a share of it and no other kind of thing
    covers nearly as much; stuff has to cover most of the crop.

    Args:
        scene: For the colours of its things.
        view: What the pixels of the image show.
        image: Its path, for the rows.
        rng: Chooses places, sizes and words.
        words: The classes, and what they are called.

    Returns:
        Rows of `COLUMNS`: path, bounds of the crop in pixels (x1 and y1 exclusive), caption, class prompt.
    """
    owner = np.full(view.index.shape, -1)
    hit = view.index >= 0
    owner[hit] = view.primitives.owner[view.index[hit]]
    rows = []
    for name, number in words.ids.items():
        shown = view.category == number
        crops = _things(scene, owner, shown, rng, words) if name in words.things else _stuff(shown, rng)
        for colour, bounds in crops:
            x0, y0, x1, y1 = bounds
            counts = np.bincount(view.category[y0:y1, x0:x1].ravel(), minlength=256)
            if _is_main(name, counts / counts.sum(), words):
                rows.append(
                    (image, *bounds, _sentence(name, colour, counts, rng, words), words.prompts[name])
                )
    return rows


def _things(
    scene: "World | Room", owner: np.ndarray, shown: np.ndarray, rng: Rng, words: Vocabulary
) -> Iterator[tuple[str, Bounds]]:
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
        colour = scene.things[thing].shape.colour
        yield colour, _square(y, x, side, owner.shape)
        for place in rng.integers(len(rows), size=words.close_ups):
            side = np.exp(rng.uniform(np.log(_SMALLEST), np.log(np.clip(extent, _SMALLEST, _LARGEST))))
            yield colour, _square(rows[place], columns[place], side, owner.shape)


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


def _is_main(name: str, share: np.ndarray, words: Vocabulary) -> bool:
    """Whether a class is what a crop shows, from the shares of all label ids [256]."""
    own = share[words.ids[name]]
    if name not in words.things:
        return own >= _STUFF_SHARE
    others = max(share[words.ids[other]] for other in words.things if other != name)
    return own >= words.thing_share and others < 0.7 * own


def _sentence(name: str, colour: str, counts: np.ndarray, rng: Rng, words: Vocabulary) -> str:
    """A sentence on the main class, at times with its colour or with what is beside it."""
    subject = words.prompts[name]
    if colour and rng.random() < 0.3:
        subject = f"{colour} {subject}"
    beside = max((other for other in words.ids if other != name), key=lambda other: counts[words.ids[other]])
    if counts[words.ids[beside]] > 0.2 * counts.sum() and rng.random() < 0.15:
        subject = f"{subject} next to a {words.prompts[beside]}"
    return _SENTENCES[rng.integers(len(_SENTENCES))].format(subject, place=words.place)
