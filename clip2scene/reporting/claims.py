"""Claims: sentences about two rows of the table of experiments, read and checked."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from clip2scene.config import Section
from clip2scene.config_types import Name, describe
from clip2scene.errors import InputError, unknown
from clip2scene.experiments import Experiment
from clip2scene.reporting.base import Cell
from clip2scene.reporting.sequential import FIRST_LOOK
from clip2scene.study import Study
from clip2scene.text_tables import read_tsv

CELL = ("protocol", "method", "recipe", "backbone", "pretrain", "target", "percent", "rule", "variant")
"""Fields of a row of the table of experiments by which a claim names it."""


class Claim(Section):
    """One row of the table of claims: the row `left` is better than the row `right` by at least so much."""

    claim: Name
    """Name."""
    left: str
    """Fields of the row that is claimed to be better, ``field=value``, separated by spaces."""
    right: str
    """Fields of the row that it is compared with."""
    where: str = ""
    """Fields that both rows share."""
    at_least: float = Field(default=0.0, ge=-100, le=100)
    """Least difference of mIoU, percent."""
    data: Literal["", "real", "synthetic"] = ""
    """Data that the claim is about; empty: any."""
    seeds: int = Field(default=8, ge=FIRST_LOOK, le=100)
    """Number of seeds at which the test ends at the latest; it is planned before the first look."""
    printed: str = ""
    """Place at which the claim is made."""

    @model_validator(mode="after")
    def _readable(self) -> "Claim":
        """Refuse fields that do not exist or are there twice."""
        for side in ("left", "right"):
            self.fields(side)
        return self

    def fields(self, side: str) -> dict[str, str]:
        """Return the fields of the row on one side, `left` or `right`.

        Raises:
            ValueError: a field does not exist, or is named twice.
        """
        found: dict[str, str] = {}
        for column in ("where", side):
            for part in getattr(self, column).split():
                name, sign, value = part.partition("=")
                if name not in CELL:
                    raise ValueError(str(unknown(column, name, CELL)))
                if not sign or name in found:
                    raise ValueError(f"{column}: found {part!r}; expected field=value, each field once")
                found[name] = value
        return found


def read_claims(path: Path) -> list[Claim]:
    """Read and check the table of claims.

    Raises:
        InputError: the file is missing, a column or field is not known, a value is none that is valid, or a
            name is there twice. The message names the line.
    """
    required = [name for name, field in Claim.model_fields.items() if field.is_required()]
    claims: dict[str, tuple[int, Claim]] = {}
    for line, row in read_tsv(path, required, Claim.model_fields, "a table of claims"):
        where = f"{path}: line {line}"
        try:
            claim = Claim.model_validate({name: value for name, value in row.items() if value != ""})
        except ValidationError as error:
            item = error.errors()[0]
            column = f"{item['loc'][0]}: " if item["loc"] else ""
            text = "is empty; expected a name" if item["type"] == "missing" else describe(item)
            raise InputError(f"{where}: {column}{text}") from None
        if claim.claim in claims:
            raise InputError(f"{where}: claim: {claim.claim!r} is there in line {claims[claim.claim][0]}")
        claims[claim.claim] = line, claim
    if not claims:
        raise InputError(f"{path}: holds no claim; expected one a row")
    return [claim for _, claim in claims.values()]


def find_row(study: Study, claim: Claim, side: str) -> Experiment | None:
    """Return the row of the table of experiments on one side of a claim; None if the study has none.

    Fields that the claim does not name may have any value, but for the variant: without one, the row is
    computed with the configuration as it is. Of rows that differ in seeds alone, the one with most counts.

    Raises:
        InputError: it names several rows; the message says in which field they differ.
    """
    wanted = {"variant": ""} | claim.fields(side)
    found = [e for e in study.experiments if all(_same(e, name, value) for name, value in wanted.items())]
    for name in CELL:
        if len(values := dict.fromkeys(str(getattr(e, name)) for e in found)) > 1:
            raise InputError(
                f"{study.config.claims}: claim {claim.claim}: {side}: names {len(found)} rows of "
                f"{study.config.experiments}, with {name} {', '.join(value or 'none' for value in values)}; "
                "expected one"
            )
    return max(found, key=lambda e: len(study.cell(e)), default=None)


def _same(e: Experiment, name: str, value: str) -> bool:
    mine = getattr(e, name)
    return f"{mine:g}" == value.removesuffix(".0") if isinstance(mine, float) else mine == value


def not_testable(study: Study, claim: Claim, sides: list[Experiment | None], pair: list[Cell] = ()) -> str:
    """Return why a claim cannot be tested in a study; empty if it can.

    Args:
        study: The study.
        claim: The claim.
        sides: Its rows, None where the study has none.
        pair: Their cells, if they are there.
    """
    if claim.data and (found := _data(study, claim, sides)) not in ("", claim.data):
        return f"The claim is about {claim.data} data, the study's are {found}."
    for side, e in zip(("left", "right"), sides, strict=True):
        if e is None:
            fields = " ".join(f"{name}={value}" for name, value in claim.fields(side).items())
            return f"The study has no row with {fields}."
    if not any(replicates(e) for e in sides):
        return "Neither row has a seed, so that nothing is known of the spread."
    if pair and not comparable_points(*pair):
        return "The two rows predict different keyframes."
    return ""


def _data(study: Study, claim: Claim, sides: list[Experiment | None]) -> str:
    """Return whether the data sets of a claim are ``real`` or ``synthetic``; empty if the study has none."""
    rows = [claim.fields(side) for side in ("left", "right")] + [e.model_dump() for e in sides if e]
    names = {
        row.get(field) for row in rows for field in ("target", "pretrain")
    } & study.config.datasets.keys()
    if not names:
        return ""
    return "synthetic" if any(study.config.datasets[name].synthetic for name in names) else "real"


def replicates(e: Experiment) -> str:
    """Return the column whose seeds replicate a row: pre-training's where there are any; empty for none."""
    return next((name for name in ("pretrain_seeds", "seeds") if getattr(e, name)), "")


def comparable_points(left: Cell, right: Cell) -> bool:
    """Say whether two cells predict the same keyframes and share a set of points."""
    same = (left.first.ids, left.first.classes) == (right.first.ids, right.first.classes)
    return same and bool(left.first.counts.keys() & right.first.counts.keys())
