"""Claims as tests: each is answered `holds`, `fails` or `open`, with its evidence."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from clip2scene.config import Config
from clip2scene.files import atomic
from clip2scene.reporting.base import Cell, Table
from clip2scene.reporting.claims import Claim, find_row, not_testable, read_claims, replicates
from clip2scene.reporting.columns import explained, markdown_table, number, p_value, write_csv
from clip2scene.reporting.numbers import units, words
from clip2scene.reporting.sequential import FIRST_LOOK, Decision, decide
from clip2scene.reporting.statistics import intervals, mean_interval
from clip2scene.study import Study

CLAIMS = (
    "claim", "status", "left", "right", "at_least", "data", "seeds", "planned", "mean", "seed_low",
    "seed_high", "p_smaller", "p_larger", "level", "low", "high", "unit", "units", "explanation", "printed",
    "run_keys", "against_keys", "study",
)  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The answer to a claim.

    Attributes:
        decision: Status, p-values and level.
        columns: All else that ``claims.csv`` shows.
    """

    decision: Decision
    columns: dict[str, Any]


class ClaimsTable(Table):
    """``claims`` as CSV and Markdown: every claim with its status and evidence."""

    files: ClassVar[tuple[str, ...]] = ("claims.csv", "claims.md")

    def reads(self, config: Config) -> tuple[Path, ...]:
        """Return the table of claims."""
        return (config.claims,)

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write the table.

        Raises:
            InputError: the table of claims is not as expected, or a claim names several rows.
        """
        claims = read_claims(study.config.claims)
        rows = [answer(study, claim, cells) for claim in claims]
        write_csv(rows, CLAIMS, out / "claims.csv")
        with atomic(out / "claims.md") as path:
            path.write_text(markdown(study, rows))


def answer(study: Study, claim: Claim, cells: list[Cell]) -> dict[str, Any]:
    """Return a claim's row of ``claims.csv``, from the cells of a study."""
    sides = [find_row(study, claim, side) for side in ("left", "right")]
    named = {
        side: words(e) if e else getattr(claim, side)
        for side, e in zip(("left", "right"), sides, strict=True)
    }
    shared = claim.model_dump(include={"claim", "at_least", "printed"}) | {
        "planned": claim.seeds, "data": claim.data or "any", "study": study.name, **named,
    }  # fmt: skip
    of = {cell.experiment: cell for cell in cells}
    pair = [of[e] for e in sides if e]
    if reason := not_testable(study, claim, sides, pair):
        return shared | {"status": "open", "seeds": 0, "explanation": reason}
    found = weigh(claim, *pair)
    decision = {
        name: getattr(found.decision, name) for name in ("status", "p_smaller", "p_larger", "level", "seeds")
    }
    return shared | decision | found.columns


def weigh(claim: Claim, left: Cell, right: Cell) -> Evidence:
    """Return the evidence for a claim: the difference seed by seed, tested, and its interval over scenes.

    The first seed of one row is paired with the first of the other, and so on: a seed of pre-training, with
    the mean over its fine-tunings, or a seed of fine-tuning where nothing is pre-trained. A row without
    seeds, such as the teacher's, is the same number each time. Scenes do not enter the decision: a claim is
    about the validation set that it names.
    """
    points = "all" if {"all"} <= left.first.counts.keys() & right.first.counts.keys() else "visible"
    sides = [per_seed(left, points), per_seed(right, points)]
    count = min(
        len(values) for values, e in zip(sides, (left, right), strict=True) if replicates(e.experiment)
    )
    mine, other = (values if len(values) > 1 else values * count for values in sides)
    differences = [a - b for a, b in zip(mine[:count], other[:count], strict=True)]
    decision = decide(differences, claim.at_least, claim.seeds)
    over_seeds = mean_interval(differences[: decision.seeds])
    over_scenes = intervals([left.totals(points), right.totals(points)])[0]
    return Evidence(decision, {
        "mean": over_seeds.value, "seed_low": over_seeds.low, "seed_high": over_seeds.high,
        "low": over_scenes.low, "high": over_scenes.high, **units(left),
        "run_keys": left.keys, "against_keys": right.keys, "explanation": _explanation(claim, decision),
    })  # fmt: skip


def per_seed(cell: Cell, points: str) -> list[float]:
    """Return the mIoU, percent, of each seed that replicates a row, in its order; see `replicates`."""
    values: dict[int | None, list[float]] = {}
    for run, prediction in cell.runs.items():
        seed = run.seed if replicates(cell.experiment) == "seeds" else run.pretrain_seed
        values.setdefault(seed, []).append(100 * prediction.scores(points).miou)
    return [sum(each) / len(each) for each in values.values()]


def _explanation(claim: Claim, decision: Decision) -> str:
    if decision.seeds < FIRST_LOOK:
        return f"{decision.seeds} seeds; the first look is at {FIRST_LOOK}."
    if decision.status == "open":
        more = "all that were planned are used up" if decision.seeds >= claim.seeds else "more are needed"
        return f"Not decided after {decision.seeds} seeds: {more}."
    return f"Decided after {decision.seeds} seeds."


def markdown(study: Study, rows: list[dict[str, Any]]) -> str:
    """Return the claims for people."""
    lines = [
        "# Claims",
        "",
        f"Study `{study.name}`. A claim says that the mIoU of the left row exceeds that of the right row by "
        f"at least so many points of percent. The difference is tested after every seed from {FIRST_LOOK} "
        "on, at a level that makes the chance of a wrong answer at most 5 % over all looks. `open` is no "
        "answer: `clip2scene decide CLAIM` adds seeds.",
        "",
    ]
    header = (
        "claim", "status", "left", "right", "at least", "difference over seeds", "over scenes", "seeds",
        "p if smaller", "p if larger", "level", "why", "printed",
    )  # fmt: skip
    lines += markdown_table(header, [_shown(row) for row in rows if row["seeds"]])
    lines += ["", "## Not tested here", ""]
    untested = [
        (
            f"`{row['claim']}`",
            row["left"],
            row["right"],
            f"{row['at_least']:g}",
            row["explanation"],
            row["printed"],
        )
        for row in rows
        if not row["seeds"]
    ]
    lines += markdown_table(("claim", "left", "right", "at least", "why it is open", "printed"), untested)
    return "\n".join([*lines, *explained("claims.csv", CLAIMS)]) + "\n"


def _shown(row: dict[str, Any]) -> Iterator[Any]:
    scenes = number(row.get("low"), sign="+"), number(row.get("high"), sign="+")
    yield from (f"`{row['claim']}`", row["status"], row["left"], row["right"], f"{row['at_least']:g}")
    yield number(row.get("mean"), row.get("seed_low"), row.get("seed_high"), "+")
    yield f"[{', '.join(scenes)}]" if all(scenes) else ""
    yield f"{row['seeds']} of {row['planned']}"
    yield from (p_value(row.get("p_smaller")), p_value(row.get("p_larger")))
    yield f"{row['level']:.4f}"
    yield from (row["explanation"], row["printed"])
