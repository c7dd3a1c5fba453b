"""Captioned crops of synthetic images, as training data for a small CLIP."""

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
"""Columns of ``captions.parquet``: image path, bounds in pixels, caption, class prompt."""


@dataclass(frozen=True)
class Vocabulary:
    """Classes of a data set and the words that captions use for them.

    Attributes:
        ids: Label id of each class.
        things: Countable classes, whose objects are cropped one by one; all other classes are stuff.
        prompts: Name of each class in captions.
        place: Phrase that says where the scene is, e.g. ``on the street``.
        close_ups: Number of extra crops of parts of each thing, besides the crop of all of it.
        thing_share: Minimum share of a crop that a thing class must cover to be its main class.
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
    """Crop an image around each class that it shows, and caption each crop with its main class.

    At most `_THINGS` things or `_STUFF` patches of stuff are tried per class. A crop is kept only if that
    class is its main class. A thing class is the main class if it covers enough of the crop
    (`Vocabulary.thing_share`) and no other thing class covers nearly as much. A stuff class must cover at
    least half of the crop.

    Args:
        scene: Supplies the colours of its things.
        view: Hits of the image's rays.
        image: Path of the image, for the rows.
        rng: Generator for places, sizes and words.
        words: Vocabulary of the data set.

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
    """Yield the colour name of things of one class, and squares around their pixels with some margin.

    A thing larger than the largest crop is cropped in part. `owner` [H, W] holds the thing at each pixel or
    -1, `shown` [H, W] bool marks the pixels of the class.
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
    """Yield squares of random size around pixels of a stuff class, which has no colour name."""
    pixels = np.flatnonzero(shown)
    for place in rng.choice(pixels, _STUFF) if len(pixels) else ():
        side = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
        yield "", _square(*divmod(int(place), shown.shape[1]), side, shown.shape)


def _square(y: float, x: float, side: float, size: tuple[int, int]) -> Bounds:
    """Return x0, y0, x1, y1 of a square around (y, x), with its side clipped and moved into the image."""
    height, width = size
    side = int(np.clip(side, _SMALLEST, _LARGEST))
    side_y, side_x = min(side, height), min(side, width)
    x0 = int(np.clip(round(x - side_x / 2), 0, width - side_x))
    y0 = int(np.clip(round(y - side_y / 2), 0, height - side_y))
    return x0, y0, x0 + side_x, y0 + side_y


def _is_main(name: str, share: np.ndarray, words: Vocabulary) -> bool:
    """Return whether a class is the main class of a crop, from the pixel shares of all label ids [256]."""
    own = share[words.ids[name]]
    if name not in words.things:
        return own >= _STUFF_SHARE
    others = max(share[words.ids[other]] for other in words.things if other != name)
    return own >= words.thing_share and others < 0.7 * own


def _sentence(name: str, colour: str, counts: np.ndarray, rng: Rng, words: Vocabulary) -> str:
    """Return a caption for the main class, sometimes with its colour or with a neighbouring class."""
    subject = words.prompts[name]
    if colour and rng.random() < 0.3:
        subject = f"{colour} {subject}"
    beside = max((other for other in words.ids if other != name), key=lambda other: counts[words.ids[other]])
    if counts[words.ids[beside]] > 0.2 * counts.sum() and rng.random() < 0.15:
        subject = f"{subject} next to a {words.prompts[beside]}"
    return _SENTENCES[rng.integers(len(_SENTENCES))].format(subject, place=words.place)
