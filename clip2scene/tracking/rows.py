"""Parents in MLflow: a run a row of the table of experiments, with the mean over the runs of its seeds."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from clip2scene.experiments import Experiment
from clip2scene.reporting.base import Cell, Prediction, read_scores
from clip2scene.runs import Run
from clip2scene.stages.base import Protocol, get_stage
from clip2scene.study import Study
from clip2scene.tracking.words import named


@dataclass(frozen=True)
class Row:
    """Runs that differ in seeds alone, which MLflow shows under one parent.

    Attributes:
        key: The key that its runs would have without seeds.
        name: In words.
        parameters: What its runs have in common.
        runs: Predictions, and networks that were tuned for them; or pre-trainings.
        experiment: The row of the table of experiments; None for pre-trainings.
    """

    key: str
    name: str
    parameters: dict[str, str]
    runs: tuple[Run, ...]
    experiment: Experiment | None = None


def rows(study: Study) -> list[Row]:
    """Return the rows of a study's table of experiments, and the pre-trainings of more than one seed."""
    found, taken = {}, set()
    for experiment in study.experiments:
        cell = study.cell(experiment)
        tuned = [parent for run in cell for parent in study.parents(run).values() if _is_tuned(parent)]
        runs = tuple(run for run in dict.fromkeys([*tuned, *cell]) if run.key not in taken)
        taken |= {run.key for run in runs}
        if runs:
            key = _seedless(study, cell[0])
            values = experiment.model_dump(exclude={"pretrain_seeds", "seeds", "tables"})
            found[key] = Row(key, named(experiment), _texts(values), runs, experiment)
    others = defaultdict(list)
    for run in study.runs.values():
        if run.key not in taken and get_stage(run.kind).trains:
            others[_seedless(study, run)].append(run)
    for key, runs in others.items():
        if len(runs) > 1:
            values = {name: value for name, value in runs[0].fields().items() if name != "seed"}
            name = named(replace(runs[0], seed=0), runs[0].kind).replace(", seed 0", "")
            found[key] = Row(key, name, _texts(values), tuple(runs))
    return list(found.values())


def means(study: Study, row: Row, sent: set[str]) -> dict[str, float]:
    """Return the mean over the runs of a row and their spread, percent with two decimals as in tables.

    Args:
        study: The study.
        row: The row.
        sent: Keys of the runs that are finished.
    """
    predicted = [run for run in row.runs if run.key in sent and not _is_tuned(run)]
    if row.experiment is None or not predicted:
        return {}
    cell = Cell(row.experiment, {run: _as_one_keyframe(study, run) for run in predicted}, False)
    miou = cell.spread(lambda scores: 100 * scores.miou)
    std = miou.pretrain_std if miou.pretrain_std is not None else miou.finetune_std
    found = {"mIoU": miou.mean, "mIoU_std": std, "runs": float(len(predicted))}
    spreads = cell.spreads([100 * scores.iou for scores in cell.scores.values()])
    for name, spread in zip(cell.first.classes, spreads, strict=True):
        found[f"IoU/{name.replace(' ', '_')}"] = spread.mean
    return {
        name: round(float(value), 2) for name, value in found.items() if value is not None and value == value
    }


def _as_one_keyframe(study: Study, run: Run) -> Prediction:
    """Return what a run predicted, summed over keyframes.

    A mean over seeds needs no scenes, and so no index: that may be gone, as after a workflow that failed.
    """
    scores = read_scores(study, run)
    classes = next(iter(scores.values())).classes
    return Prediction(classes, {points: of.confusion[None] for points, of in scores.items()}, ("",), ("",))


def _is_tuned(run: Run) -> bool:
    """Say whether a run is the training that a protocol asks for, which belongs to one row."""
    stage = get_stage(run.kind)
    return isinstance(stage, Protocol) and stage.trains


def _seedless(study: Study, run: Run) -> str:
    start = None if run.pretrain_seed is None else 0
    return study.keyed(replace(run, key="", seed=0, pretrain_seed=start)).key


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value not in ("", None, 0)}
