"""The sequential test: hand-computed looks, and its error rate in simulated studies with our own spread."""

import numpy as np
import pytest
from scipy import stats

from clip2scene.reporting.sequential import ALPHA, FIRST_LOOK, decide, level

OURS = (29.0, 29.6, 28.2, 26.3)
"""Annotation-free mIoU of four seeds of pre-training of the embedded study (README)."""
SPREAD = np.std(OURS, ddof=1) * 2**0.5
"""Standard deviation of a difference of two such rows, seed by seed."""
PLANNED = 8
STUDIES = 200


def studies(difference, seed):
    """Return [200, 8] differences, one a seed, of rows whose mean difference is `difference`."""
    return np.random.default_rng(seed).normal(difference, SPREAD, (STUDIES, PLANNED))


def answers(values, at_least=0.0):
    return [decide(each.tolist(), at_least, PLANNED).status for each in values]


def test_a_look_by_hand():
    """1, 2, 3: t = 2 sqrt(3) of two degrees of freedom, whose upper tail is 0.0371."""
    found = decide([1, 2, 3], 0, 3)
    assert (found.status, found.seeds, found.level) == ("holds", 3, 0.05)
    assert found.p_smaller == pytest.approx(0.0371, abs=1e-4)
    assert found.p_larger == pytest.approx(1 - found.p_smaller)
    assert decide([1, 2, 3], 0, 5).status == "open"  # three looks at 0.0167
    assert decide([1, 2, 3], 4, 3).status == "fails"
    assert decide([1, 2, 3], 2, 3).status == "open"


def test_levels_of_all_looks_add_up():
    for planned in range(FIRST_LOOK, 20):
        assert level(planned) * len(range(FIRST_LOOK, planned + 1)) == pytest.approx(ALPHA)


def test_the_first_look_that_decides_counts():
    """Later seeds, such as those added for another claim, do not change the answer."""
    decided = decide([5.0, 5.1, 4.9], 0, 5)
    assert decided.status == "holds"
    assert decide([5.0, 5.1, 4.9, -40, -40], 0, 5) == decided
    assert decide([5.0, 5.1, 4.9, -40, -40, -40], 0, 5) == decided


def test_seeds_beyond_the_plan_are_not_used():
    few = decide([1.0, -1.0, 2.0], 0, 3)
    assert few.status == "open"
    assert decide([1.0, -1.0, 2.0, 2.0, 2.0, 2.0], 0, 3) == few


@pytest.mark.parametrize("values", [[], [9.0], [9.0, 9.0]])
def test_nothing_is_decided_before_the_first_look(values):
    found = decide(values, 0, PLANNED)
    assert (found.status, found.seeds) == ("open", len(values))
    assert np.isnan(found.p_smaller)


def test_the_same_difference_every_time():
    assert decide([1, 1, 1], 0, 3).status == "holds"
    assert decide([1, 1, 1], 2, 3).status == "fails"
    assert decide([1, 1, 1], 1, 3).status == "open"


@pytest.mark.parametrize("at_least", [0.0, 8.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_most_five_percent_of_studies_are_wrong_under_both_hypotheses(at_least, seed):
    """At the boundary, where it errs most: a difference that just reaches the claim, and one that just fails.

    A difference further away is decided wrongly less often, and rightly more often.
    """
    true = answers(studies(at_least, seed), at_least)
    false = answers(studies(at_least - 1e-6, seed + 10), at_least)
    assert true.count("fails") <= 0.05 * STUDIES
    assert false.count("holds") <= 0.05 * STUDIES
    far = answers(studies(at_least + 4 * SPREAD, seed + 20), at_least)
    assert far.count("fails") == 0
    assert far.count("holds") >= 0.95 * STUDIES


def test_a_test_after_each_seed_at_the_full_level_would_err_more_often():
    """So the simulation can tell a test that keeps its level from one that does not."""
    wrong = 0
    for values in studies(0.0, 10):
        looks = (
            stats.ttest_1samp(values[:n], 0, alternative="greater").pvalue
            for n in range(FIRST_LOOK, PLANNED + 1)
        )
        wrong += any(p <= ALPHA for p in looks)
    assert wrong > 0.08 * STUDIES


def test_large_differences_are_decided_soon():
    """Four times the spread of a difference, which is what pre-training is worth here: by the fifth seed."""
    seeds = [decide(each.tolist(), 0, PLANNED).seeds for each in studies(4 * SPREAD, 5)]
    assert np.median(seeds) <= 4
