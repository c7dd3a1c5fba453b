"""Rules by which a share of the labels is drawn. The table of experiments is checked with them: no torch."""

from pathlib import Path

from clip2scene.errors import InputError

RULES = ("frame_skip", "scene_skip")
"""Rules that take every n-th keyframe, or every n-th scene; see `clip2scene.datasets.fractions`."""
SMALLEST = 0.001
"""Smallest share, percent: one keyframe in 100,000, fewer than any data set has."""
TOLERANCE = 0.02
"""Relative difference up to which a share counts as the one that a rule draws: 33 % is every third."""


def id_file(rule: str) -> Path | None:
    """Return the list of keyframe ids that a rule ``file:<path>`` names; None for any other rule."""
    return Path(rule.removeprefix("file:")) if rule.startswith("file:") else None


def skip_of(percent: float, rule: str) -> int:
    """Return n for a rule that takes every n-th scene or keyframe.

    Raises:
        InputError: no n gives this share; the message names the nearest shares.
    """
    if not SMALLEST <= percent <= 100:
        raise InputError(f"percent: found {percent:g}, expected {SMALLEST} to 100")
    skip = round(100 / percent)
    if abs(100 / skip - percent) > TOLERANCE * percent:
        smaller, larger = (100 / n for n in (int(100 / percent) + 1, int(100 / percent)))
        raise InputError(
            f"{rule} cannot draw {percent:g} % of the labels, as it takes every n-th; the nearest shares are "
            f"{smaller:.4g} and {larger:.4g} % (or list the keyframes: file:<path>)"
        )
    return skip
