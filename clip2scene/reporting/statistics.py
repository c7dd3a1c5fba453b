"""Uncertainty of a mIoU: intervals and paired tests over scenes, corrected for the number of comparisons.

A unit is what is resampled: a validation scene, or a keyframe where there are fewer than `FEWEST_SCENES`
scenes. An interval over units says how a number would vary on another validation set of this kind, for the
networks as they were trained. How it varies with the training is the spread over seeds, stated separately.

Resampling is a matrix product: how often each unit is drawn, times its hits and unions. These are integers,
which float64 adds without rounding, so that the order of a sum changes nothing.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clip2scene.evaluation.metrics import mean_iou, ratio

RESAMPLES = 2000
PERMUTATIONS = 9999
CONFIDENCE = 0.95
FEWEST_SCENES = 8
"""With fewer scenes, keyframes are resampled: eight scenes give 2^8 = 256 ways to swap two methods, the first
number that can give p < 0.01."""
_SEED = 0
_NUMBERS_AT_ONCE = 4_000_000
"""Resamples times units in memory: SemanticKITTI's 4,071 validation scans make 1,000 resamples at a time."""


@dataclass(frozen=True)
class Interval:
    """A number, percent, and its 95 % interval; NaN where a resample leaves it undefined."""

    value: float
    low: float
    high: float


def totals(counts: np.ndarray, units: Sequence[str]) -> np.ndarray:
    """Add up the hits and the union of every class over the keyframes of each unit.

    Args:
        counts: [F, C + 1, C + 1] integers, a confusion matrix a keyframe.
        units: Unit of each keyframe.

    Returns:
        [U, 2, C] float64, exact integers: hits, then unions, of classes 1..C; units in order of appearance.
    """
    number = {unit: position for position, unit in enumerate(dict.fromkeys(units))}
    labelled = counts[:, 1:]
    hits = np.diagonal(labelled, offset=1, axis1=1, axis2=2)
    unions = labelled.sum(2) + labelled[:, :, 1:].sum(1) - hits
    found = np.zeros((len(number), 2, hits.shape[1]))
    np.add.at(found, [number[unit] for unit in units], np.stack([hits, unions], axis=1))
    return found


def scores(sums: np.ndarray) -> np.ndarray:
    """Return mIoU and the IoU of every class, percent, mean over runs.

    Args:
        sums: [K, ..., 2, C] hits and unions of K runs.

    Returns:
        [1 + C, ...]: first the mIoU. A class that a run has neither in labels nor in predictions is NaN and
        does not enter that run's mIoU, as in `clip2scene.evaluation.metrics`.
    """
    iou = _ious(sums)
    of_run = np.concatenate([mean_iou(iou)[..., None], iou], axis=-1)
    return np.moveaxis(_mean_over_runs(of_run), -1, 0)


