"""Contract of every registered data set and method, including third-party ones.

Each method is built, trained, saved, reloaded and evaluated through the stages that the workflow calls. This
runs on tiny synthetic data sets and on the real nuScenes keyframe, whose points are labelled by the boxes
that contain them.
"""

import math

import numpy as np
import pytest
import torch

from clip2scene import layout
from clip2scene.compute import compute
from clip2scene.config import Config, DatasetConfig
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.registry import dataset_names, get_dataset
from clip2scene.evaluation.confusion import read_confusion
from clip2scene.evaluation.metrics import Scores
from clip2scene.experiments import Experiment
from clip2scene.files import read_json
from clip2scene.method.spec import method_names, method_spec
from clip2scene.models.backbones import build_backbone
from clip2scene.models.weights import read_checkpoint
from clip2scene.runs import Run
from clip2scene.study import Study
from clip2scene.synthetic.generate import WRITERS
from clip2scene.training.checkpoint import load_backbone

METHODS = [name for name in method_names() if method_spec(name).implementation]
WITH_TEXT = [name for name in METHODS if "text" in method_spec(name).needs]


BACKBONE = {"scannet": "minkunet14a"}
"""Backbones of the paper by data set; SPVCNN for all others."""


def experiment(**fields: str) -> str:
    row = {"backbone": BACKBONE.get(fields["target"], "spvcnn"), **fields}
    return "\t".join(row.get(name, "") for name in Experiment.model_fields)


def experiments_on(dataset: str) -> list[str]:
    rows = [
        {"protocol": "annotation_free", "method": "maskclip_projection", "backbone": "", "target": dataset}
    ]
    for name in METHODS:
        shared = {
            "method": name, "recipe": next(iter(method_spec(name).recipes)), "pretrain": dataset,
            "target": dataset, "pretrain_seeds": "0",
        }  # fmt: skip
        rows.append({"protocol": "finetune", "percent": "100", "seeds": "0", **shared})
        if name in WITH_TEXT:
            rows.append({"protocol": "annotation_free", **shared})
    rows.append(
        {"protocol": "finetune", "method": "random", "target": dataset, "percent": "100", "seeds": "0"}
    )
    return [experiment(**row) for row in rows]


def study(folder, name: str, data: DatasetConfig, streets: DatasetConfig) -> Study:
    """Return a study in which every stage takes seconds; the teacher trains on all tiny captions."""
    table = experiments_on(name)
    (folder / "experiments.tsv").write_text("\n".join(["\t".join(Experiment.model_fields), *table]) + "\n")
    sections = {"captions": streets, name: data}
    datasets = {
        name: section.model_copy(update={"root": folder / "data" / name}) if section.synthetic else section
        for name, section in sections.items()
    }
    captioned = [
        name for name, section in datasets.items() if section.synthetic and section.synthetic.captioned
    ]
    return Study(
        Config(
            experiments=folder / "experiments.tsv",
            results=folder / "results",
            device="cpu",
            datasets=datasets,
            backbones={"spvcnn": {}, "minkunet14a": {}},
            teacher={"datasets": captioned, "training": {"steps": 3, "batch_size": 16}},
            image_encoder={"datasets": [name], "training": {"steps": 2, "batch_size": 4}},
            pretrain={"epochs": 1, "sweeps": 2, "crop": {"size": (32, 56)}},
            finetune={"epochs": 1, "minimum_steps": 2},
        )
    )


