"""Attribution: which classes and which scenes the difference of two runs comes from."""

from collections.abc import Iterator

import numpy as np

from clip2scene.reporting.base import Prediction, read_prediction
from clip2scene.reporting.columns import number, p_value
from clip2scene.reporting.statistics import intervals, paired_p, scores
from clip2scene.runs import Run
from clip2scene.study import Study


def by_class(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what each class adds to the difference of two runs' mIoU.

    Args:
        first: [U, 2, C] hits and unions of one run.
        second: Those of the other.

    Returns:
        [C] points of percent that add up to the difference, second less first: the class's IoU as a share of
        the mean. A class that a run lacks adds nothing to that run's mean.
    """
    shares = []
    for totals in (first, second):
        iou = scores(totals.sum(axis=0)[None])[1:]
        shares.append(np.nan_to_num(iou) / max((~np.isnan(iou)).sum(), 1))
    return shares[1] - shares[0]


def by_unit(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return by how much two runs' difference in mIoU shrinks without each unit, [U] points of percent."""
    sums = [totals.sum(axis=0) - totals for totals in (first, second)]  # [U, 2, C] without each unit
    whole, without = (
        scores(b[None])[0] - scores(a[None])[0]
        for a, b in ((first.sum(axis=0), second.sum(axis=0)), tuple(sums))
    )
    return whole - without


def attribution(study: Study, first: Run, second: Run, most: int = 5) -> Iterator[str]:
    """Yield the difference of two runs that predict in lines: its interval, its classes and its scenes.

    Args:
        study: The study.
        first: The run that is subtracted.
        second: The other one.
        most: Number of classes and of scenes to name.

    Raises:
        InputError: a run is not finished, or its file is damaged.
    """
    one, two = (read_prediction(study, run) for run in (first, second))
    points = one.points if one.points in two.counts else two.points
    if points not in one.counts or one.classes != two.classes:
        yield "mIoU: the two runs score other points or classes, so that they cannot be compared"
        return
    values = [100 * each.scores(points).miou for each in (one, two)]
    if one.ids != two.ids:
        yield f"mIoU {values[0]:.2f} and {values[1]:.2f}, of different keyframes: no paired interval"
        return
    yield from _lines(one, two, points, values, most)


def _lines(one: Prediction, two: Prediction, points: str, values: list[float], most: int) -> Iterator[str]:
    first, second = one.totals(points), two.totals(points)
    interval = intervals([second[None], first[None]])[0]
    unit = "scenes" if one.by_scene else "keyframes"
    difference = number(interval.value, interval.low, interval.high, "+")
    p = p_value(paired_p(second[None], first[None]))
    yield f"mIoU {values[0]:.2f} → {values[1]:.2f}, difference {difference} over {len(first)} {unit}, p {p}"
    names = list(dict.fromkeys(one.scenes if one.by_scene else one.ids))
    for what, labels, shares in (
        ("classes", one.classes, by_class(first, second)),
        (f"{unit} (what goes if one is left out)", names, by_unit(first, second)),
    ):
        largest = [at for at in np.argsort(-np.abs(shares), kind="stable")[:most] if abs(shares[at]) >= 0.005]
        listed = ", ".join(f"{labels[at]} {shares[at]:+.2f}" for at in largest)
        yield f"{what}: {listed or 'none stands out'}"
