"""Columns of the result tables: what each means, said once, and how tables are written."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from clip2scene.files import atomic
from clip2scene.reporting.statistics import FEWEST_SCENES, PERMUTATIONS, RESAMPLES

OVER_SCENES = f"over scenes (over keyframes where there are fewer than {FEWEST_SCENES})"
"""Sentence for the heads of tables: the units that intervals and paired tests are over."""
_INTERVAL = (
    f"95 % bootstrap interval over `unit` ({RESAMPLES} resamples): how it would vary on another validation "
    "set of this kind, for the networks as they were trained"
)
MEANING = {
    # which cell
    "study": "hash of the configuration and the table of experiments; `results/config/<study>` holds both",
    "tables": "tables that have this row",
    "protocol": "how the pre-trained network is judged",
    "method": "method of pre-training; `maskclip_projection`: the teacher's labels, projected onto points",
    "recipe": "variant of the method, or the name of a checkpoint from elsewhere",
    "variant": "preset of the configuration for this row",
    "backbone": "3D network",
    "width": "factor on the network's published number of channels",
    "pretrain_dataset": "data set of pre-training",
    "pretrain_split": "split of it that pre-trained the network",
    "source": "data set of pre-training; `none`: random initialisation",
    "dataset": "data set of evaluation",
    "split": "split of it that is predicted",
    "data": "`synthetic` if a data set that the row rests on is",
    "label_percent": "share of the training labels, percent",
    "fraction_rule": "rule that draws the share: `frame_skip` every n-th keyframe over all scenes, "
    "`scene_skip` every n-th scene with all its keyframes",
    "run_keys": "runs that fill the row: `results/runs/<key>`, `clip2scene explain <key>`",
    # which number
    "metric": "`miou`; `iou` of one class; `classes_present`, the fewest over runs; "
    "`miou_released_convention`, in which an absent class counts as 1; `difference` of the mIoU of two "
    "methods of one column, `rule_difference` of one method under two rules, `ablation_difference` to the "
    "base row",
    "class": "class of an IoU",
    "points": "`all` points with a label, or those of them that are `visible` to a camera",
    "against": "the row that a difference subtracts",
    "against_keys": "runs that fill that row",
    "value": "the number, mean over all runs; percent, but for `classes_present`",
    "miou_mean": "mIoU in percent, mean over all runs",
    "difference_low": "lower end of its 95 % interval over `unit`, both rows resampled together",
    "difference_high": "upper end of that interval",
    "frame_skip": "mIoU in percent of the row whose labels `frame_skip` draws, mean over all runs",
    "frame_skip_low": "lower end of its 95 % interval over `unit`",
    "frame_skip_high": "upper end of that interval",
    "frame_skip_std": "its standard deviation over seeds: of pre-training where there are several, else of "
    "fine-tuning",
    "frame_skip_published": "published number that stands beside it",
    "frame_skip_verdict": "verdict on it, with the reason",
    "frame_skip_keys": "runs that fill it",
    "scene_skip": "the same under `scene_skip`",
    "scene_skip_low": "lower end of its interval",
    "scene_skip_high": "upper end of that interval",
    "scene_skip_std": "its standard deviation over seeds",
    "scene_skip_published": "published number that stands beside it",
    "scene_skip_verdict": "verdict on it, with the reason",
    "scene_skip_keys": "runs that fill it",
    "all_labels": "mIoU with all labels, which no rule draws",
    "all_labels_low": "lower end of its interval",
    "all_labels_high": "upper end of that interval",
    "all_labels_std": "its standard deviation over seeds",
    "all_labels_published": "published number that stands beside it",
    "all_labels_verdict": "verdict on it, with the reason",
    "all_labels_keys": "runs that fill it",
    "rule_difference": "what the rule alone is worth: `frame_skip` less `scene_skip`",
    "rule_difference_low": "lower end of its 95 % interval over `unit`, both rows resampled together",
    "rule_difference_high": "upper end of that interval",
    "difference": "mIoU of the row less that of the row it is compared with",
    # how sure it is
    "pretrain_seeds": "number of seeds of pre-training",
    "finetune_seeds": "number of seeds of fine-tuning from each pre-training",
    "std_pretrain": "standard deviation over seeds of pre-training, each the mean over its fine-tunings",
    "std_finetune": "standard deviation over seeds of fine-tuning from one pre-training, pooled",
    "low": f"lower end of the {_INTERVAL}",
    "high": "upper end of that interval",
    "unit": f"what is resampled: `scene`, or `keyframe` where there are fewer than {FEWEST_SCENES} scenes "
    "(those of one drive are alike, so that intervals over keyframes are too narrow)",
    "units": "number of them",
    "p": "two-sided p-value of no difference over units, for the networks as they were trained: the two are "
    f"exchanged unit by unit (all ways, or {PERMUTATIONS})",
    "p_holm": "the same, corrected by Holm's method for the number of comparisons",
    "comparisons": "number of comparisons that `p_holm` corrects for: all of one column of a table "
    "(protocol, data set, share, rule, backbone), or of one metric",
    "classes_present": "number of classes that have an IoU, the fewest over runs",
    "miou_released_convention": "mIoU in which an absent class counts as 1, as in the released code",
    "miou_visible": "mIoU over the points that a camera sees, to compare with the teacher's",
    # beside what was published
    "published": "published mIoU that stands beside the row, percent",
    "difference_to_published": "ours less published, where the two can be compared",
    "published_difference": "what the paper prints for this row less what it prints for the base row",
    "printed_in": "where it is printed",
    "tolerance": "how far the published number may lie from ours: a 95 % prediction interval of one more run "
    "(seeds) and the interval over units, in quadrature",
    "verdict": "`reproduced`: within the tolerance; `above`, `below`: ours is outside of it; "
    "`not comparable`; empty: nothing is published for this method and share on this data set",
    "reason": "why it is not comparable: `data`, `backbone`, `pretraining`, `split`, `rule`, `teacher`, "
    "`recipe`, `variant`, `source` (it is not clear what was published), or `seeds` (too few for a "
    "tolerance)",
    "explanation": "the verdict in words",
    # ablation
    "base": "the row that this one is compared with: of the earlier rows of its column, the one with the "
    "fewest other settings",
    "changes": "settings in which it differs from the base row, with the base row's value first",
    # claims
    "claim": "name of the claim; `clip2scene decide <claim>` adds seeds until it is decided",
    "status": "`holds`, `fails` or `open`",
    "left": "the row that is claimed to be better",
    "right": "the row that it is compared with",
    "at_least": "the least difference of mIoU that is claimed",
    "seeds": "number of pairs of runs that were compared, one for each seed",
    "planned": "number of seeds at which the test ends at the latest",
    "mean": "mean difference of mIoU over seeds",
    "seed_low": "lower end of its 95 % interval over seeds (Student)",
    "seed_high": "upper end of that interval",
    "p_smaller": "p-value of a difference smaller than claimed; small: the claim holds",
    "p_larger": "p-value of a difference as large as claimed; small: the claim fails",
    "level": "level that a p-value must not exceed at each look, so that all looks together err in 5 %",
    "printed": "where the claim is made",
}  # fmt: skip
"""Meaning of each column, by name."""


_P_VALUES = {"p", "p_holm", "p_smaller", "p_larger", "level"}
_COUNTS = {
    "pretrain_seeds", "finetune_seeds", "units", "comparisons", "classes_present", "seeds", "planned",
}  # fmt: skip


def write_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Write rows as CSV, whole or not at all; numbers have two decimals, p-values four, counts none."""
    table = pd.DataFrame(list(rows), columns=list(columns))
    for names, form in ((_P_VALUES, ".4f"), (_COUNTS, ".0f")):
        for name in names & set(columns):
            table[name] = ["" if pd.isna(value) else format(value, form) for value in table[name]]
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.2f")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def explained(file: str, columns: Iterable[str]) -> list[str]:
    """Return a section that explains the columns of a CSV file.

    Raises:
        KeyError: a column has no meaning in `MEANING`.
    """
    rows = [(f"`{name}`", MEANING[name]) for name in columns]
    return ["", f"## Columns of `{file}`", "", *markdown_table(("column", "meaning"), rows)]


def number(value: float | None, low: float | None = None, high: float | None = None, sign: str = "") -> str:
    """Return a number with one decimal and its interval; empty for none."""
    if value is None or pd.isna(value):
        return ""
    texts = [
        f"{round(each, 1) + 0.0:{sign}.1f}" for each in (value, low, high) if not pd.isna(each)
    ]  # no -0.0
    return texts[0] if len(texts) < 3 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def p_value(p: float | None) -> str:
    """Return a p-value for people."""
    if p is None or pd.isna(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
