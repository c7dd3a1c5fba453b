"""The file of confusion matrices: it keeps every count, and what it does not hold is an error by name."""

import numpy as np
import pandas as pd
import pytest
import torch

from clip2scene.config import Config
from clip2scene.datasets.index import Index
from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import read_confusion, read_ids, write_confusion
from clip2scene.evaluation.predictions import Predictions
from clip2scene.files import read_json

COUNTS = np.arange(2 * 4 * 4).reshape(2, 4, 4)


def test_counts_are_read_back_by_set_of_points(tmp_path):
    write_confusion(tmp_path / "confusion.npz", ["a", "b"], {"all": COUNTS, "visible": COUNTS // 2})
    counts = read_confusion(tmp_path / "confusion.npz", 3)
    np.testing.assert_array_equal(counts["all"], COUNTS)
    np.testing.assert_array_equal(counts["visible"], COUNTS // 2)
    with np.load(tmp_path / "confusion.npz") as file:
        assert file["ids"].tolist() == ["a", "b"]


def test_equal_counts_make_equal_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_confusion(tmp_path / name, ["a", "b"], {"all": COUNTS})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"all": COUNTS[:, :3, :3]},
            r"npz: all: found int64 \[2, 3, 3\]; expected .* \[F, 4, 4\]",
        ),
        ({"visible": COUNTS[0]}, r"visible: found int64 \[4, 4\]"),
        ({"all": COUNTS / 2}, "all: found float64"),
        ({"all": COUNTS - 1}, "all: holds negative counts"),
        ({"everything": COUNTS}, "expected matrices named all or visible"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(tmp_path, counts, message):
    write_confusion(tmp_path / "confusion.npz", ["a", "b"], counts)
    with pytest.raises(InputError, match=message):
        read_confusion(tmp_path / "confusion.npz", 3)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    path = tmp_path / "confusion.npz"
    with pytest.raises(InputError, match=r"confusion\.npz: no such file"):
        read_confusion(path, 3)
    write_confusion(path, ["a", "b"], {"all": COUNTS})
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"confusion\.npz: expected confusion matrices"):
            read_confusion(path, 3)


def test_no_damaged_byte_changes_a_count(tmp_path):
    """Each byte in turn: either it does not matter, or the file is refused as damaged."""
    path = tmp_path / "confusion.npz"
    write_confusion(path, ["a", "b"], {"all": COUNTS})
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            counts = read_confusion(path, 3)
        except InputError:
            refused += 1
        else:
            np.testing.assert_array_equal(counts["all"], COUNTS)
    assert refused > len(whole) / 3


class TwoProcesses:
    """Stands in for Fabric on the first of two processes, of which the other predicts the same."""

    is_global_zero = True

    def all_reduce(self, values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return 2 * values


def test_predictions_of_all_processes_are_counted_keyframe_by_keyframe(tmp_path, make_record):
    index = Index("nuscenes", tmp_path, pd.DataFrame({"id": ["a", "b"]}))
    record = make_record(tmp_path / "runs" / "abc", "predict")
    record.begin(Config(datasets={"any": {"root": "data"}}), "cpu")
    predictions = Predictions(TwoProcesses(), index, 2, ("all",))
    predictions.add("all", 1, np.array([1, 2, 2]), np.array([1, 1, 0]))
    predictions.save(record, "here")
    counts = read_confusion(record.folder / "confusion.npz", 2)["all"]
    assert counts[0].sum() == 0
    np.testing.assert_array_equal(counts[1], [[0, 0, 2], [0, 2, 2], [0, 0, 0]])
    assert read_json(record.folder / "metrics.json")["frames"] == 2
    assert "confusion.npz" in read_json(record.description)["files"]


def test_points_without_labels_score_nothing(tmp_path, make_record):
    index = Index("nuscenes", tmp_path, pd.DataFrame({"id": ["a"]}))
    predictions = Predictions(TwoProcesses(), index, 2, ("visible",))
    predictions.add("visible", 0, np.array([1, 2]), np.array([0, 0]))
    with pytest.raises(InputError, match="here, visible points: no point has a label"):
        predictions.save(make_record(tmp_path, "predict"), "here")
    assert not (tmp_path / "confusion.npz").exists()


def test_the_keyframes_of_the_matrices_are_read(tmp_path):
    path = tmp_path / "confusion.npz"
    write_confusion(path, ["b", "a"], {"all": np.zeros((2, 4, 4), np.int64)})
    assert read_ids(path) == ("b", "a")


@pytest.mark.parametrize("ids", [["a", "a"], [1, 2], [["a", "b"]], None])
def test_ids_that_name_no_keyframes_are_refused(tmp_path, ids):
    arrays = {"all": np.zeros((2, 4, 4), np.int64)} | ({} if ids is None else {"ids": np.array(ids)})
    np.savez(tmp_path / "confusion.npz", **arrays)
    with pytest.raises(InputError, match=r"confusion.npz: ids: found .*; expected a name a keyframe"):
        read_ids(tmp_path / "confusion.npz")
