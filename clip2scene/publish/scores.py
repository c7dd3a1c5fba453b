"""Scores of runs and of networks in their study, with their intervals."""

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
        if (
            trained is not None
            and trained.key == run.key
            and finished(layout.run_folder(study.config, other))
        ):
            found += scores_of(study, other)
    return found


def scores_of(study: Study, run: Run) -> list[Score]:
    """Return the scores of a finished run that predicts, by set of points."""
    prediction = read_prediction(study, run)
    unit = "scene" if prediction.by_scene else "keyframe"
    found = []
    for points in prediction.counts:
        miou, *classes = intervals([prediction.totals(points)[None]])
        found.append(Score(run, points, unit, miou, dict(zip(prediction.classes, classes, strict=True))))
    return found
