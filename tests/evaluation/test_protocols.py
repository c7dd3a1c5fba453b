"""Pre-training, annotation-free evaluation, fine-tuning and probing on a world of three classes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from clip2scene.config import Config
from clip2scene.datasets import fractions
from clip2scene.datasets.index import Index, write_index
from clip2scene.errors import InputError
from clip2scene.evaluation import annotation_free
from clip2scene.evaluation.metrics import Scores
from clip2scene.method.base import Method, Resources
from clip2scene.method.spec import MethodSpec
from clip2scene.models.weights import read_checkpoint, write_checkpoint
from clip2scene.training import pretrain as pretraining
from clip2scene.training.finetune import Segmenter, finetune, parameter_groups
from clip2scene.record import RunRecord

CATEGORIES = np.array([0, 17, 24, 30])  # lidarseg: noise, car, driveable surface, vegetation
CLASSES = np.array([0, 4, 11, 16])  # of the challenge
FRAMES = 6
CAMERA = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])  # looks along x


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """nuScenes' files: 6 frames of 500 points whose intensity tells their class; the last two to validate."""
    root = tmp_path_factory.mktemp("world")
    rows = []
    for number in range(FRAMES):
        draws = np.random.default_rng(number)
        kind = draws.integers(0, 4, 500)
        place = draws.uniform((-10, -10, 0), (10, 10, 1), (500, 3)) + kind[:, None] * (0, 0, 2)
        cloud = np.column_stack([place, 60 * kind + draws.uniform(0, 20, 500), np.zeros(500)])
        cloud.astype(np.float32).tofile(root / f"{number}.bin")
        CATEGORIES[kind].astype(np.uint8).tofile(root / f"{number}.labels")
        Image.fromarray(draws.integers(0, 256, (32, 64, 3), np.uint8)).save(root / f"{number}.png")
        rows.append(_row(number))
    write_index(root / "index.parquet", Index("nuscenes", root, pd.DataFrame(rows)))
    fractions.write_subset(root / "subset.json", ["0", "2", "3"], split="train", rule="file", percent=75)
    write_checkpoint(root / "text.pt", {"prompts": [], "embeddings": torch.eye(16)})
    data = {"root": root, "pretrain_split": "train", "voxel_size": 0.5}
    config = Config(
        device="cpu",
        datasets={"nuscenes": data},
        backbones={"spvcnn": {"width": 0.125}},
        pretrain={"epochs": 2},
        finetune={"epochs": 8, "head_learning_rate": 0.2, "optimiser": {"learning_rate": 0.02}},
    )
    return root, config


def _row(number):
    intrinsics = np.array([[32.0, 0, 32], [0, 32, 16], [0, 0, 1]])
    return {
        "id": str(number),
        "scene": "a",
        "splits": ["val" if number >= 4 else "train"],
        "timestamp": number,
        "points": f"{number}.bin",
        "labels": f"{number}.labels",
        "sweep_points": [],
        "sweep_poses": [],
        "sweep_lags": [],
        "camera_names": ["CAM_FRONT"],
        "camera_images": [f"{number}.png"],
        "camera_sizes": [32, 64],
        "camera_intrinsics": intrinsics.ravel(),
        "camera_poses": CAMERA.ravel(),
    }


class Oracle(nn.Module):
    """Knows the class of a voxel by its intensity."""

    out_channels = 16

    def forward(self, coordinates, features):
        kind = (features[:, 0] / 60).long()  # 0 = noise, which gets some class
        return nn.functional.one_hot(torch.from_numpy(CLASSES)[kind].clamp(min=1) - 1, 16).float()


class Aligned(Method):
    """The least that can be pre-trained and evaluated without annotations."""

    def __init__(self, config, recipe, backbone, resources):
        super().__init__(config, recipe, backbone, resources)
        self.backbone = backbone
        self.linear = nn.Linear(backbone.out_channels, 16)

    def training_step(self, batch, progress):
        features = self.backbone(batch.coordinates, batch.features)
        return {"fit": (self.linear(features) - batch.features / 255).square().mean()}

    def classify(self, features, text):
        return features @ text.T


@pytest.fixture
def aligned(monkeypatch):
    for module in (pretraining, annotation_free):
        monkeypatch.setattr(module, "get_method", lambda name: Aligned)
    monkeypatch.setattr(pretraining, "method_spec", lambda name: MethodSpec("here:Aligned"))


def record(folder, kind, seed=0):
    return RunRecord(folder, kind, {}, seed, {}, "")


def scores_of(run, name="scores"):
    values = json.loads((run.folder / "metrics.json").read_text())
    return Scores.from_json(values[name])


def pretrain(world, folder):
    root, config = world
    run = record(folder, "pretrain")
    resources = Resources()
    pretraining.pretrain(
        config, "aligned", "", "spvcnn", "nuscenes", resources, root / "index.parquet", None, run
    )
    return run


def tune(world, folder, kind="finetune", checkpoint=None, seed=0, **settings):
    root, config = world
    config = config.model_copy(update={"finetune": config.finetune.model_copy(update=settings)})
    run = record(folder, kind, seed)
    finetune(config, "spvcnn", checkpoint, "nuscenes", root / "index.parquet", root / "subset.json", run)
    return run