def intervals(sides: Sequence[np.ndarray]) -> list[Interval]:
    """Return a cell's mIoU and IoUs, or the difference of two cells, each with its interval over units.

    The percentile bootstrap with 2000 resamples (`scipy.stats.bootstrap`), its level expanded for few units
    as a t-interval's is (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 4.3). In a
    simulation with 8 to 40 scenes it covers the truth in 91 to 95 % of studies, where a plain percentile or
    BCa interval covers it in 86 to 91 %. The units of two cells are drawn together, so that what makes a
    scene hard for both cancels.

    Args:
        sides: One cell, or two of the same units: [K, U, 2, C] of K runs each, see `totals`.

    Returns:
        1 + C intervals, percent: of the mIoU, then of each class. A class that a resample lacks has none.
    """
    from scipy import stats  # not at the top: the Snakefile imports this module, and scipy takes 0.5 s

    def statistic(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        return _difference(*(scores(_drawn(side, drawn)) for side in sides))

    units = sides[0].shape[1]
    every = np.arange(units)
    values = statistic(every)
    if units < 2:
        return [Interval(value, np.nan, np.nan) for value in values.tolist()]
    tail = stats.norm.cdf((units / (units - 1)) ** 0.5 * stats.t.ppf((1 - CONFIDENCE) / 2, units - 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (every,), statistic, vectorized=True, n_resamples=RESAMPLES, confidence_level=1 - 2 * tail,
            method="percentile", rng=np.random.default_rng(_SEED), batch=_batch(units),
        ).confidence_interval  # fmt: skip
    ends = zip(values.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    return [Interval(*each) for each in ends]


def paired_p(first: np.ndarray, second: np.ndarray) -> float:
    """Return the two-sided p-value of no difference in mIoU, by exchanging two cells unit by unit.

    If two methods were alike, each unit could as well have been predicted by the other. The test counts how
    often such exchanges give a difference as large as the one that was found (`scipy.stats.permutation_test`;
    all 2^U exchanges for few units, else 9999). Runs of the two cells are exchanged in all pairs, so that
    their numbers may differ.

    Args:
        first: [K, U, 2, C] of K runs, see `totals`.
        second: [L, U, 2, C] of L runs.
    """
    from scipy import stats

    units = first.shape[1]
    if units < 2:
        return float("nan")

    def statistic(mine: np.ndarray, other: np.ndarray, axis: int = -1) -> np.ndarray:
        swapped = np.asarray(mine >= units, dtype=np.float64)  # [..., U]
        kept, given = (
            [_weighted(side, taken) for side in (first, second)] for taken in (1 - swapped, swapped)
        )
        one, two = kept[0][:, None] + given[1], kept[1] + given[0][:, None]  # [K, L, ..., 2, C], integers
        return np.round(_miou(one) - _miou(two), 9)  # a tie of equal sums stays one

    every = np.arange(units)
    found = stats.permutation_test(
        (every, every + units), statistic, permutation_type="samples", vectorized=True,
        n_resamples=PERMUTATIONS, rng=np.random.default_rng(_SEED), batch=_batch(units),
    )  # fmt: skip
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, by Holm's method; those that are NaN are not counted."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p_values, dtype=np.float64)
    there = ~np.isnan(values)
    if there.any():
        values[there] = multipletests(values[there], method="holm")[1]
    return values.tolist()


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of numbers and its 95 % Student interval; NaN for fewer than two."""
    from scipy import stats

    numbers = np.asarray(values, dtype=np.float64)
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return Interval(mean, np.nan, np.nan)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1) * numbers.std(ddof=1) / len(numbers) ** 0.5
    return Interval(mean, mean - half, mean + half)


def _batch(units: int) -> int:
    """Return how many resamples are computed at once."""
    return max(1, _NUMBERS_AT_ONCE // units)


def _difference(first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    return first if second is None else first - second


def _drawn(side: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Add up the units that were drawn: [K, U, 2, C] and indices [..., n] to [K, ..., 2, C]."""
    flat = drawn.reshape(-1, drawn.shape[-1])
    times = np.zeros((len(flat), side.shape[1]))  # how often each unit was drawn
    np.add.at(times, (np.arange(len(flat))[:, None], flat), 1)
    return _weighted(side, times.reshape(*drawn.shape[:-1], side.shape[1]))


def _weighted(side: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add up units: [K, U, 2, C] with weights [..., U] to [K, ..., 2, C]."""
    return np.einsum("...u,kud->k...d", weights, side.reshape(*side.shape[:2], -1), optimize=True).reshape(
        len(side), *weights.shape[:-1], *side.shape[2:]
    )


def _miou(sums: np.ndarray) -> np.ndarray:
    """Return the mIoU, percent, mean over all pairs of runs: [K, L, ..., 2, C] to [...]."""
    return _mean_over_runs(mean_iou(_ious(sums)).reshape(-1, *sums.shape[2:-2]))


def _ious(sums: np.ndarray) -> np.ndarray:
    """Return IoUs, percent: [..., 2, C] hits and unions to [..., C]."""
    return 100 * ratio(sums[..., 0, :], sums[..., 1, :])


def _mean_over_runs(values: np.ndarray) -> np.ndarray:
    """Return the mean over runs that have a number, [K, ...] to [...]."""
    return mean_iou(np.moveaxis(values, 0, -1))
