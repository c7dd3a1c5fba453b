"""The main table as people read it in a terminal, and what they do next."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from clip2scene.errors import InputError
from clip2scene.study import Study
from clip2scene.text_tables import read_csv

HEAD = ("method", "labels", "mIoU, %", "95 % interval", "± seeds", "published", "verdict")
_READ = (
    "protocol", "method", "recipe", "variant", "dataset", "data", "label_percent", "fraction_rule",
    "miou_mean", "low", "high", "std_pretrain", "std_finetune", "published", "verdict", "run_keys",
)  # fmt: skip
Row = Mapping[str, str]


def shown(study: Study) -> list[str]:
    """Return the main table in lines of text, where it and the report lie, and what to do next.

    Raises:
        InputError: there is no main table, or it is damaged.
    """
    path = study.config.results / "table_main.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; `snakemake --cores all {path}` makes it")
    rows = [row for _, row in read_csv(path, _READ)]
    return [*_table(rows), *_next(study, path, rows)]


def _table(rows: list[Row]) -> Iterator[str]:
    """Yield the rows under the data set that they are about, in columns."""
    cells = [HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(words: tuple[str, ...]) -> str:
        numbers = (2, 5)  # to the right, as numbers stand
        placed = (
            word.rjust(width) if column in numbers else word.ljust(width)
            for column, (word, width) in enumerate(zip(words, widths, strict=True))
        )
        return "  ".join(placed).rstrip()

    for (dataset, data), mine in groupby(rows, lambda row: (row["dataset"], row["data"])):
        yield f"{dataset} ({data} data)"
        yield f"  {line(HEAD)}"
        yield from (f"  {line(_cells(row))}" for row in mine)
        yield ""
    if any(row["data"] == "synthetic" for row in rows):
        yield "Published numbers are for the real data sets: numbers on synthetic data do not compare."
        yield ""


def _cells(row: Row) -> tuple[str, ...]:
    method = " ".join(filter(None, (row["method"], row["recipe"], row["variant"])))
    share = f"{float(row['label_percent']):g} % {row['fraction_rule']}".strip()
    labels = "none" if row["protocol"] == "annotation_free" else share
    if row["protocol"] not in ("annotation_free", "finetune"):
        labels = f"{labels}, {row['protocol']}"
    interval = " to ".join(f"{float(row[end]):.1f}" for end in ("low", "high") if row[end])
    spread = row["std_pretrain"] or row["std_finetune"]
    published = f"{float(row['published']):.1f}" if row["published"] else ""
    return (
        method, labels, f"{float(row['miou_mean']):.1f}", interval,
        f"{float(spread):.1f}" if spread else "", published, row["verdict"],
    )  # fmt: skip


def _next(study: Study, path: Path, rows: list[Row]) -> Iterator[str]:
    keys = [key for row in rows if row["protocol"] == "annotation_free" for key in row["run_keys"].split()]
    keys = [key for key in keys if key in study.runs and study.runs[key].kind != "projection"]
    report = study.config.results / "report.html"
    yield f"the table        {path}, {path.with_suffix('.md').name} beside it"
    if report.is_file():
        yield f"the report       {report} (for a browser: curves, scenes, costs, every run)"
    yield "all tables       snakemake --cores all"
    yield "why a number     clip2scene explain RUN; clip2scene verify main"
    if keys:
        yield f"label a scan     clip2scene predict SCAN --run {keys[0]}"
    yield "on real data     clip2scene --config config/paper.yaml check-data"
