"""Cells of result tables: scores are read from confusion matrices alone, spreads are told by their source."""

import json

import numpy as np
import pytest

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.experiments import Experiment
from clip2scene.files import sha256
from clip2scene.reporting.base import Cell, Prediction, get_table, read_cells, read_scores
from clip2scene.runs import Run

RANDOM = {
    "protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes",
    "percent": "100", "seeds": "0",
}  # fmt: skip


def cell(numbers: dict[tuple[int | None, int], float], labels: bool = True) -> Cell:
    """Return a cell whose runs, by seeds of pre-training and of fine-tuning, have these mIoU in percent."""
    if labels:
        seeds = sorted({seed for _, seed in numbers})
        experiment = Experiment(
            protocol="finetune", method="random", target="nuscenes", percent=100, seeds=seeds
        )
    else:
        experiment = Experiment(
            protocol="annotation_free", method="clip2scene", pretrain="nuscenes", target="nuscenes"
        )
    runs = {}
    for (start, seed), percent in numbers.items():
        matrix = np.array([[0, 0], [100 - percent, percent]])
        run = Run("predict", pretrain_seed=start, seed=seed)
        runs[run] = Prediction(("car",), {"all": matrix[None]}, ("frame",), ("scene",))
    return Cell(experiment, runs, synthetic=False)


def spread(numbers, **settings):
    found = cell(numbers, **settings).spread(lambda scores: 100 * scores.miou)
    return found.mean, found.pretrain_seeds, found.finetune_seeds, found.pretrain_std, found.finetune_std


def test_spread_over_both_kinds_of_seeds():
    """From start 0: 30 and 34, mean 32, variance 8; from start 1: 40 and 46, mean 43, variance 18.

    Means 32 and 43 differ by 11, so that their standard deviation is 11 / sqrt(2); pooled, 8 and 18 are 13.
    """
    numbers = {(0, 0): 30, (0, 1): 34, (1, 0): 40, (1, 1): 46}
    assert spread(numbers) == pytest.approx((37.5, 2, 2, 11 / 2**0.5, 13**0.5))


def test_a_random_initialisation_has_no_pre_training_to_spread_over():
    """42, 44 and 49 have mean 45 and variance (9 + 1 + 16) / 2."""
    assert spread({(None, 0): 42, (None, 1): 44, (None, 2): 49}) == (45, 0, 3, None, pytest.approx(13**0.5))


def test_one_pre_training_says_nothing_of_its_own_spread():
    assert spread({(3, 0): 30, (3, 1): 34}) == (32, 1, 2, None, pytest.approx(8**0.5))


def test_one_fine_tuning_of_each_pre_training():
    assert spread({(0, 0): 30, (1, 0): 34}) == (32, 2, 1, pytest.approx(8**0.5), None)


def test_a_single_run_has_no_spread():
    assert spread({(0, 0): 30}) == (30, 1, 1, None, None)
    assert spread({(None, 0): 30}) == (30, 0, 1, None, None)


def test_without_labels_there_is_no_fine_tuning():
    """Its runs have the seeds of their pre-trainings."""
    numbers = {(0, 0): 30, (1, 1): 34}
    assert spread(numbers, labels=False) == (32, 2, 0, pytest.approx(8**0.5), None)


def test_the_teacher_is_scored_on_the_points_that_a_camera_sees():
    seen = Prediction(("car",), {"visible": np.array([[[0, 0], [80, 20]]])}, ("frame",), ("scene",))
    experiment = Experiment(protocol="annotation_free", method="maskclip_projection", target="nuscenes")
    found = Cell(experiment, {Run("projection"): seen}, synthetic=False)
    assert found.spread(lambda values: 100 * values.miou).mean == 20


def test_a_run_without_a_number_is_left_out_of_that_number():
    """Of 30, none and 40, those there differ by 10; the number that no run has is NaN, and has no spread."""
    found = cell({(0, 0): 1, (1, 0): 2, (2, 0): 3}).spreads([[30, np.nan], [np.nan, np.nan], [40, np.nan]])
    assert (found[0].mean, found[0].pretrain_seeds, found[0].pretrain_std) == (35, 2, pytest.approx(50**0.5))
    assert np.isnan(found[1].mean)
    assert (found[1].pretrain_seeds, found[1].finetune_seeds, found[1].pretrain_std) == (0, 0, None)


@pytest.fixture
def one(tmp_path, make_study, finish):
    """A study of one row, finished, and the run that fills its cell."""
    study = make_study(tmp_path, RANDOM)
    finish(study)
    return study, study.cell(study.experiments[0])[0]


def confusion(study, run):
    return layout.run_folder(study.config, run) / "confusion.npz"


