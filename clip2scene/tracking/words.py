"""Words of runs in MLflow: names that tell runs apart, and the columns that compare methods."""

import json
from pathlib import Path

from clip2scene.experiments import Experiment
from clip2scene.runs import Run

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The tag by which MLflow's page opens an experiment at its training runs, and not at traces of chats."""
_VIEW = "mlflow.sharedViewState."  # and the view's id; MLflow's page lists these tags as saved views
_NAME = "attributes.`Run Name`"
_MIOU = "metrics.`mIoU`"
_SAID = {"target": 105, "percent": 75, "rule": 100, "method": 150, "recipe": 75, "pretrain": 105}
_COLUMNS = {
    "methods": {_MIOU: 75, "metrics.`mIoU_std`": 90, "metrics.`runs`": 60}
    | {f"params.`{name}`": width for name, width in (_SAID | {"protocol": 120, "backbone": 100}).items()},
    "runs": {_MIOU: 90}
    | {f"params.`{name}`": width for name, width in (_SAID | {"pretrain_seed": 110, "seed": 60}).items()}
    | {"attributes.`Models`": 200},
}
"""Columns of each view and their widths, pixels."""


def page(experiment: str) -> str:
    """Return the part of an address that opens an experiment at the means over seeds of its methods.

    The page of MLflow 3.17 remembers in the browser whether it shows chats or training, and not in a tag.
    """
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey=methods"


def named(item: Run | Experiment, *more: str) -> str:
    """Return a run, or a row of the table of experiments, in words that differ early: method, data, seed.

    Args:
        item: The run or row.
        more: Words for the parentheses at the end, before the backbone.
    """
    return _joined(_method(item), _data(item), _seeds(item), end=_end(item, *more))


def named_model(run: Run) -> str:
    """Return a run's checkpoint in words, after a few letters of each, as MLflow's list shows twenty letters.

    That of a fine-tuning of seed 1, on 10 % of nuScenes by ``frame_skip``, after CLIP2Scene's pre-training of
    seed 0 begins with ``nusc 10f clip 0-1 finetune``. MLflow refuses some characters in names of models.
    """
    refused = str.maketrans({"%": "percent", "/": "-", ".": "_", ":": "-", '"': "", "'": ""})
    words = _joined(f"{_brief(run)} {run.kind}", _method(run), _data(run), _seeds(run), end=_end(run))
    return words.translate(refused)


def _brief(run: Run) -> str:
    """Return data, share, method and seed of a training in some twenty letters."""
    of = [name for name in dict.fromkeys((run.pretrain, run.target)) if name]
    data = "-".join(name[: 3 if len(of) > 1 else 4] for name in of)
    share = f"{run.percent:g}{run.rule[:1]}" if run.percent else ""
    seeds = _seeds(run).removeprefix("seed ")
    changed = () if run.percent else (_parts(run.recipe.partition("_")[2] or run.recipe), _parts(run.variant))
    return " ".join(word for word in (data, share, run.method[:4], seeds, *changed) if word)


def _parts(name: str) -> str:
    """Return the first letters of each part of a name: ``without_semantic`` is ``wit-sem``."""
    return "-".join(part[:3] for part in name.split("_"))


def _joined(*words: str, end: str) -> str:
    joined = ", ".join(word for word in words if word)
    return f"{joined} ({end})" if end else joined


def _method(item: Run | Experiment) -> str:
    words = (item.method or getattr(item, "kind", ""), item.recipe, item.variant)
    return " ".join(word for word in words if word)


def _data(item: Run | Experiment) -> str:
    data = item.target or item.pretrain or getattr(item, "prompts", "")
    if item.pretrain and item.target and item.pretrain != item.target:
        data = f"{item.pretrain} to {item.target}"
    return f"{data} {_share(item)}".strip()


def _end(item: Run | Experiment, *more: str) -> str:
    """Return the stage, the protocol where the share of the labels does not tell it, and the backbone."""
    told = item.protocol in ("finetune", "annotation_free")
    judged = "" if told else item.protocol.replace("_", " ")
    return " ".join(word for word in (*more, judged, item.backbone) if word)


def _share(item: Run | Experiment) -> str:
    """Return the share of the labels and the rule that drew it; of no labels, how that is called."""
    if not item.percent:
        return "without labels" if "annotation_free" in (item.protocol, getattr(item, "kind", "")) else ""
    rule, _, ids = item.rule.partition(":")
    return " ".join(word for word in (f"{item.percent:g} %", rule, Path(ids).stem) if word)


def _seeds(run: Run | Experiment) -> str:
    """Return the seed, after that of pre-training where both differ in meaning: ``seed 2/0``."""
    if isinstance(run, Experiment) or run.kind == "projection":  # in which nothing is drawn
        return ""
    start = run.pretrain_seed
    return f"seed {run.seed}" if start is None or not run.percent else f"seed {start}/{run.seed}"


def views(now: int) -> dict[str, str]:
    """Return tags of an experiment that make two views of its runs, with columns that compare methods.

    MLflow keeps the columns of a list in the browser, and those of a view that is shared in such a tag
    (MLflow 3.17, ``mlflow/server/js``): ``methods`` has a line a row of the table of experiments, ``runs``
    every run under its row.

    Args:
        now: Milliseconds since 1970.
    """
    current = "tags.superseded = 'False'"
    filters = {"methods": f"{current} AND tags.kind = 'row'", "runs": current}
    names = {"methods": "Compare methods", "runs": "All runs"}
    tags = {}
    for key, search in filters.items():
        state = {
            "searchFilter": search,
            "orderByKey": _MIOU if key == "methods" else "attributes.start_time",
            "orderByAsc": False,
            "selectedColumns": list(_COLUMNS[key]),
            "columnOrder": [_NAME, *_COLUMNS[key]],
            "columnWidths": {_NAME: 450, **_COLUMNS[key]},
        }
        view = {"name": names[key], "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
        tags[_VIEW + key] = json.dumps(view)
    return tags
