"""Intervals and tests over scenes, against hand-computed cases and simulations whose truth is known."""

import numpy as np
import pytest

from clip2scene.evaluation.metrics import Scores
from clip2scene.reporting import statistics
from clip2scene.reporting.statistics import holm, intervals, mean_interval, paired_p, scores, totals


def units(*hits, of=100):
    """Return [1, U, 2, 1] of one run and one class: hits of `of` points in each unit."""
    return np.array([[[[hit], [of]] for hit in hits]], dtype=np.float64)


def test_hits_and_unions_of_each_scene_by_hand():
    """Frames 0 and 2 are scene a. Class 1: 3 + 1 hits; its union there has 2 missed and 1 false more."""
    counts = np.zeros((3, 3, 3), np.int64)
    counts[0, 1, [1, 0]] = 3, 2
    counts[1, 2, [2, 1]] = 4, 1
    counts[2, 1, 1], counts[2, 2, 1] = 1, 1
    counts[:, 0, 1] = 50  # without a label
    found = totals(counts, ["a", "b", "a"])
    assert found.tolist() == [[[4, 0], [7, 1]], [[0, 4], [1, 5]]]


def test_the_sum_over_scenes_has_the_score_of_the_whole_set():
    """One metric: what is resampled is what the tables show."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, (6, 5, 5))
    counts[:, 3], counts[:, :, 3] = 0, 0  # class 3 is absent
    whole = Scores(("a", "b", "c", "d"), counts.sum(0))
    found = scores(totals(counts, list("aabbcc")).sum(axis=0)[None])
    assert found[0] == pytest.approx(100 * whole.miou)
    assert found[1:] == pytest.approx(100 * whole.iou, nan_ok=True)


def test_runs_are_averaged_and_a_class_that_one_lacks_is_the_other_s():
    two = np.array([[[2.0, 0], [4, 0]], [[3, 1], [4, 4]]])  # run 1: 50 and none; run 2: 75 and 25
    assert scores(two).tolist() == [50, 62.5, 25]


def test_an_interval_of_equal_scenes_is_a_point():
    (miou, iou) = intervals([units(30, 30, 30)])
    assert (miou.value, miou.low, miou.high) == (30, 30, 30) == (iou.value, iou.low, iou.high)


def test_a_single_scene_has_no_interval():
    (miou, _) = intervals([units(30)])
    assert miou.value == 30
    assert np.isnan([miou.low, miou.high]).all()
    assert np.isnan(paired_p(units(30), units(20)))


def test_the_level_is_expanded_for_few_scenes():
    """Of one class, mIoU is a mean of scenes: near Student's interval, wider than the plain bootstrap."""
    hits = np.random.default_rng(3).normal(50, 8, 10)
    (miou, _) = intervals([units(*hits)])
    student = mean_interval(hits.tolist())
    assert miou.value == pytest.approx(student.value)
    assert (miou.high - miou.low) == pytest.approx(student.high - student.low, rel=0.12)


def drawn(rng, scenes, classes=5, difficulty=None):
    """Return [1, U, 2, C]: scenes of unequal size and difficulty, rare and frequent classes."""
    sizes = np.round(np.exp(rng.normal(6, 1, (scenes, classes))))
    hard = rng.normal(0, 0.7, (scenes, 1)) if difficulty is None else difficulty
    hits = rng.binomial(sizes.astype(int), 1 / (1 + np.exp(-(hard + np.linspace(-1, 1, classes)))))
    unions = sizes + rng.poisson(0.3 * (sizes - hits) + 1)
    return np.stack([hits, unions], axis=1)[None].astype(np.float64)


def test_intervals_cover_the_truth():
    """Of 200 studies with 20 scenes each; an interval of 95 % that covered 98 % would be as wrong as 90 %."""
    rng = np.random.default_rng(1)
    truth = scores(drawn(rng, 100_000).sum(axis=1))[0]
    found = [intervals([drawn(rng, 20)])[0] for _ in range(200)]
    covered = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.91 <= covered <= 0.98


def test_a_paired_interval_is_shorter_where_scenes_are_hard_for_both():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 1, (30, 1))
    one, two = drawn(rng, 30, difficulty=hard), drawn(rng, 30, difficulty=hard + 0.3)
    paired = intervals([two, one])[0]
    alone = [intervals([each])[0] for each in (one, two)]
    unpaired = sum((each.high - each.low) ** 2 for each in alone) ** 0.5
    assert paired.high - paired.low < 0.5 * unpaired
    assert paired.low > 0  # which the two intervals, that overlap, do not show
    assert alone[1].low < alone[0].high


def test_the_paired_test_by_hand():
    """Three scenes that one method wins by 10 each: of 8 exchanges, none and all give 10, the others less."""
    assert paired_p(units(40, 50, 60), units(30, 40, 50)) == pytest.approx(2 / 8)
    assert paired_p(units(40, 50, 60), units(40, 50, 60)) == 1
    # differences 10, 10, -10: their mean is 10 / 3 in absolute value or 10 in the two exchanges of one sign
    assert paired_p(units(40, 50, 50), units(30, 40, 60)) == 1


def test_runs_of_two_methods_are_exchanged_in_all_pairs():
    """Two runs of 40 and 60 have the mean of one run of 50; every exchange gives both the same difference."""
    two = np.concatenate([units(40, 45, 50), units(60, 65, 70)])
    assert paired_p(two, units(30, 35, 40)) == paired_p(units(50, 55, 60), units(30, 35, 40)) == 2 / 8


def test_the_paired_test_keeps_its_level_and_finds_what_is_there():
    """200 pairs of equal methods on ten scenes: 5 % of them below 0.05, within three standard errors."""
    rng = np.random.default_rng(4)
    equal, better = [], []
    for _ in range(200):
        hard = rng.normal(0, 1, (10, 1))
        equal.append(paired_p(drawn(rng, 10, difficulty=hard), drawn(rng, 10, difficulty=hard)))
        if len(better) < 20:
            better.append(paired_p(drawn(rng, 10, difficulty=hard + 1), drawn(rng, 10, difficulty=hard)))
    assert np.mean(np.array(equal) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
    assert np.mean(np.array(better) <= 0.05) > 0.8


def test_holm_s_correction_by_hand():
    """The smallest times 3; the next times 2; the last, and each at least the one before it."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, float("nan"), 0.04]) == pytest.approx([0.02, float("nan"), 0.04], nan_ok=True)
    assert holm([]) == []


def test_student_s_interval_by_hand():
    """1, 2, 3: mean 2, standard error 1 / sqrt(3), t of two degrees of freedom 4.303."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - 2.484, 2 + 2.484), abs=1e-3)
    assert np.isnan(mean_interval([1.0]).low)


def test_the_same_numbers_every_time_in_any_order_of_classes(monkeypatch):
    rng = np.random.default_rng(5)
    one, two = drawn(rng, 40), drawn(rng, 40)
    monkeypatch.setattr(statistics, "PERMUTATIONS", 499)
    assert intervals([one, two]) == intervals([one, two])
    assert paired_p(one, two) == paired_p(one, two)
    turned = intervals([one[..., ::-1], two[..., ::-1]])
    assert turned[1:] == intervals([one, two])[:0:-1]  # integers add up exactly, whatever the order
