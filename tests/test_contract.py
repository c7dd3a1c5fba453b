"""Contract of every registered data set and method, including third-party ones.

Each method is built, trained, saved, reloaded and evaluated through the stages that the workflow calls. This
runs on tiny synthetic data sets and on the real nuScenes keyframe, whose points are labelled by the boxes
that contain them.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from clip2scene import layout
from clip2scene.config import Config, DatasetConfig
from clip2scene.datasets import fractions
from clip2scene.datasets.index import build, load_frame, read_index
from clip2scene.datasets.registry import dataset_names, get_dataset
from clip2scene.experiments import Experiment
from clip2scene.method.spec import method_names, method_spec
from clip2scene.models.backbones import build_backbone
from clip2scene.models.prompts import write_text_embeddings
from clip2scene.models.weights import read_checkpoint
from clip2scene.pairing.superpixels import write_superpixels
from clip2scene.stages import compute
from clip2scene.synthetic.generate import WRITERS
from clip2scene.training.checkpoint import load_backbone
from clip2scene.workflow import Workflow

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
            "method": name, "recipe": method_spec(name).recipes[0], "pretrain": dataset, "target": dataset,
            "pretrain_seeds": "0",
        }  # fmt: skip
        rows.append({"protocol": "finetune", "percent": "100", "seeds": "0", **shared})
        if name in WITH_TEXT:
            rows.append({"protocol": "annotation_free", **shared})
    rows.append(
        {"protocol": "finetune", "method": "random", "target": dataset, "percent": "100", "seeds": "0"}
    )
    return [experiment(**row) for row in rows]


def workflow(folder: Path, tiny_root: Path, name: str, data: DatasetConfig) -> Workflow:
    """Return a workflow in which every stage takes seconds; the teacher trains on all tiny captions."""
    table = experiments_on(name)
    (folder / "experiments.tsv").write_text("\n".join(["\t".join(Experiment.model_fields), *table]) + "\n")
    datasets = {"captions": DatasetConfig(root=tiny_root, version="v1.0-tiny", synthetic={}), name: data}
    captioned = [
        name for name, section in datasets.items() if section.synthetic and section.synthetic.captioned
    ]
    return Workflow(
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


def make(experiment: Workflow, dataset: str) -> None:
    """Compute all runs on a data set, after the files that workflow rules make for them."""
    config = experiment.config
    data, index = config.datasets[dataset], layout.index(config, dataset)
    build(data, index)
    fractions.write(index, data.train_split, "all", 100, layout.subset(config, dataset, "", 100))
    cut = layout.superpixels(config, dataset)
    write_superpixels(index, data.pretrain_split, config.pretrain.superpixels, cut)
    for key, run in experiment.runs.items():
        compute(experiment, key)
        if run.kind == "teacher":
            prompts = get_dataset(data.format).prompts
            write_text_embeddings(layout.teacher(config), prompts, layout.text(config, dataset))


@pytest.fixture(scope="module", params=[*WRITERS, "keyframe"])
def made(request, tiny_root, tiny_kitti, tiny_rooms, tmp_path_factory):
    """Compute the runs of every method on a tiny synthetic data set per format, and on the real keyframe."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny = DatasetConfig(root=tiny_root, version="v1.0-tiny")
    data = {"nuscenes": tiny, "semantickitti": tiny_kitti, "scannet": tiny_rooms}
    if request.param == "keyframe":
        from clip2scene.synthetic.real_keyframe import write_keyframe

        shared = request.getfixturevalue("shared_data")
        data["keyframe"] = DatasetConfig(root=folder / "data", version="v1.0-keyframe")
        write_keyframe(shared / "nuscenes_scene-0061", folder / "data", "v1.0-keyframe")
    experiment = workflow(folder, tiny_root, request.param, data[request.param])
    make(experiment, request.param)
    return experiment, request.param


def metrics(experiment: Workflow, kind: str, method: str) -> dict:
    (run,) = [run for run in experiment.runs.values() if (run.kind, run.method) == (kind, method)]
    return json.loads(layout.metrics(experiment.config, run).read_text())


@pytest.mark.parametrize("method", METHODS)
def test_method_steps_and_its_checkpoint_reloads(made, method):
    experiment, dataset = made
    losses = metrics(experiment, "pretrain", method)["losses"]
    assert all(math.isfinite(value) for value in losses.values())
    (run,) = [run for run in experiment.runs.values() if (run.kind, run.method) == ("pretrain", method)]
    channels = get_dataset(experiment.config.datasets[dataset].format).feature_channels
    backbone = build_backbone(run.backbone, channels, experiment.config.backbones[run.backbone].width)
    path = layout.checkpoint(experiment.config, run)
    assert load_backbone(path, backbone)["method"] == method
    saved = read_checkpoint(path)["backbone"]
    assert all(torch.equal(tensor, saved[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize("method", [*METHODS, "random"])
def test_method_is_fine_tuned_and_evaluated(made, method):
    experiment, dataset = made
    scores = metrics(experiment, "finetune", method)["scores"]
    assert 0 <= scores["miou"] <= 1
    assert np.sum(scores["confusion"][1:]) == scores["points"] == labelled_points(experiment, dataset)


@pytest.mark.parametrize("method", WITH_TEXT)
def test_method_is_evaluated_without_annotations(made, method):
    experiment, dataset = made
    found = metrics(experiment, "annotation_free", method)
    teacher = metrics(experiment, "projection", "maskclip_projection")
    assert found["scores"]["points"] == labelled_points(experiment, dataset)
    assert found["scores_visible"]["points"] == teacher["scores"]["points"]  # evaluated on the same points


def labelled_points(experiment: Workflow, dataset: str) -> int:
    return sum((frame.labels > 0).sum() for frame in frames(experiment, dataset, "val"))


def frames(experiment: Workflow, dataset: str, split: str):
    section = experiment.config.datasets[dataset]
    index = read_index(layout.index(experiment.config, dataset), section.root).split(split)
    rows = index.frames.itertuples()
    return [
        load_frame(get_dataset(section.format), index.root, row, sweeps=range(len(row.sweep_lags)))
        for row in rows
    ]


def test_frames_are_what_the_contract_says(made):
    experiment, name = made
    dataset = get_dataset(experiment.config.datasets[name].format)
    for frame in frames(experiment, name, "val"):
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
