"""Model cards and data cards, with the metadata that the Hugging Face Hub reads."""

import math
from collections.abc import Iterable
from typing import Any

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from clip2scene.publish.licences import Licence, licence_of, strictest
from clip2scene.publish.scores import Score
from clip2scene.reporting.statistics import Interval
from clip2scene.runs import Run
from clip2scene.study import Study

PAPER = "https://arxiv.org/abs/2301.04926"
NOTE = (
    "**Synthetic data.** This network learned from synthetic scenes, is narrow and was trained for minutes. "
    "Its scores neither reproduce nor contradict a published number."
)


def model_card(
    study: Study,
    run: Run,
    description: dict[str, Any],
    record: dict[str, Any],
    scores: list[Score],
    learned: str,
) -> str:
    """Return the model card of a network, as ``README.md``.

    Args:
        study: The study.
        run: The run that trained it.
        description: Content of ``config.json``.
        record: Content of ``run.json``.
        scores: Its scores.
        learned: File that names the keyframes it learned from.
    """
    config = study.configuration(run.variant)
    used = list(dict.fromkeys(name for name in (run.pretrain, run.target) if name))
    licences = {name: licence_of(config, name) for name in used}
    terms = strictest(list(licences.values()))
    synthetic = any(config.datasets[name].synthetic for name in used)
    data = ModelCardData(
        library_name="clip2scene",
        tags=["3d-semantic-segmentation", "point-cloud", "lidar", run.method, run.backbone],
        datasets=used,
        model_name=f"clip2scene-{run.key}",
        eval_results=[_result(study, score) for score in scores],
        **_terms(terms),
    )
    lines = ["---", data.to_yaml(), "---", "", f"# {run.kind}: {run.title}", ""]
    lines += [NOTE, ""] if synthetic else []
    lines += [
        f"A 3D network ({run.backbone}) for semantic segmentation of point clouds, trained by the method "
        f"`{run.method}`{f', recipe `{run.recipe}`,' if run.recipe else ''} in the reproduction of "
        f"[CLIP2Scene]({PAPER}).",
        "",
        "## Use",
        "",
        "```sh",
        "clip2scene predict scan.bin --run THIS_FOLDER",
        *(["clip2scene import-published THIS_FOLDER checkpoint.pt"] if run.kind == "pretrain" else []),
        "```",
        "",
        "Its input is one scan with the features and their scale of the data set it was trained on "
        f"(`{description['dataset']}`). It knows nothing of other classes, sensors or weather than it "
        "saw; it is made for research, and not for use in vehicles.",
        "",
        "## Scores",
        "",
        *_score_lines(scores),
        "",
        "## What it learned from",
        "",
        f"* Keyframes: `{learned}` names them.",
        *(
            f"* {name}: {terms.name}{f' ({terms.link})' if terms.link else ''}"
            for name, terms in licences.items()
        ),
        "",
        "## Where it comes from",
        "",
        f"* Run `{run.key}`, fingerprint `{record['fingerprint']}`.",
        f"* Commit `{record.get('commit', 'unknown')}`.",
        f"* Trained from {record['started']} to {record['ended']} on {record['device']}.",
        "* `configuration.yaml` and `config.json` hold every setting, `run.json` the hashes of code and data "
        "and the versions of packages, `SHA256SUMS` the hash of every file here.",
        "",
    ]
    return "\n".join(lines)


def data_card(title: str, text: Iterable[str], terms: Licence, ids: int, tags: list[str]) -> str:
    """Return a data card of keyframe ids, as ``README.md``.

    Args:
        title: Heading.
        text: Paragraphs.
        terms: Licence of the data set that they are of.
        ids: Number of keyframes.
        tags: Tags for the hub.
    """
    data = DatasetCardData(
        pretty_name=title,
        task_categories=["other"],
        size_categories=_size(ids),
        tags=["3d-semantic-segmentation", "point-cloud", *tags],
        **_terms(terms),
    )
    return "\n".join(["---", data.to_yaml(), "---", "", f"# {title}", "", *text, ""])


def _terms(terms: Licence) -> dict[str, str]:
    named = {"license_name": terms.name, "license_link": terms.link} if terms.id == "other" else {}
    return {"license": terms.id, **{name: value for name, value in named.items() if value}}


def _size(ids: int) -> str:
    return next((words for limit, words in _SIZES if ids < limit), "100K<n<1M")


_SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def _result(study: Study, score: Score) -> EvalResult:
    """Return a score as the hub's `eval_results`."""
    config = study.configuration(score.run.variant)
    section = config.datasets[score.run.target]
    synthetic = " (synthetic)" if section.synthetic else ""
    return EvalResult(
        task_type="image-segmentation",
        task_name="3D semantic segmentation",
        dataset_type=section.format,
        dataset_name=f"{score.run.target}{synthetic}, {score.points} points",
        dataset_split=section.val_split,
        dataset_config=section.version,
        metric_type="mean_iou",
        metric_name=f"mIoU, %, {score.run.protocol or score.run.kind}, {score.points} points",
        metric_value=round(score.miou.value, 2),
        metric_args={"interval_95": _ends(score.miou), "resampled": score.unit, "run": score.run.key},
    )


def _ends(interval: Interval) -> list[float] | None:
    ends = (interval.low, interval.high)
    return None if any(map(math.isnan, ends)) else [round(end, 2) for end in ends]


def _score_lines(scores: list[Score]) -> list[str]:
    """Return the scores as Markdown tables: mIoU, then each class, with 95 % intervals."""
    if not scores:
        return ["The study has no finished run that judges this network."]
    lines = []
    for score in scores:
        lines += [
            f"{score.run.title} (run `{score.run.key}`), {score.points} points; IoU in percent with 95 % "
            f"intervals over {score.unit}s:",
            "",
            "| class | IoU |",
            "|---|---|",
            f"| **mean** | **{_words(score.miou)}** |",
            *(f"| {name} | {_words(value)} |" for name, value in score.classes.items()),
            "",
        ]
    return lines[:-1]


def _words(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "absent"
    ends = _ends(interval)
    return f"{interval.value:.1f}" + (f" ({ends[0]:.1f} to {ends[1]:.1f})" if ends else "")
