"""A sequential test of a claim: look at the difference after every seed, and stop when it is decided.

Whoever adds seeds until a t-test is significant errs more often than its level says. Here the level is spent
over looks that are planned beforehand, by Bonferroni's inequality: each of the looks at 3, 4, ..., N seeds is
a one-sided paired t-test at 5 % divided by the number of looks. The chance that any of them errs is then at
most 5 %, whether the claim is true or not, wherever one stops, and for any correlation between looks.

Pocock's and O'Brien and Fleming's boundaries (Jennison and Turnbull 2000, Group Sequential Methods, chapters
2 and 4) lose less where the variance is known or looks are many. They are not exact for few seeds of unknown
variance, which is what networks have. With three to ten pairs, the t-statistics of successive looks are only
loosely correlated, so that Bonferroni's bound costs little, and it holds without simulation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ALPHA = 0.05
"""Chance that a decision is wrong, at most: of `holds` if the claim is false, of `fails` if it is true."""
FIRST_LOOK = 3
"""Seeds at the first look. Of two seeds nothing can be said of their spread: t would have to exceed 6.3 even
at a single look."""

Status = Literal["holds", "fails", "open"]


@dataclass(frozen=True)
class Decision:
    """The outcome of the test.

    Attributes:
        status: ``holds``, ``fails``, or ``open``: more seeds are needed, or all those planned are used up.
        seeds: Number of differences at the look that decided, or at the last one.
        p_smaller: p-value of the hypothesis that the difference is smaller than claimed; NaN before the first
            look.
        p_larger: p-value of the hypothesis that it is at least as large as claimed.
        level: Level of each look.
    """

    status: Status
    seeds: int
    p_smaller: float
    p_larger: float
    level: float


def level(planned: int) -> float:
    """Return the level of each look for a test that ends at `planned` seeds."""
    return ALPHA / (planned - FIRST_LOOK + 1)


def decide(differences: Sequence[float], at_least: float, planned: int) -> Decision:
    """Test whether the mean of normal differences is at least a value, look by look.

    Args:
        differences: Differences between two rows, one a seed, in the order in which they were run.
        at_least: The value.
        planned: Number of seeds at which the test ends, at least `FIRST_LOOK`; further ones are not used.
    """
    used = list(differences)[:planned]
    each = level(planned)
    decision = Decision("open", len(used), float("nan"), float("nan"), each)
    for seeds in range(FIRST_LOOK, len(used) + 1):
        smaller, larger = _p_values(used[:seeds], at_least)
        status: Status = "holds" if smaller <= each else "fails" if larger <= each else "open"
        decision = Decision(status, seeds, smaller, larger, each)
        if status != "open":
            break
    return decision


def _p_values(differences: Sequence[float], at_least: float) -> tuple[float, float]:
    """Return the p-values of a mean below `at_least` and of a mean of at least `at_least` (Student)."""
    from scipy import stats  # not at the top: the Snakefile imports the tables, and scipy takes 0.5 s

    values = np.asarray(differences, dtype=np.float64) - at_least
    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    if error <= 1e-12:  # the same number every time
        return (0.0, 1.0) if mean > 1e-9 else (1.0, 0.0) if mean < -1e-9 else (0.5, 0.5)
    t = mean / error
    return float(stats.t.sf(t, len(values) - 1)), float(stats.t.cdf(t, len(values) - 1))