@pytest.fixture(scope="module", params=[*WRITERS, "keyframe"])
def made(request, tiny_streets, tiny_kitti, tiny_rooms, link_made, tmp_path_factory):
    """Compute the runs of every method on a tiny synthetic data set per format, and on the real keyframe."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    tiny = DatasetConfig(root=tiny_streets.root, version="v1.0-tiny")
    data = {"nuscenes": tiny, "semantickitti": tiny_kitti, "scannet": tiny_rooms}
    if name == "keyframe":
        from clip2scene.synthetic.real_keyframe import write_keyframe

        shared = request.getfixturevalue("shared_data")
        data[name] = DatasetConfig(root=folder / "download", version="v1.0-keyframe")
        write_keyframe(shared / "nuscenes_scene-0061", folder / "download", "v1.0-keyframe")
    made = study(folder, name, data[name], tiny_streets)
    sections = {"captions": tiny_streets, name: data[name]}
    link_made(made, **{name: section.root for name, section in sections.items() if section.synthetic})
    for run in made.runs.values():
        compute(made, run)
    return made, name


def run_of(study: Study, kind: str, method: str) -> Run:
    (run,) = [run for run in study.runs.values() if (run.kind, run.method) == (kind, method)]
    return run


def scores_of(study: Study, kind: str, method: str, points: str = "all") -> Scores:
    run = run_of(study, kind, method)
    classes = get_dataset(study.config.datasets[run.target].format).classes
    counts = read_confusion(layout.run_folder(study.config, run) / "confusion.npz", len(classes))
    return Scores(classes, counts[points].sum(axis=0))


@pytest.mark.parametrize("method", METHODS)
def test_method_steps_and_its_checkpoint_reloads(made, method):
    study, dataset = made
    run = run_of(study, "pretrain", method)
    folder = layout.run_folder(study.config, run)
    losses = read_json(folder / "metrics.json")["losses"]
    assert all(math.isfinite(value) for value in losses.values())
    channels = get_dataset(study.config.datasets[dataset].format).feature_channels
    backbone = build_backbone(run.backbone, channels, study.config.backbones[run.backbone].width)
    assert load_backbone(folder / "checkpoint.pt", backbone)["method"] == method
    saved = read_checkpoint(folder / "checkpoint.pt")["backbone"]
    assert all(torch.equal(tensor, saved[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize("method", [*METHODS, "random"])
def test_method_is_fine_tuned_and_evaluated(made, method):
    study, dataset = made
    scores = scores_of(study, "predict", method)
    assert 0 <= scores.miou <= 1
    assert scores.points == labelled_points(study, dataset)


@pytest.mark.parametrize("method", WITH_TEXT)
def test_method_is_evaluated_without_annotations(made, method):
    study, dataset = made
    assert scores_of(study, "annotation_free", method).points == labelled_points(study, dataset)
    found = scores_of(study, "annotation_free", method, "visible")
    teacher = scores_of(study, "projection", "maskclip_projection", "visible")
    # evaluated on the same points, so that each class has as many
    np.testing.assert_array_equal(found.confusion[1:].sum(axis=1), teacher.confusion[1:].sum(axis=1))
    assert found.points > 0


def test_every_run_is_recognised_as_finished(made):
    """Computed again by another process, which has only the files to go by, nothing would be computed."""
    study, _ = made
    again = Study(study.config)
    assert list(again.runs) == list(study.runs)
    assert all(again.finished(run) for run in again.runs.values())


def test_every_cell_is_filled_by_predictions(made):
    study, _ = made
    for experiment in study.experiments:
        for run in study.cell(experiment):
            assert (layout.run_folder(study.config, run) / "confusion.npz").is_file()


def labelled_points(study: Study, dataset: str) -> int:
    return sum((frame.labels > 0).sum() for frame in frames(study, dataset, "val"))


def frames(study: Study, dataset: str, split: str):
    section = study.configuration().datasets[dataset]
    index = read_index(study.index(dataset), section.root).split(split)
    rows = index.frames.itertuples()
    return [
        load_frame(get_dataset(section.format), index.root, row, sweeps=range(len(row.sweep_lags)))
        for row in rows
    ]


def test_frames_are_what_the_contract_says(made):
    study, name = made
    dataset = get_dataset(study.config.datasets[name].format)
    for frame in frames(study, name, "val"):
        n = len(frame.points)
        assert frame.points.shape == (n, 3)
        assert frame.features.shape == (n, dataset.feature_channels)
        assert frame.points.dtype == frame.features.dtype == np.float32
        assert np.isfinite(frame.points).all()
        assert frame.sweep.shape == frame.labels.shape == (n,)
        assert 0 <= frame.labels.min() <= frame.labels.max() <= len(dataset.classes)
        assert (frame.labels[frame.sweep > 0] == 0).all()
        for camera in frame.cameras:
            assert camera.image.is_file()
            assert np.allclose(
                camera.lidar_to_camera[:3, :3] @ camera.lidar_to_camera[:3, :3].T, np.eye(3), atol=1e-6
            )


@pytest.mark.parametrize("name", dataset_names())
def test_data_set_describes_its_classes(name):
    dataset = get_dataset(name)
    assert dataset.name == name
    assert len(dataset.classes) == len(dataset.prompts) == len(dataset.colours) == len(set(dataset.classes))
    assert dataset.colours.dtype == np.uint8
