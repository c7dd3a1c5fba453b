"""The table of label fractions: each share under both rules side by side, and what the rule is worth."""

from collections import defaultdict
from collections.abc import Hashable
from pathlib import Path
from typing import ClassVar

import pandas as pd

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.files import atomic
from clip2scene.reporting.base import SYNTHETIC, Cell, Table
from clip2scene.reporting.columns import OVER_SCENES, explained, markdown_table, number, p_value, write_csv
from clip2scene.reporting.comparisons import corrected, same_but_rule, under_two_rules
from clip2scene.reporting.numbers import Row, cell_rows, difference_row, words
from clip2scene.reporting.published import PUBLISHED, read_published
from clip2scene.study import Study

_RULES = {"frame_skip": "frame_skip", "scene_skip": "scene_skip", "": "all_labels"}
"""Prefix of the columns of each rule."""
_OF_RULE = ("", "_low", "_high", "_std", "_published", "_verdict", "_keys")
LABEL_FRACTION = (
    "protocol", "method", "recipe", "variant", "backbone", "width", "pretrain_dataset", "pretrain_split",
    "dataset", "data", "label_percent", "unit", "units",
    *(rule + end for rule in _RULES.values() for end in _OF_RULE),
    "rule_difference", "rule_difference_low", "rule_difference_high", "p", "p_holm", "comparisons", "study",
)  # fmt: skip


class LabelFractionTable(Table):
    """``table_label_fraction`` as CSV and Markdown: a row a method and share, columns for each rule."""

    files: ClassVar[tuple[str, ...]] = ("table_label_fraction.csv", "table_label_fraction.md")

    def reads(self, config: Config) -> tuple[Path, ...]:
        """Return the published numbers."""
        return (PUBLISHED,)

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write the table.

        Raises:
            InputError: a row draws its labels by a list of ids, or the published numbers are not as expected.
        """
        published = read_published(PUBLISHED, study.config)
        pairs = list(under_two_rules(cells))
        differences = corrected([difference_row(study, *pair, "rule_difference") for pair in pairs])
        worth = {
            same_but_rule(cell.experiment): row for (cell, _), row in zip(pairs, differences, strict=True)
        }
        groups: dict[Hashable, list[Cell]] = defaultdict(list)
        for cell in cells:
            if cell.experiment.rule not in _RULES:
                raise InputError(
                    f"{study.config.experiments}: table label_fraction: found a row with the rule "
                    f"{cell.experiment.rule}; expected frame_skip, scene_skip, or all labels"
                )
            groups[same_but_rule(cell.experiment)].append(cell)
        rows = []
        for key, same in groups.items():
            row = {"title": words(same[0].experiment)}
            for cell in same:
                row |= _columns(cell_rows(study, cell, published)[0])
            rows.append(row | _worth(worth.get(key)))
        write_csv(rows, LABEL_FRACTION, out / "table_label_fraction.csv")
        with atomic(out / "table_label_fraction.md") as path:
            path.write_text(markdown(rows))


def _columns(miou: Row) -> Row:
    """Return the columns that the mIoU of a cell fills."""
    rule = _RULES[miou["fraction_rule"]]
    std = miou["std_pretrain"] if miou["pretrain_seeds"] > 1 else miou["std_finetune"]
    verdict = ": ".join(miou[name] for name in ("verdict", "reason") if miou.get(name))
    values = (
        miou["value"], miou["low"], miou["high"], std, miou.get("published"), verdict, miou["run_keys"],
    )  # fmt: skip
    return miou | {rule + end: value for end, value in zip(_OF_RULE, values, strict=True)}


def _worth(difference: Row | None) -> Row:
    """Return the columns of the difference between the rules; empty ones where a rule has no row."""
    if difference is None:
        return {}
    ends = {f"rule_difference{end}": difference[name] for end, name in _ENDS.items()}
    return ends | {name: difference[name] for name in ("p", "p_holm", "comparisons")}


_ENDS = {"": "value", "_low": "low", "_high": "high"}


def markdown(rows: list[Row]) -> str:
    """Return the table for people, a section a data set, protocol and method."""
    lines = [
        "# Label fractions",
        "",
        f"Study `{rows[0]['study']}`. mIoU in percent with its 95 % interval {OVER_SCENES}, "
        "under both rules: "
        "`frame_skip` takes every n-th keyframe over all scenes, `scene_skip` every n-th scene whole. The "
        "difference is what the rule alone is worth: the same method, the same share. ± is the standard "
        "deviation over seeds.",
    ]
    table = pd.DataFrame(rows, columns=["title", *LABEL_FRACTION])
    for (dataset, data, protocol), part in table.groupby(["dataset", "data", "protocol"], sort=False):
        lines += ["", f"## {dataset}, {str(protocol).replace('_', '-')}"]
        lines += ["", SYNTHETIC] if data == "synthetic" else []
        shown = part.sort_values("label_percent", kind="stable").to_dict("records")
        header = (
            "labels", "row", "frame_skip", "scene_skip", "all", "frame_skip less scene_skip", "p, corrected",
            "published",
        )  # fmt: skip
        lines += ["", *markdown_table(header, [_shown(row) for row in shown])]
    return "\n".join([*lines, *explained("table_label_fraction.csv", LABEL_FRACTION)]) + "\n"


def _shown(row: Row) -> list[str]:
    ends = {rule: (row[rule], row[f"{rule}_low"], row[f"{rule}_high"]) for rule in _RULES.values()}
    scores = [
        number(*ends[rule]) + ("" if pd.isna(row[f"{rule}_std"]) else f" ± {row[f'{rule}_std']:.1f}")
        for rule in _RULES.values()
    ]
    worth = number(*(row[f"rule_difference{end}"] for end in _ENDS), sign="+")
    published = [
        f"{rule.replace('_', ' ')}: {row[f'{rule}_published']:.1f} ({row[f'{rule}_verdict']})"
        for rule in _RULES.values()
        if not pd.isna(row[f"{rule}_published"])
    ]
    percent = f"{row['label_percent']:g} %"
    return [percent, row["title"], *scores, worth, p_value(row["p_holm"]), "; ".join(published)]
