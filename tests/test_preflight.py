"""Before a network is trained, what its results would fail on hours later is said in one line."""

import socket
from dataclasses import replace

import pandas as pd
import pytest

from clip2scene import layout, preflight
from clip2scene.compute import compute
from clip2scene.config import Config
from clip2scene.datasets.index import read_index, write_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.experiments import Experiment
from clip2scene.files import read_json, sha256, write_json
from clip2scene.preflight import check_before_training
from clip2scene.study import Study


@pytest.fixture
def study(tmp_path, download):
    """A study of one fine-tuned network, whose index and subset are there."""
    row = {"protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes"}
    row |= {"percent": "50", "rule": "frame_skip", "seeds": "0"}
    lines = (Experiment.model_fields, [row.get(name, "") for name in Experiment.model_fields])
    (tmp_path / "rows.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    config = Config(
        experiments=tmp_path / "rows.tsv",
        results=tmp_path / "results",
        device="cpu",
        datasets={"nuscenes": {"root": download, "version": "v1.0-tiny"}},
    )
    study = Study(config)
    for kind in ("index", "subset"):
        compute(study, of_kind(study, kind))
    preflight._index.cache_clear()
    preflight._check_classes.cache_clear()
    preflight._check_server.cache_clear()
    return study


def of_kind(study, kind):
    return next(run for run in study.runs.values() if run.kind == kind)


def change_index(study, change):
    folder = layout.run_folder(study.config, of_kind(study, "index"))
    index = read_index(folder / "index.parquet", study.config.datasets["nuscenes"].root)
    write_index(folder / "index.parquet", replace(index, frames=change(index.frames)))
    description = read_json(folder / "run.json")
    description["files"]["index.parquet"] = sha256(folder / "index.parquet")
    write_json(folder / "run.json", description)


def of_val(frames: pd.DataFrame) -> pd.Series:
    return frames["splits"].map(lambda names: "val" in names)


def test_a_study_that_has_everything_passes(study, capsys):
    check_before_training(study, of_kind(study, "finetune"))
    assert capsys.readouterr().err == ""


def test_a_split_for_evaluation_that_is_missing(study):
    change_index(study, lambda frames: frames[~of_val(frames)])
    with pytest.raises(InputError, match=r"split 'val' of .*: no keyframes; splits with keyframes: .*train"):
        check_before_training(study, of_kind(study, "finetune"))


def test_labels_for_evaluation_that_are_missing(study):
    def unlabelled(frames):
        frames = frames.copy()
        frames.loc[frames.index[of_val(frames)][:1], "labels"] = None
        return frames

    change_index(study, unlabelled)
    found = r"split 'val' of .*: 1 of 2 keyframes have no labels; .* which predict \(finetune, random, "
    with pytest.raises(InputError, match=found):
        compute(study, of_kind(study, "finetune"))
    assert not layout.run_folder(study.config, of_kind(study, "finetune")).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": ("car",)}, r"datasets.nuscenes: format nuscenes: 1 prompts for 16 classes"),
        ({"classes": ("car (red)", *"abcdefghijklmno")}, r"class 'car \(red\)'; expected a name of letters"),
    ],
)
def test_prompts_and_classes(study, monkeypatch, changes, message):
    for name, value in changes.items():
        monkeypatch.setattr(type(get_dataset("nuscenes")), name, value)
    with pytest.raises(InputError, match=message):
        check_before_training(study, of_kind(study, "finetune"))


def test_a_tracking_server_that_does_not_answer_is_a_warning(study, capsys):
    run, before = of_kind(study, "finetune"), study.config.tracking
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        study.config = study.config.model_copy(update={"tracking": before.model_copy(update={"uri": uri})})
        check_before_training(study, run)
        assert capsys.readouterr().err == ""
    preflight._check_server.cache_clear()
    check_before_training(study, run)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: tracking.uri: {uri} does not answer (")
