"""Scores of a network in its study, with their intervals."""

from dataclasses import dataclass

from clip2scene import layout
from clip2scene.reporting.base import read_prediction
from clip2scene.reporting.statistics import Interval, intervals
from clip2scene.run_files import finished
from clip2scene.runs import Run
from clip2scene.study import Study


@dataclass(frozen=True)
class Score:
    """Scores of a network in one run.

    Attributes:
        run: The run that predicts.
        points: Set of points: ``all``, or ``visible`` to a camera.
        unit: What was resampled for the intervals: ``scene`` or ``keyframe``.
        miou: mIoU, percent.
        classes: IoU of each class, percent; not a number where it does not occur.
    """

    run: Run
    points: str
    unit: str
    miou: Interval
    classes: dict[str, Interval]


def scores_of_network(study: Study, run: Run) -> list[Score]:
    """Return the scores of the finished runs of the study that evaluate a run's network, in their order."""
    found = []
    for other in study.runs.values():
        if other.kind not in ("predict", "annotation_free"):
            continue
        trained = study.parents(other).get("network")
        if trained is None or trained.key != run.key or not finished(layout.run_folder(study.config, other)):
            continue
        prediction = read_prediction(study, other)
        unit = "scene" if prediction.by_scene else "keyframe"
        for points in prediction.counts:
            miou, *classes = intervals([prediction.totals(points)[None]])
            by_class = dict(zip(prediction.classes, classes, strict=True))
            found.append(Score(other, points, unit, miou, by_class))
    return found
