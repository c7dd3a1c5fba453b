"""Comparisons of rows: methods of one column, one method under two rules, a variant and its base row."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from functools import cache
from itertools import combinations
from typing import Any

import pandas as pd

from clip2scene.errors import InputError
from clip2scene.experiments import TEACHER, Experiment
from clip2scene.reporting.base import Cell
from clip2scene.reporting.numbers import Row, comparable, difference_row, words
from clip2scene.reporting.statistics import holm
from clip2scene.runs import flat
from clip2scene.study import Study

ABLATION = "ablation"
"""Table whose rows are compared with their base row alone."""


def compared(study: Study, cells: list[Cell]) -> list[Row]:
    """Return every comparison of a study's rows as rows of ``results.csv``, corrected for their number.

    * ``difference``: each two methods of a column (protocol, data set, share, rule, backbone) of the tables
      other than the ablation table. A column is corrected for its own comparisons.
    * ``rule_difference``: a method under ``frame_skip`` less the same under ``scene_skip``.
    * ``ablation_difference``: a row of the ablation table less its base row.
    """
    rows = []
    for column in _columns(cells):
        found = [
            difference_row(study, cell, against, "difference")
            for against, cell in combinations(column, 2)
            if comparable(cell, against) and words(cell.experiment) != words(against.experiment)
        ]
        rows += corrected(found)
    rows += corrected(
        [difference_row(study, cell, against, "rule_difference") for cell, against in under_two_rules(cells)]
    )
    based = ((cell, base) for cell, base in bases(study, cells) if base and comparable(cell, base))
    return rows + corrected(
        [difference_row(study, cell, base, "ablation_difference") for cell, base in based]
    )


def corrected(rows: list[Row]) -> list[Row]:
    """Return comparisons with p-values corrected for their number by Holm's method."""
    adjusted = holm([row["p"] for row in rows])
    count = sum(not pd.isna(row["p"]) for row in rows)
    return [row | {"p_holm": p, "comparisons": count} for row, p in zip(rows, adjusted, strict=True)]


def _columns(cells: Iterable[Cell]) -> Iterable[list[Cell]]:
    """Return the cells of each column in which methods are compared."""
    groups: dict[Hashable, list[Cell]] = defaultdict(list)
    for cell in cells:
        e = cell.experiment
        if e.method != TEACHER and set(e.tables) != {ABLATION}:
            groups[e.protocol, e.target, e.percent, e.rule, e.backbone].append(cell)
    return groups.values()


def under_two_rules(cells: Iterable[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Yield cells under `frame_skip`, each with the same under `scene_skip`.

    Raises:
        InputError: the two do not predict the same keyframes.
    """
    found: dict[Hashable, dict[str, Cell]] = defaultdict(dict)
    for cell in cells:
        e = cell.experiment
        found[same_but_rule(e)].setdefault(e.rule, cell)
    for pair in found.values():
        if {"frame_skip", "scene_skip"} <= pair.keys():
            cell, against = pair["frame_skip"], pair["scene_skip"]
            if not comparable(cell, against):
                raise InputError(f"runs {cell.keys} and {against.keys}: predicted different keyframes")
            yield cell, against


def same_but_rule(e: Experiment) -> tuple[Any, ...]:
    """Return what two rows share that differ in nothing but the rule and the seeds."""
    return e.protocol, e.method, e.recipe, e.variant, e.backbone, e.pretrain, e.target, e.percent


def bases(study: Study, cells: Iterable[Cell]) -> Iterator[tuple[Cell, Cell | None]]:
    """Yield every row of the ablation table with its base row.

    Of the earlier rows of its column (protocol, data sets, share, rule, backbone), the base is the one with
    the fewest other settings, the first of equals; None for the first row of a column.
    """
    earlier: dict[Hashable, list[Cell]] = defaultdict(list)
    for cell in cells:
        e = cell.experiment
        if ABLATION in e.tables:
            column = earlier[e.protocol, e.pretrain, e.target, e.percent, e.rule, e.backbone]
            base = min(column, key=lambda other: len(changes(study, e, other.experiment)), default=None)
            yield cell, base
            column.append(cell)


def changes(study: Study, e: Experiment, base: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which a row's runs differ from those of another row, with both values.

    Settings of every run behind a row count, by stage; those that a row lacks are None.
    """
    mine, other = (_settings(study, row) for row in (e, base))
    return {
        name: (other.get(name), mine.get(name))
        for name in sorted(mine.keys() | other.keys())
        if mine.get(name) != other.get(name)
    }


@cache
def _settings(study: Study, e: Experiment) -> dict[str, Any]:
    """Return the settings behind a row, dotted names after the stage; of runs of one stage, the first's."""
    found: dict[str, Any] = {}
    for run in study.with_parents(study.cell(e)[:1]):
        values = study.settings(run) | ({"method": {"name": run.method}} if run.kind == "pretrain" else {})
        for name, value in flat(values).items():
            found.setdefault(f"{run.kind}.{name}", value)
    return found
