import numpy as np
import pytest
import torch

from clip2scene.evaluation.confusion import confusion_matrix
from clip2scene.evaluation.metrics import Scores, iou

LABELS = [0, 0, 1, 1, 1, 2, 2, 4]
PREDICTIONS = [1, 4, 1, 1, 2, 2, 0, 1]
CLASSES = ("car", "road", "tree", "wall")


def released_miou(predictions, labels, classes):
    """compute_IoU(..., ignore_index=0) of SLidR @ 14729d0, utils/metrics.py, step by step."""
    hist = torch.bincount((classes + 1) * labels + predictions, minlength=(classes + 1) ** 2)
    hist = hist.reshape(classes + 1, classes + 1).float()
    hist[0] = 0.0
    intersection = torch.diag(hist)
    union = hist.sum(1) + hist.sum(0) - intersection
    values = intersection / union
    values[union == 0] = 1.0
    return values[1:].mean().item()


def test_scores_by_hand():
    scores = Scores(CLASSES, confusion_matrix(PREDICTIONS, LABELS, 4))
    # car: 2 hits, 1 missed, 1 wall taken for it; road: 1 hit, 1 without class, 1 car taken for it;
    # tree: nowhere (the prediction of an ignored point does not count); wall: one, missed
    np.testing.assert_allclose(scores.iou, [2 / 4, 1 / 3, np.nan, 0])
    assert scores.present == 3
    assert scores.miou == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert scores.miou_released == pytest.approx((1 / 2 + 1 / 3 + 1 + 0) / 4)
    assert scores.points == 6


def test_a_class_that_is_only_predicted_has_iou_0():
    assert iou(confusion_matrix([2, 1], [1, 1], 2)).tolist() == [0.5, 0.0]


def test_released_convention_is_the_released_formula():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 5, (2, 300))  # classes 5 and 6 are absent
    scores = Scores(tuple("abcdef"), confusion_matrix(predictions, labels, 6))
    expected = released_miou(torch.from_numpy(predictions), torch.from_numpy(labels), 6)
    assert scores.miou_released == pytest.approx(expected, abs=1e-6)


def test_counts_add_up_over_frames_and_stay_exact():
    generator = np.random.default_rng(1)
    labels, predictions = generator.integers(0, 4, (2, 1000))
    parts = sum(confusion_matrix(predictions[i::7], labels[i::7], 3) for i in range(7))
    whole = confusion_matrix(torch.from_numpy(predictions), torch.from_numpy(labels), 3)
    np.testing.assert_array_equal(parts, whole)
    huge = Scores(("a", "b"), np.array([[0, 0, 0], [0, 2**53 + 1, 0], [0, 0, 1]]))
    assert huge.points == 2**53 + 2  # a float32 or float64 matrix would lose the one


def test_json_keeps_everything_and_undefined_is_null():
    scores = Scores(CLASSES, confusion_matrix(PREDICTIONS, LABELS, 4))
    values = scores.to_json()
    assert values["iou"]["tree"] is None
    np.testing.assert_array_equal(values["confusion"], scores.confusion)
    assert Scores(("a",), np.zeros((2, 2), np.int64)).to_json()["miou"] is None
