"""Crops of synthetic images with captions, from which a small CLIP can be trained."""

import numpy as np
import pandas as pd

from clip2scene.synthetic.categories import CLASSES, THINGS, category_id, prompt
from clip2scene.synthetic.raycast import View
from clip2scene.synthetic.world import World

_SMALLEST, _LARGEST = 24, 96
_PER_CLASS = 2
_THING_SHARE, _STUFF_SHARE = 0.15, 0.6
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


def caption_image(world: World, view: View, image: str, rng: np.random.Generator) -> pd.DataFrame:
    """Crops of one image, up to two a class, in each of which that class is the main one.

    A thing is the main class of a crop around it once it covers a share of it and no other kind of thing covers
    half as much; stuff has to cover most of the crop.

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
        if not shown.any():
            continue
        for _ in range(_PER_CLASS):
            place = rng.choice(np.flatnonzero(shown))
            thing = int(owner.flat[place]) if name in THINGS else -1
            x0, y0, x1, y1 = _bounds(owner == thing if thing >= 0 else None, int(place), shown.shape, rng)
            counts = np.bincount(view.category[y0:y1, x0:x1].ravel(), minlength=32)
            if _is_main(name, counts / counts.sum()):
                colour = world.things[thing].shape.colour if thing >= 0 else ""
                words = _words(name, colour, counts, rng)
                rows.append((image, x0, y0, x1, y1, words, prompt(name)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _bounds(
    mask: np.ndarray | None, place: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A square around a thing's pixels with some margin, or of any size around a pixel of stuff."""
    height, width = size
    y, x = divmod(place, width)
    side = rng.uniform(_SMALLEST, _LARGEST)
    if mask is not None:
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        extent = max(ys[-1] - ys[0], xs[-1] - xs[0]) + 1
        if extent <= _LARGEST:
            side = extent * rng.uniform(0.9, 1.4)
            y, x = (ys[0] + ys[-1]) / 2, (xs[0] + xs[-1]) / 2
            y, x = y + rng.normal(0, 0.06 * extent), x + rng.normal(0, 0.06 * extent)
    side = int(np.clip(side, _SMALLEST, min(_LARGEST, height, width)))
    x0 = int(np.clip(round(x - side / 2), 0, width - side))
    y0 = int(np.clip(round(y - side / 2), 0, height - side))
    return x0, y0, x0 + side, y0 + side


def _is_main(name: str, share: np.ndarray) -> bool:
    """Whether a class is what a crop shows, from the shares of all categories [32]."""
    own = share[category_id(name)]
    if name not in THINGS:
        return own >= _STUFF_SHARE
    others = max(share[category_id(other)] for other in THINGS if other != name)
    return own >= _THING_SHARE and others < own / 2


def _words(name: str, colour: str, counts: np.ndarray, rng: np.random.Generator) -> str:
    """A sentence on the main class, at times with its colour or with what is beside it."""
    subject = prompt(name)
    if colour and rng.random() < 0.3:
        subject = f"{colour} {subject}"
    beside = max((other for other in CLASSES if other != name), key=lambda other: counts[category_id(other)])
    if counts[category_id(beside)] > 0.2 * counts.sum() and rng.random() < 0.15:
        subject = f"{subject} next to a {prompt(beside)}"
    return _SENTENCES[rng.integers(len(_SENTENCES))].format(subject)
