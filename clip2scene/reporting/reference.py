"""`clip2scene reference`: compare the tables of the embedded study with those that git holds.

``results/reference`` holds the tables, and in ``hashes.json`` the SHA-256 of everything that they come from:
data, teacher, encoder, checkpoints, predictions. Where tables differ, the first of these that differs says
where to look.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.files import atomic, read_object, reading, sha256, write_json
from clip2scene.portable.choices import processor
from clip2scene.run_files import finished, read_description
from clip2scene.study import Study

REFERENCE = Path("results/reference")
TABLES = ("table_main.csv", "table_per_class.csv")
IDENTICAL = "identical to the reference"
_ROW = (
    "protocol", "method", "recipe", "variant", "backbone", "pretrain_dataset", "dataset", "label_percent",
    "fraction_rule",
)  # fmt: skip
"""Columns that say which row it is."""
_HASHES = "hashes.json"
_TIMED = ("metrics.json", "metrics.jsonl")
"""Files that hold times, which are never the same."""


def write(study: Study, folder: Path = REFERENCE) -> None:
    """Make the tables in the results folder the reference.

    Raises:
        InputError: a table or a run is not there.
    """
    values = {"study": study.name, "processor": processor(), "tables": {}, "runs": _runs(study)}
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        source = _there(study.config.results / name, "write it with `clip2scene table main`")
        with atomic(folder / name) as path:
            path.write_bytes(source.read_bytes())
        values["tables"][name] = sha256(source)
    write_json(folder / _HASHES, values)


def compare(study: Study, folder: Path = REFERENCE) -> list[str]:
    """Compare the tables in the results folder with the reference.

    Returns:
        Lines for people; the last one is the verdict, and `IDENTICAL` alone if no byte of the tables differs.

    Raises:
        InputError: a table, a run or the reference is not there, or is damaged.
    """
    values = read_object(_there(folder / _HASHES, "write it with `clip2scene reference --write`"))
    ours = {name: _there(study.config.results / name, "write it with `make table`") for name in TABLES}
    for name in TABLES:
        if sha256(_there(folder / name, f"as {_HASHES} has it")) != values["tables"][name]:
            raise InputError(f"{folder / name}: its SHA-256 is not the one in {_HASHES}; expected that file")
    runs = _runs(study)
    if runs.keys() != values["runs"].keys():
        return [f"not compared with the reference: study {values['study']} has other runs than {study.name}"]
    lines = list(_first_difference(runs, values))
    # settings of where and how fast change the study's name, and no run
    texts = {name: path.read_text().replace(study.name, values["study"]) for name, path in ours.items()}
    if all(texts[name] == (folder / name).read_text() for name in TABLES):
        return [*lines, IDENTICAL]
    main, *others = (_differences(_read(folder / name), _read(ours[name])) for name in TABLES)
    lines += [_line(found) for found in main]
    for name, found in zip(TABLES[1:], others, strict=True):
        if found:
            furthest = max(abs(one["difference"]) for one in found)
            lines.append(f"{name}: {len(found)} numbers differ, by up to {furthest:.2f}")
    return [*lines, _verdict(main)]


def _there(path: Path, how: str) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file; {how}")
    return path


def _runs(study: Study) -> dict[str, dict[str, Any]]:
    """Return the hashes of what each run of the main table made, a run after those that it reads from."""
    found = {}
    for run in study.runs_of("main").values():
        if not finished(path := layout.run_folder(study.config, run)):
            raise InputError(f"{path}: run {run.key} ({run.kind}: {run.title}) is not finished")
        made = {
            name: digest for name, digest in read_description(path)["products"].items() if name not in _TIMED
        }
        found[run.key] = {"run": f"{run.kind}: {run.title}", "made": made}
    return found


def _first_difference(runs: dict[str, dict[str, Any]], values: dict[str, Any]) -> Iterator[str]:
    """Yield a line on the first run that made something else than the reference's, if there is one."""
    theirs, different = values["runs"], []
    for key, run in runs.items():
        before = theirs[key]["made"]
        if run["made"] != before:
            names = [name for name, digest in run["made"].items() if before.get(name) != digest]
            different.append(f"{run['run']} (run {key}: {', '.join(names[:3])})")
    if different:
        there = values["processor"].get("model") or "an unknown processor"
        yield f"{len(different)} of {len(theirs)} runs made other files, first {different[0]}"
        yield f"this processor: {processor()['model'] or 'unknown'}; the reference's: {there}"


def _read(path: Path) -> pd.DataFrame:
    """Read a table with the columns that name a row as its index."""
    with reading(path, "a table (CSV)", ValueError):
        table = pd.read_csv(path)
    names = [name for name in _ROW if name in table.columns]
    return table.set_index([table[name].fillna("").astype(str) for name in names])


def _differences(theirs: pd.DataFrame, ours: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the numbers that differ, with the row's standard deviation over seeds in the reference.

    A row or a number that only one of the two tables has differs by NaN.
    """
    numbers = [name for name in theirs.select_dtypes("number").columns if name not in _ROW]
    found = []
    for row in theirs.index.union(ours.index, sort=False):
        before = theirs.loc[row] if row in theirs.index else pd.Series(dtype=float)
        now = ours.loc[row] if row in ours.index else pd.Series(dtype=float)
        before, now = (part.iloc[0] if isinstance(part, pd.DataFrame) else part for part in (before, now))
        spread = [before.get(name) for name in ("std_pretrain", "std_finetune")]
        spread = max((value for value in spread if value is not None and not pd.isna(value)), default=None)
        for name in numbers:
            pair = before.get(name), now.get(name)
            empty = [value is None or pd.isna(value) for value in pair]
            if all(empty) or (not any(empty) and pair[0] == pair[1]):
                continue
            title = " ".join(part for part in row if part)
            difference = float("nan") if any(empty) else float(pair[1] - pair[0])
            found.append({
                "row": title, "column": name, "theirs": pair[0], "ours": pair[1], "difference": difference,
                "spread": spread,
            })  # fmt: skip
    return found


def _within(found: dict[str, Any]) -> bool:
    return found["spread"] is not None and abs(found["difference"]) <= found["spread"]


def _line(found: dict[str, Any]) -> str:
    """Return a difference in words."""
    if pd.isna(found["difference"]):
        missing = "the reference" if found["theirs"] is None or pd.isna(found["theirs"]) else "this table"
        return f"{found['row']}: {found['column']}: {missing} has no number"
    numbers = f"{found['ours']:.2f}, reference {found['theirs']:.2f} ({found['difference']:+.2f})"
    if found["spread"] is None:
        spread = "one seed: no spread to compare with"
    else:
        where = "within" if _within(found) else "beyond"
        spread = f"{where} the standard deviation over seeds, {found['spread']:.2f}"
    return f"{found['row']}: {found['column']} {numbers}, {spread}"


def _verdict(main: list[dict[str, Any]]) -> str:
    """Return what the differences of the main table amount to."""
    scores = [found for found in main if found["column"] == "miou_mean"]
    if not scores:
        return "differs from the reference, but in no mIoU of the main table"
    furthest = max(abs(found["difference"]) for found in scores)
    within = sum(map(_within, scores))
    return (
        f"differs from the reference in the mIoU of {len(scores)} rows, by up to {furthest:.2f}; "
        f"{within} of them within the spread over seeds"
    )