HAND = np.zeros((2, 17, 17), np.int64)
"""Two keyframes; together: class 1 has 9 points: 6 hits, 2 taken for class 2, 1 given no class.
Class 2 has 8: 5 hits, 3 taken for class 1. Class 4 has 10: 6 hits, 4 taken for class 3, which does not occur.
100 points without a label are taken for class 1, and do not count."""
HAND[0, 1, [1, 2]] = 5, 2
HAND[1, 1, [1, 0]] = 1, 1
HAND[0, 2, 2], HAND[1, 2, [2, 1]] = 4, (1, 3)
HAND[1, 4, [4, 3]] = 6, 4
HAND[0, 0, 1] = 100


def test_scores_are_those_of_the_confusion_matrix(one, write_run):
    """IoU by hand: 6 / (9 + 3) = 0.5, 5 / (8 + 2) = 0.5, 0 / 4 = 0, 6 / 10 = 0.6; mean of the four: 0.4."""
    study, run = one
    write_run(study, run, {"all": HAND, "visible": HAND * np.array([1, 0])[:, None, None]})
    scores = read_scores(study, run)
    assert scores["all"].miou == pytest.approx(0.4)
    assert scores["all"].iou[:4] == pytest.approx([0.5, 0.5, 0, 0.6])
    assert np.isnan(scores["all"].iou[4:]).all()
    assert scores["all"].present == 4
    assert scores["all"].miou_released == pytest.approx((0.5 + 0.5 + 0 + 0.6 + 12) / 16)
    assert scores["visible"].iou[:2] == pytest.approx([5 / 7, 4 / 6])  # of the first keyframe


def test_cells_hold_the_scores_of_their_runs(one):
    study, run = one
    (found,) = read_cells(study, "main")
    assert (found.experiment, found.keys, found.synthetic) == (study.experiments[0], run.key, False)
    assert found.scores[run].miou == pytest.approx(0.3)


def test_a_cell_on_synthetic_data_says_so(tmp_path, make_study, finish):
    """Also where the network alone comes from synthetic data."""
    datasets = {"nuscenes": {"root": "a"}, "made": {"root": "b", "synthetic": {}}}
    rows = [RANDOM, RANDOM | {"method": "slidr", "pretrain": "made", "pretrain_seeds": "0"}]
    settings = {"image_encoder": {"pretrained": "a-tag"}}
    study = make_study(tmp_path, *rows, datasets=datasets, **settings)
    finish(study)
    assert [found.synthetic for found in read_cells(study, "main")] == [False, True]


def test_a_file_that_the_run_did_not_write_is_refused(one, write_run):
    study, run = one
    path = confusion(study, run)
    before = (path.parent / "run.json").read_bytes()
    write_run(study, run, {"all": 2 * HAND})  # whole, but another run's
    (path.parent / "run.json").write_bytes(before)
    with pytest.raises(InputError, match=r"confusion.npz: its SHA-256 is not the one in run.json"):
        read_scores(study, run)


def negative(matrices):
    matrices[0, 1, 1] = -1
    return matrices


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (negative, "all: holds negative counts"),
        (lambda m: np.pad(m, ((0, 0), (0, 1), (0, 1))), r"all: found int64 \[2, 18, 18\]; expected integers"),
        (lambda m: m[:, :16, :16], r"all: found int64 \[2, 16, 16\]; expected integers \[F, 17, 17\]"),
        (lambda m: m[0], r"all: found int64 \[17, 17\]; expected integers \[F, 17, 17\]"),
        (lambda m: m / 2, r"all: found float64 \[2, 17, 17\]; expected integers"),
    ],
)
def test_matrices_that_cannot_be_are_refused(one, write_run, change, message):
    """Even if the run itself wrote them."""
    study, run = one
    write_run(study, run, {"all": change(HAND.copy())})
    with pytest.raises(InputError, match=rf"{run.key}/confusion.npz: {message}"):
        read_scores(study, run)


@pytest.mark.parametrize("size", [0, 10, -1, -200])
def test_a_truncated_file_is_refused(one, size):
    """First because of its hash; if run.json agrees, because it is damaged."""
    study, run = one
    path = confusion(study, run)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"confusion.npz: its SHA-256 is not the one in run.json"):
        read_scores(study, run)
    values = json.loads((path.parent / "run.json").read_text())
    values["files"][path.name] = sha256(path)
    (path.parent / "run.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"confusion.npz: expected confusion matrices, found a damaged file"):
        read_scores(study, run)


def test_an_unfinished_run_is_named(one):
    study, run = one
    path = layout.run_folder(study.config, run) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    with pytest.raises(InputError, match=rf"run {run.key} \(predict: finetune, random.*\) is not finished"):
        read_cells(study, "main")


def test_an_unknown_table_is_named():
    with pytest.raises(InputError, match=r"table.*'man' is not known, did you mean 'main'\?"):
        get_table("man")