@pytest.fixture
def ask_oracle(world, aligned, monkeypatch, tmp_path):
    """Evaluates the network that knows everything on the data set of an index."""
    root, config = world
    monkeypatch.setattr(annotation_free, "build_backbone", lambda *arguments: Oracle())
    meta = {"method": "aligned", "recipe": "", "backbone": "spvcnn", "width": 1.0, "coordinates": "cartesian"}
    rest = {"linear.weight": torch.zeros(16, 16), "linear.bias": torch.zeros(16)}
    write_checkpoint(tmp_path / "oracle.pt", {"backbone": {}, "method": rest, "meta": meta})

    def ask(index):
        run = record(tmp_path / "run", "annotation_free")
        oracle = tmp_path / "oracle.pt"
        annotation_free.evaluate_annotation_free(config, oracle, root / "text.pt", "nuscenes", index, run)
        return run

    return ask


def test_without_images_every_point_is_scored_and_none_as_seen(world, ask_oracle, tmp_path):
    root, _ = world
    bare = {name: [] for name in _row(0) if name.startswith("camera_")}
    rows = [_row(number) | bare for number in range(FRAMES)]
    frames = pd.DataFrame(rows)
    write_index(tmp_path / "index.parquet", Index("nuscenes", root, frames))
    run = ask_oracle(tmp_path / "index.parquet")
    assert scores_of(run).miou == 1.0
    assert "scores_visible" not in json.loads((run.folder / "metrics.json").read_text())


def test_a_perfect_network_scores_one_and_every_point_is_counted(world, ask_oracle):
    root, _ = world
    run = ask_oracle(root / "index.parquet")
    labels, ahead = [], []
    for number in (4, 5):
        points = np.fromfile(root / f"{number}.bin", np.float32).reshape(-1, 5)
        x, y, z = points[:, :3].T.astype(np.float64)
        labels.append(CLASSES[(points[:, 3] // 60).astype(int)])
        u, v = 32 - 32 * y / x, 16 - 32 * z / x
        ahead.append((x > 1) & (u > 0) & (u < 63) & (v > 0) & (v < 31))
    labels, ahead = np.concatenate(labels), np.concatenate(ahead)
    for name, counted in (("scores", labels), ("scores_visible", labels[ahead])):
        scores = scores_of(run, name)
        expected = np.diag(np.bincount(counted, minlength=17))[1:]
        np.testing.assert_array_equal(scores.confusion[1:], expected)
        assert (scores.miou, scores.present) == (1.0, (np.bincount(counted)[1:] > 0).sum())
        assert scores.miou_released == 1.0
    kept = np.load(run.folder / "predictions.npz")
    seen = kept["labels"] > 0
    np.testing.assert_array_equal(kept["prediction"][seen], kept["labels"][seen])


def test_pretraining_hands_its_backbone_on(world, aligned, tmp_path):
    run = pretrain(world, tmp_path / "pretrain")
    checkpoint = read_checkpoint(run.checkpoint)
    assert set(checkpoint["method"]) == {"linear.weight", "linear.bias"}
    assert checkpoint["meta"]["width"] == 0.125
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["losses"]["loss"] < run.logged()[0]["loss"]

    again = pretrain(world, tmp_path / "again")
    assert run.checkpoint.read_bytes() == again.checkpoint.read_bytes()

    probe = tune(world, tmp_path / "probe", "linear_probe", run.checkpoint, epochs=1)
    probed = read_checkpoint(probe.checkpoint)["state_dict"]
    for name, tensor in checkpoint["backbone"].items():  # batch norm statistics included
        assert torch.equal(probed[f"backbone.{name}"], tensor), name


def test_finetuning_learns(world, tmp_path):
    scores = scores_of(tune(world, tmp_path))
    assert scores.miou > 0.9
    assert scores.confusion[:, 0].sum() == 0  # class 0 is never predicted


def test_finetuning_is_a_function_of_its_seed(world, tmp_path):
    first, second, other = (tune(world, tmp_path / str(i), seed=i // 2, epochs=1) for i in range(3))
    assert scores_of(first).to_json() == scores_of(second).to_json()
    assert first.checkpoint.read_bytes() == second.checkpoint.read_bytes()
    assert first.checkpoint.read_bytes() != other.checkpoint.read_bytes()


def test_small_subsets_are_repeated_up_to_the_minimum_of_steps(world, tmp_path):
    run = tune(world, tmp_path, epochs=2, minimum_steps=7)
    assert run.logged()[-1]["step"] + 1 == 8  # 2 steps an epoch, 2 epochs, twice


def test_learning_rates_of_backbone_and_head(world):
    settings = world[1].finetune

    def rates(frozen, pretrained):
        model = Segmenter(Oracle(), 16, frozen)
        model.backbone.weight = nn.Parameter(torch.zeros(3), requires_grad=not frozen)
        groups = parameter_groups(model, settings, pretrained)
        return [(group["lr"], sum(p.numel() for p in group["params"])) for group in groups]

    head = 17 * 16 + 17
    assert rates(frozen=False, pretrained=True) == [(0.02, 3), (0.2, head)]
    assert rates(frozen=False, pretrained=False) == [(0.05, 3 + head)]
    assert rates(frozen=True, pretrained=True) == [(0.05, head)]


def test_a_checkpoint_of_another_network_is_refused(world, aligned, tmp_path):
    root, config = world
    checkpoint = pretrain(world, tmp_path / "pretrain").checkpoint
    wider = config.model_copy(
        update={"backbones": {"spvcnn": config.backbones["spvcnn"].model_copy(update={"width": 0.25})}}
    )
    with pytest.raises(InputError, match=r"tensors, expected at least 95%.*stem"):
        tune((root, wider), tmp_path / "run", checkpoint=checkpoint)
    assert not (tmp_path / "run" / "metrics.json").exists()
    with pytest.raises(InputError, match=r"text\.pt: found embeddings, prompts; expected"):
        tune(world, tmp_path / "run", checkpoint=root / "text.pt")
