"""A section of the report a run: settings, curves, IoU, confusion matrix, cost, the command that makes it."""

from dataclasses import dataclass
from html import escape

import pandas as pd
from markupsafe import Markup
from plotly.graph_objects import Figure

from clip2scene import layout
from clip2scene.experiments import Experiment
from clip2scene.explain import provenance
from clip2scene.report import plots
from clip2scene.report.tables import linked
from clip2scene.reporting.base import read_prediction
from clip2scene.run_files import finished, read_log, read_metrics, refuse_missing
from clip2scene.runs import Run, flat
from clip2scene.study import Study

POINTS = 200
"""Most points of a curve."""
_NOT_DRAWN = ("step", "epoch", "learning_rate", "samples_per_second")
PREDICTS = "confusion.npz"


@dataclass(frozen=True)
class Section:
    """Section of the report on a run.

    Attributes:
        run: The run.
        finished: Whether it is.
        provenance: Files, settings, seed, commit, data and commands, as HTML; keys of runs are links.
        scores: mIoU in percent, by set of points.
        cost: What it cost, by name.
        figures: Curves, IoU and confusion matrix, by caption.
    """

    run: Run
    finished: bool
    provenance: Markup
    scores: dict[str, str]
    cost: dict[str, str]
    figures: dict[str, Figure]


def section(study: Study, run: Run, config: str) -> Section:
    """Return the section of a run.

    Args:
        study: The study.
        run: The run, with its key.
        config: Path of the configuration, for the commands.

    Raises:
        InputError: a file of the run is damaged.
    """
    text = Markup(linked(escape("\n".join(provenance(study, run, config)), quote=False), study.runs))
    folder = layout.run_folder(study.config, run)
    if not finished(folder):
        return Section(run, False, text, {}, {}, {})
    figures, scores, cost = {}, {}, {}
    if (folder / "metrics.jsonl").exists():
        steps = curves_of(study, run)
        figures["What it logged, mean over neighbouring steps."] = plots.curves(steps)
    if (folder / "metrics.json").exists():
        cost = {name: f"{value:g}" for name, value in flat(read_metrics(folder).get("cost", {})).items()}
    if (folder / PREDICTS).exists():
        prediction = read_prediction(study, run)
        scores = {points: f"{100 * prediction.scores(points).miou:.2f}" for points in prediction.counts}
        iou = prediction.scores().iou
        figures[f"IoU of each class over {prediction.points} points, percent."] = plots.ious(
            prediction.classes, iou
        )
        figures[
            f"Confusion matrix over {prediction.points} points: of the points with a label (rows), the "
            "percentage that is given each class (columns)."
        ] = plots.confusion(prediction.counts[prediction.points].sum(axis=0), prediction.classes)
    return Section(run, True, text, scores, cost, figures)


def curves_of(study: Study, run: Run, only: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return what a run logged, a row a step and quantity, averaged to `POINTS` points at most.

    Args:
        study: The study.
        run: The run.
        only: Quantities; all of them, but for the speed and the learning rate, if none are named.

    Raises:
        InputError: the log is damaged.
    """
    log = pd.DataFrame(read_log(layout.run_folder(study.config, run) / "metrics.jsonl"))
    names = [name for name in log if name not in _NOT_DRAWN and (not only or name in only)]
    group = log.index * min(POINTS, len(log)) // len(log)
    means = log.groupby(group)[["step", *names]].mean().round(dict.fromkeys(names, 4))
    long = means.melt("step", names, "quantity", "value").dropna(subset="value")
    return long.assign(quantity=long["quantity"].str.replace("_", " "))


def training(study: Study) -> dict[str, Figure]:
    """Return figures of the runs that train a network, those of one stage and data set on one axis."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in study.runs.values():
        trains = run.kind in ("pretrain", "finetune", "linear_probe")
        folder = layout.run_folder(study.config, run)
        if trains:
            refuse_missing(folder, "metrics.jsonl")
        if trains and finished(folder):
            share = plots.share_of(run.percent, run.rule) if run.percent else ""
            words = (run.kind.replace("_", "-"), run.target or run.pretrain, share, run.backbone)
            groups.setdefault(tuple(word for word in words if word), []).append(run)
    figures = {}
    looks = plots.Looks(list(dict.fromkeys(map(_network, [*study.experiments, *study.runs.values()]))))
    for words, runs in groups.items():
        logs = []
        for run in runs:
            row = plots.named(_network(run), run.pretrain, run.target or run.pretrain)
            log = curves_of(study, run, ("loss", "validation_miou"))
            logs.append(log.assign(row=row, run=f"{row}, {_seeds(run)}"))
        for number, steps in looks.parts(pd.concat(logs)):
            figures[", ".join(words) + number] = plots.curves(steps, looks)
    return figures


def _network(of: Run | Experiment) -> str:
    return " ".join(word for word in (of.method, of.recipe, of.variant) if word)


def _seeds(run: Run) -> str:
    return f"seed {run.seed}" if run.pretrain_seed is None else f"seeds {run.pretrain_seed}, {run.seed}"
