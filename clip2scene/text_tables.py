"""Tables of text that people edit: their columns and rows, each with the line where an editor shows it."""

import csv
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from clip2scene.config_types import repeated
from clip2scene.errors import InputError, unknown
from clip2scene.files import first_line, read_text

_COMMENT = re.compile(r"(?:^|\s)#.*")


def read_tsv(
    path: Path, required: Collection[str], columns: Collection[str], what: str = "a table of experiments"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a tab-separated table: the number of the line, and the cells by column.

    Empty lines and what follows a ``#`` are left out; cells that are missing at the end of a row are empty.

    Args:
        path: The table, whose first line names its columns.
        required: Columns that must be there.
        columns: All columns that may be there.
        what: The table in words.

    Raises:
        InputError: the file cannot be read, a column is unknown, missing or there twice, or a row has more
            cells than there are columns.
    """
    header: list[str] | None = None
    lines = read_text(path, f"{what} (tab-separated text in UTF-8)").replace("\r\n", "\n")
    for number, line in enumerate(lines.replace("\r", "\n").split("\n"), start=1):
        text = _COMMENT.sub("", line)
        if not text.strip():
            continue
        cells = [_unquoted(cell.strip()) for cell in text.split("\t")]
        if header is None:
            header = cells
            while header[-1] == "":
                header.pop()
            _check_columns(f"{path}: line {number}", header, required, columns)
            continue
        if any(cells[len(header) :]):
            raise InputError(
                f"{path}: line {number}: found {len(cells)} cells; expected {len(header)}, one a column"
            )
        cells += [""] * (len(header) - len(cells))
        yield number, dict(zip(header, cells, strict=False))


def read_csv(path: Path, required: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a comma-separated table: the number of the line, and the cells by column.

    Args:
        path: The table, whose first line names its columns.
        required: Columns that must be there; others may be.

    Raises:
        InputError: the file cannot be read or is empty, a column is missing or there twice, or a row has
            another number of cells.
    """
    text = read_text(path, "a comma-separated table in UTF-8")
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    header: list[str] | None = None
    end = 0
    try:
        for cells in reader:
            number, end = end + 1, reader.line_num
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if header is None:
                header = cells
                if missing := sorted({*required} - {*header}):
                    raise InputError(f"{path}: columns {', '.join(missing)} are missing")
                _check_columns(f"{path}: line {number}", header, required, header)
                continue
            if len(cells) != len(header):
                raise InputError(f"{path}: line {number}: found {len(cells)} cells; expected {len(header)}")
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(
            f"{path}: line {end + 1}: expected comma-separated cells ({first_line(error)})"
        ) from None
    if header is None:
        raise InputError(f"{path}: is empty; expected the columns {', '.join(sorted(required))}")


def _check_columns(
    where: str, header: list[str], required: Collection[str], columns: Collection[str]
) -> None:
    for column in header:
        if column not in columns:
            raise unknown(f"{where}: column", column, columns)
    if (twice := repeated(header)) is not None:
        raise InputError(f"{where}: column {twice!r} is there twice; expected it once")
    if missing := [column for column in required if column not in header]:
        raise InputError(f"{where}: column {missing[0]!r} is missing; expected it in the first line")


def _unquoted(cell: str) -> str:
    """Return a cell without the quotation marks that spreadsheets put around some cells."""
    whole = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return cell[1:-1].replace('""', '"').strip() if whole else cell
