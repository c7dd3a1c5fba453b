"""Palettes of pictures: the data sets' own colours, and colours for colour-blind readers."""

import numpy as np

from clip2scene.datasets.vocabulary import SAFE_COLOURS

PALETTES = ("official", "colour-blind")
"""The data set's own colours, or colours that colour-blind readers tell apart too."""
NONE = np.array([217, 217, 217], np.uint8)
"""Colour of points without a class."""


def palette_of(colours: np.ndarray, palette: str = "official") -> np.ndarray:
    """Return the colours [C + 1, 3] uint8 of classes 0..C, given the data set's own [C, 3]."""
    if palette == "colour-blind":
        colours = np.resize(SAFE_COLOURS, colours.shape)
    return np.vstack([NONE, colours])
