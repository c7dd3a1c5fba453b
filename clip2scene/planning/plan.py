"""`clip2scene plan`: the rows of the table of experiments that a budget buys, and in which order.

Rows share runs: a dozen cells may rest on one pre-training, which is paid for once. Which rows to take is a
knapsack problem with such shared items, solved exactly as an integer programme by HiGHS (in SciPy). So a
larger budget never buys fewer cells.

On N machines a study ends within ``total / N + (1 - 1 / N) * longest chain`` of its runs, whatever the order
in which they are started (R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17,
1969). A plan keeps this bound within its budget, for every row's chain.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from clip2scene.errors import InputError
from clip2scene.experiments import Experiment
from clip2scene.files import atomic
from clip2scene.planning.costs import Costs
from clip2scene.study import Study


@dataclass(frozen=True)
class Row:
    """A row of the table of experiments, as a plan sees it.

    Attributes:
        experiment: The row.
        runs: Keys of every run that it rests on, those that it shares with other rows included.
        cells: Cells of tables that it fills: one in each table that it names, at least one.
        chain: Seconds of the longest chain of runs that read from each other.
    """

    experiment: Experiment
    runs: frozenset[str]
    cells: int
    chain: float


def rows_of(study: Study, costs: Costs) -> tuple[list[Row], dict[str, float]]:
    """Return the rows of a study, and the seconds of its runs by key; runs that are finished cost nothing.

    Raises:
        InputError: the pilot did not know one of the runs.
    """
    seconds: dict[str, float] = {}
    ends: dict[str, float] = {}  # of the longest chain that ends with a run
    for key, run in study.runs.items():
        if key not in costs.runs:
            raise InputError(
                f"{study.config.results}/plan.json: does not know run {key} ({run.kind}: {run.title}); its "
                "settings have changed since, or it is new: expected a new `clip2scene pilot`"
            )
        seconds[key] = 0.0 if study.finished(run, look=False) else costs.runs[key].seconds
        parents = (parent.key for parent in study.parents(run).values())
        ends[key] = seconds[key] + max((ends[parent] for parent in parents), default=0.0)
    rows = []
    for experiment in study.experiments:
        runs = study.with_parents(study.cell(experiment))
        keys = frozenset(run.key for run in runs)
        rows.append(Row(experiment, keys, max(1, len(experiment.tables)), max(map(ends.get, keys))))
    return rows, seconds


def choose(rows: Sequence[Row], seconds: Mapping[str, float], budget: float, machines: int = 1) -> list[Row]:
    """Return the rows that fill the most cells within a budget; of equal choices, rows that come first.

    Args:
        rows: All rows, those that are needed most first.
        seconds: Cost of every run.
        budget: Time until the last of them has to be done, seconds.
        machines: Runs that are computed at a time.
    """
    if not rows:
        return []
    shared = _shared(rows, seconds)
    parts = list(shared)
    count = len(rows) + len(parts)
    # a variable a row, 1 if it is taken; and one a set of runs that the same rows share, 1 if it is computed
    order = np.arange(len(rows), 0, -1) / (len(rows) + 1) ** 2  # less than a cell for all rows together
    gain = np.concatenate([[row.cells for row in rows] + order, np.zeros(len(parts))])
    cost = np.concatenate([np.zeros(len(rows)), list(shared.values())]) / machines
    matrix, limits = [cost], [budget]
    for number, row in enumerate(rows):
        bound = cost.copy()
        bound[number] += (1 - 1 / machines) * row.chain
        matrix.append(bound)
        limits.append(budget)
    for place, part in enumerate(parts, start=len(rows)):
        for number in part:
            needs = np.zeros(count)
            needs[number], needs[place] = 1, -1
            matrix.append(needs)
            limits.append(0)
    solved = milp(
        -gain,
        constraints=LinearConstraint(np.array(matrix), -np.inf, limits),
        integrality=np.ones(count),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    if solved.x is None:
        raise InputError(f"--budget: no plan was found ({solved.message})")
    return [row for row, taken in zip(rows, solved.x, strict=False) if taken > 0.5]


def _shared(rows: Sequence[Row], seconds: Mapping[str, float]) -> dict[tuple[int, ...], float]:
    """Return the seconds of all runs that the same rows share, by the numbers of those rows."""
    readers: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        for key in row.runs:
            readers.setdefault(key, []).append(number)
    found: dict[tuple[int, ...], float] = {}
    for key, numbers in readers.items():
        found[tuple(numbers)] = found.get(tuple(numbers), 0.0) + seconds[key]
    return found


def in_order(rows: Collection[Row], seconds: Mapping[str, float]) -> Iterator[tuple[Row, float]]:
    """Yield rows in the order that fills the most cells for the time, each with the seconds that it adds.

    Rows that rest on the same unfinished runs are weighed together: the cells of all of them, for those runs
    and their own.
    """
    left = list(rows)
    done: set[str] = set()
    while left:
        readers: dict[str, int] = {}
        for row in left:
            for key in row.runs:
                readers[key] = readers.get(key, 0) + 1
        starts = {frozenset(key for key in row.runs - done if readers[key] > 1): None for row in left}
        bundles = [[row for row in left if _missing(row, done, readers) <= start] for start in starts]
        best = max(bundles, key=lambda bundle: _gain(bundle, done, seconds))
        for row in sorted(best, key=lambda row: -_gain([row], done, seconds)):
            added = sum(seconds[key] for key in row.runs - done)
            done |= row.runs
            left.remove(row)
            yield row, added


def _missing(row: Row, done: set[str], readers: Mapping[str, int]) -> set[str]:
    """Return the runs of a row that are not done and that other rows read, too."""
    return {key for key in row.runs - done if readers[key] > 1}


def _gain(bundle: Sequence[Row], done: set[str], seconds: Mapping[str, float]) -> float:
    """Return the cells a second of rows that are taken together."""
    runs = frozenset().union(*(row.runs for row in bundle)) - done
    return sum(row.cells for row in bundle) / max(1e-9, sum(seconds[key] for key in runs))


def total(rows: Collection[Row], seconds: Mapping[str, float]) -> float:
    """Return the seconds of every run that rows rest on, each counted once."""
    return sum(seconds[key] for key in frozenset().union(*(row.runs for row in rows)))


def write_rows(path: Path, rows: Sequence[Row], comment: str) -> None:
    """Write rows as a table of experiments, whole or not at all, below a line of comment."""
    names = list(Experiment.model_fields)
    lines = [f"# {comment}", "\t".join(names)]
    for row in rows:
        values = row.experiment.model_dump()
        lines.append("\t".join(_cell(values[name]) for name in names).rstrip("\t"))
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def _cell(value: str | float | tuple[int | str, ...]) -> str:
    """Return a value as a table of experiments has it."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else f"{value:g}" if value else ""
