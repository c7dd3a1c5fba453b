"""`clip2scene decide`: add seeds to the two rows of a claim, one by one, until it is decided."""

import time
from collections.abc import Iterator
from itertools import count

from clip2scene.compute import compute
from clip2scene.errors import InputError, unknown
from clip2scene.experiments import Experiment
from clip2scene.reporting.answers import weigh
from clip2scene.reporting.base import Cell, read_cell
from clip2scene.reporting.claims import Claim, find_row, not_testable, read_claims, replicates
from clip2scene.reporting.columns import number
from clip2scene.reporting.numbers import words
from clip2scene.reporting.sequential import FIRST_LOOK, Decision
from clip2scene.study import Study


def decide_claim(
    study: Study, name: str, seeds: int | None = None, minutes: float | None = None, processes: int = 1
) -> Iterator[str]:
    """Compute runs of more and more seeds until a claim is decided; yield a line a look.

    Seeds that the table of experiments names come first. Runs are computed as everywhere: what is there is
    recognised, and what is computed stays. The test is `clip2scene.reporting.sequential.decide`, whose looks
    are planned in the table of claims, so that stopping early, for any reason, does not make it err more.

    Args:
        study: The study.
        name: The claim.
        seeds: Stop at this many, which is not above what the claim plans.
        minutes: Start no further seed after so long.
        processes: Worker processes that a stage may use.

    Raises:
        InputError: there is no such claim, its rows are not in the study or cannot be tested, or the budget
            is larger than the claim plans.
    """
    claim = _named(study, name)
    if seeds is not None and not FIRST_LOOK <= seeds <= claim.seeds:
        raise InputError(
            f"--seeds: found {seeds}; expected {FIRST_LOOK} to {claim.seeds}, the number that claim {name} "
            f"of {study.config.claims} plans (a test that goes on beyond its plan errs more often)"
        )
    sides = [find_row(study, claim, side) for side in ("left", "right")]
    if reason := not_testable(study, claim, sides):
        raise InputError(f"{study.config.claims}: claim {name}: cannot be tested here. {reason}")
    left, right = sides
    yield f"{name}: {words(left)} better than {words(right)} by at least {claim.at_least:g}"
    start, last = time.monotonic(), min(claim.seeds, seeds or claim.seeds)
    for seed in range(1, last + 1):
        if minutes is not None and time.monotonic() - start > 60 * minutes:
            yield f"open: {minutes:g} minutes are spent"
            return
        rows = [with_seeds(e, seed) for e in sides]
        evidence = weigh(claim, *(_computed(study, e, processes) for e in rows))
        if seed < FIRST_LOOK:
            continue
        yield _line(evidence.decision, evidence.columns)
        if evidence.decision.status != "open":
            break
    else:
        planned = "all that were planned" if last == claim.seeds else "the budget"
        yield f"open: {last} seeds are used up, {planned}"
    for e in rows:
        if column := replicates(e):
            numbers = " ".join(map(str, getattr(e, column)))
            yield f"to keep it: {column} {numbers} in {study.config.experiments}, {words(e)}"


def with_seeds(e: Experiment, seeds: int) -> Experiment:
    """Return a row with so many seeds that replicate it: its own first, then the smallest that are unused."""
    column = replicates(e)
    if not column:
        return e
    own = getattr(e, column)
    unused = (seed for seed in count() if seed not in own)
    more = [next(unused) for _ in range(seeds - len(own))]
    return e.model_copy(update={column: (*own, *more)[:seeds]})


def _named(study: Study, name: str) -> Claim:
    claims = {claim.claim: claim for claim in read_claims(study.config.claims)}
    if name not in claims:
        raise unknown(f"{study.config.claims}: claim", name, claims)
    return claims[name]


def _computed(study: Study, e: Experiment, processes: int) -> Cell:
    """Compute every run behind a row, unless it is there, and read its cell."""
    for run in study.with_parents(study.cell(e)):
        compute(study, run, processes)
    return read_cell(study, e)


def _line(decision: Decision, columns: dict[str, float]) -> str:
    """Return one look in words."""
    difference = number(columns["mean"], columns["seed_low"], columns["seed_high"], "+")
    return (
        f"{decision.status} at {decision.seeds} seeds: difference {difference} over seeds; "
        f"p {decision.p_smaller:.4f} if it were smaller than claimed, {decision.p_larger:.4f} if not; "
        f"level {decision.level:.4f}"
    )
