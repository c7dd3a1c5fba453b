"""`clip2scene verify`: recompute every number of a table from the files that it names."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.files import read_object, reading, sha256, write_json
from clip2scene.record import Identity
from clip2scene.reporting.base import get_table, read_cells
from clip2scene.run_files import finished, read_description
from clip2scene.study import Study


def collect(study: Study, table: str, out: Path) -> None:
    """Write the receipt between runs and a table: the fingerprint of every run that it rests on.

    Raises:
        InputError: a run is not finished.
    """
    fingerprints = {}
    for run in study.runs_of(table).values():
        if not finished(folder := layout.run_folder(study.config, run)):
            raise InputError(f"{folder}: run {run.key} ({run.kind}: {run.title}) is not finished")
        fingerprints[run.key] = read_description(folder)["fingerprint"]
    write_json(out, {"study": study.name, "table": table, "runs": fingerprints})


def write_table(study: Study, table: str) -> None:
    """Write a table into the results folder, and of which study and runs it is.

    Raises:
        InputError: a run is missing or damaged, or the table cannot be written from its cells.
    """
    results, shown = study.config.results, layout.shown(study.config, table)
    files = get_table(table).files
    get_table(table).write(study, read_cells(study, table), results)
    collect(study, table, shown)
    hashes = {name: sha256(results / name) for name in files}
    write_json(shown, read_object(shown) | {"files": hashes})


def verify(study: Study, table: str) -> list[str]:
    """Check a table against the runs that it rests on; return a line for each difference.

    The files of its runs must be those that the runs wrote, the runs those that the table was written from,
    and every number must come out of the confusion matrices again.
    """
    problems = [*_runs(study, table), *_others(study, table)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            written = get_table(table)
            written.write(study, read_cells(study, table), Path(folder))
            for name in written.files:
                if Path(name).suffix == ".csv":
                    problems += _compare(study.config.results / name, Path(folder) / name)
    except InputError as error:
        problems.append(str(error))
    return problems


def _runs(study: Study, table: str) -> Iterator[str]:
    """Yield what is wrong with the runs behind a table."""
    shown = layout.shown(study.config, table)
    recorded = _receipt(shown, "runs")
    if not shown.exists():
        yield f"{shown}: no such file; the table was not written by `clip2scene table {table}`"
    elif (found := read_object(shown).get("study")) != study.name:
        yield f"{shown}: study: found {found!r}; expected {study.name!r}, this one (write the table again)"
    for run in study.runs_of(table).values():
        folder = layout.run_folder(study.config, run)
        there = read_description(folder)
        if there is None or there["status"] != "finished":
            yield f"{folder}: run {run.key} ({run.kind}: {run.title}) is not finished"
            continue
        if recorded and recorded.get(run.key) != there["fingerprint"]:
            yield f"{folder}: run {run.key} is not the one that the table was written from"
        if Identity.of(there).fingerprint != there["fingerprint"]:
            yield f"{folder / 'run.json'}: its fingerprint is not that of what it holds; it was edited"
        for name, expected in there["files"].items():
            if not (folder / name).is_file():
                yield f"{folder / name}: no such file"
            elif sha256(folder / name) != expected:
                yield f"{folder / name}: its SHA-256 is not the one in run.json"


def _others(study: Study, table: str) -> Iterator[str]:
    """Yield the files of a table, beside those with numbers to compare, that are not as they were written."""
    shown = layout.shown(study.config, table)
    for name, expected in _receipt(shown, "files").items():
        path = study.config.results / name
        if path.suffix != ".csv" and not (path.is_file() and sha256(path) == expected):
            yield f"{path}: is not as `clip2scene table {table}` wrote it"


def _receipt(shown: Path, name: str) -> dict[str, Any]:
    """Return an entry of a table's receipt, a JSON object; an empty one if there is no receipt.

    Raises:
        InputError: the receipt is damaged.
    """
    values = read_object(shown).get(name, {}) if shown.exists() else {}
    if not isinstance(values, dict):
        raise InputError(
            f"{shown}: {name}: found {type(values).__name__}; expected an object (write the table again)"
        )
    return values


def _compare(shown: Path, expected: Path) -> Iterator[str]:
    """Yield the cells in which a table differs from what its runs give."""
    if not shown.is_file():
        yield f"{shown}: no such file"
        return
    damage = (pd.errors.ParserError, pd.errors.EmptyDataError)
    with reading(shown, "a table as CSV", *damage):
        found, right = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (shown, expected))
    if list(found.columns) != list(right.columns) or len(found) != len(right):
        yield f"{shown}: {len(found)} rows, expected {len(right)}, or other columns; write it again"
        return
    for row, column in zip(*(found != right).to_numpy().nonzero(), strict=True):
        where = f"{shown}: line {row + 2}: {found.columns[column]}"  # as an editor counts lines
        yield f"{where}: found {found.iat[row, column]!r}, expected {right.iat[row, column]!r}"
