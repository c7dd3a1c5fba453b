"""Pre-training, annotation-free evaluation, fine-tuning and probing on a world of three classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from clip2scene.config import Checkpoint, Config
from clip2scene.datasets import fractions
from clip2scene.datasets.index import Index, write_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.errors import InputError
from clip2scene.evaluation import annotation_free, tuned
from clip2scene.evaluation.confusion import read_confusion
from clip2scene.evaluation.kept import read_scan, scans_in
from clip2scene.evaluation.metrics import Scores
from clip2scene.files import read_json
from clip2scene.method.base import Method
from clip2scene.method.spec import MethodSpec
from clip2scene.models.weights import read_checkpoint, write_checkpoint
from clip2scene.run_files import finished
from clip2scene.runs import Run
from clip2scene.training import finetune
from clip2scene.training import pretrain as pretraining
from clip2scene.training.checkpoint import describe
from clip2scene.training.finetune import Segmenter, parameter_groups

CATEGORIES = np.array([0, 17, 24, 30])  # lidarseg: noise, car, driveable surface, vegetation
CLASSES = np.array([0, 4, 11, 16])  # of the challenge
FRAMES = 6
CAMERA = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])  # looks along x
METHOD = "clip2scene"
"""Registered name under which the tests put their own method, `Aligned`."""
RUN = Run("pretrain", method=METHOD, backbone="spvcnn", pretrain="nuscenes", target="nuscenes")


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
    fractions.write_subset(root / "subset.json", ["0", "2", "3"], split="train", rule="all", percent=100)
    write_checkpoint(root / "text.pt", {"prompts": list(NuScenes.prompts), "embeddings": torch.eye(16)})
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


def scores_of(record, points="all"):
    counts = read_confusion(record.folder / "confusion.npz", 16)[points]
    return Scores(NuScenes.classes, counts.sum(axis=0))


@pytest.fixture
def pretrain(world, aligned, make_task):
    """Pre-trains by the method `Aligned` and returns the run's record."""
    root, config = world

    def pretrain(folder):
        task = make_task(config, replace(RUN, target=""), folder, {"index": root / "index.parquet"})
        pretraining.compute(task)
        return task.record

    return pretrain


@pytest.fixture
def tune(world, make_task):
    """Fine-tunes or probes and returns the run's record."""
    root, config = world

    def tune(folder, kind="finetune", checkpoint=None, seed=0, config=config, recipe="", **settings):
        config = config.model_copy(update={"finetune": config.finetune.model_copy(update=settings)})
        inputs = {"index": root / "index.parquet", "subset": root / "subset.json"}
        inputs |= {"network": checkpoint} if checkpoint else {}
        start = 0 if checkpoint and recipe not in config.checkpoints else None
        run = replace(RUN, kind=kind, percent=100, seed=seed, recipe=recipe, pretrain_seed=start)
        task = make_task(config, run, folder, inputs)
        finetune.compute(task)
        return task.record

    return tune


@pytest.fixture
def predict(world, make_task):
    """Predicts the validation split with a fine-tuned or probed network and returns the run's record."""
    root, config = world

    def predict(folder, network, protocol="finetune"):
        run = replace(RUN, kind="predict", percent=100, protocol=protocol)
        inputs = {"index": root / "index.parquet", "network": network.checkpoint}
        task = make_task(config, run, folder, inputs)
        tuned.compute(task)
        return task.record

    return predict


@pytest.fixture
def ask_oracle(world, aligned, make_task, monkeypatch, tmp_path):
    """Evaluates the network that knows everything on the data set of an index."""
    root, config = world
    monkeypatch.setattr(annotation_free, "build_backbone", lambda *arguments: Oracle())
    rest = {"linear.weight": torch.zeros(16, 16), "linear.bias": torch.zeros(16)}

    def ask(index, config=config, recipe="", changed=()):
        meta = describe(config, METHOD, "spvcnn", "nuscenes") | {"recipe": "", "seed": 0} | dict(changed)
        write_checkpoint(tmp_path / "oracle.pt", {"backbone": {}, "method": rest, "meta": meta})
        inputs = {"index": index, "text": root / "text.pt", "network": tmp_path / "oracle.pt"}
        start = None if recipe in config.checkpoints else 0
        run = replace(RUN, kind="annotation_free", recipe=recipe, pretrain_seed=start)
        task = make_task(config, run, tmp_path / "run", inputs)
        annotation_free.compute(task)
        return task.record

    return ask


def test_without_images_every_point_is_scored_and_none_as_seen(world, ask_oracle, tmp_path):
    root, _ = world
    bare = {name: [] for name in _row(0) if name.startswith("camera_")}
    rows = [_row(number) | bare for number in range(FRAMES)]
    write_index(tmp_path / "index.parquet", Index("nuscenes", root, pd.DataFrame(rows)))
    record = ask_oracle(tmp_path / "index.parquet")
    assert scores_of(record).miou == 1.0
    assert set(read_confusion(record.folder / "confusion.npz", 16)) == {"all"}


def test_a_perfect_network_scores_one_and_every_point_is_counted(world, ask_oracle):
    root, _ = world
    record = ask_oracle(root / "index.parquet")
    counts = read_confusion(record.folder / "confusion.npz", 16)
    assert counts["all"].shape == counts["visible"].shape == (2, 17, 17)
    for place, number in enumerate((4, 5)):  # the validation split, keyframe by keyframe
        points = np.fromfile(root / f"{number}.bin", np.float32).reshape(-1, 5)
        x, y, z = points[:, :3].T.astype(np.float64)
        labels = CLASSES[(points[:, 3] // 60).astype(int)]
        u, v = 32 - 32 * y / x, 16 - 32 * z / x
        ahead = (x > 1) & (u > 0) & (u < 63) & (v > 0) & (v < 31)
        for name, counted in (("all", labels), ("visible", labels[ahead])):
            expected = np.diag(np.bincount(counted, minlength=17))[1:]
            np.testing.assert_array_equal(counts[name][place][1:], expected)
    for name in ("all", "visible"):
        scores = scores_of(record, name)
        seen = scores.confusion[1:].any(axis=1).sum()  # the camera sees no vegetation
        assert (scores.miou, scores.present, seen) == (1.0, 3 if name == "all" else 2, scores.present)
        assert scores.miou_released == 1.0
    kept = [read_scan(path, 16) for path in scans_in(record.folder)]
    assert [scan.id for scan in kept] == ["4", "5"]
    for scan in kept:
        seen = scan.labels > 0
        np.testing.assert_array_equal(scan.prediction[seen], scan.labels[seen])


def test_pretraining_hands_its_backbone_on(world, pretrain, tune, tmp_path):
    record = pretrain(tmp_path / "pretrain")
    checkpoint = read_checkpoint(record.checkpoint)
    assert set(checkpoint["method"]) == {"linear.weight", "linear.bias"}
    assert checkpoint["meta"] == describe(world[1], METHOD, "spvcnn", "nuscenes") | {
        "recipe": "",
        "seed": 0,
    }
    assert checkpoint["meta"]["width"] == 0.125
    metrics = read_json(record.folder / "metrics.json")
    assert metrics["losses"]["loss"] < record.logged()[0]["loss"]

    again = pretrain(tmp_path / "again")
    assert record.checkpoint.read_bytes() == again.checkpoint.read_bytes()

    probe = tune(tmp_path / "probe", "linear_probe", record.checkpoint, epochs=1)
    probed = read_checkpoint(probe.checkpoint)["state_dict"]
    for name, tensor in checkpoint["backbone"].items():  # batch norm statistics included
        assert torch.equal(probed[f"backbone.{name}"], tensor), name


def test_finetuning_learns(tune, predict, tmp_path):
    network = tune(tmp_path / "tuned")
    assert not (network.folder / "confusion.npz").exists()  # another run predicts
    scores = scores_of(predict(tmp_path / "predicted", network))
    assert scores.miou > 0.9
    assert scores.confusion[:, 0].sum() == 0  # class 0 is never predicted


def test_finetuning_is_a_function_of_its_seed(tune, predict, tmp_path):
    networks = [tune(tmp_path / str(i), seed=i // 2, epochs=1) for i in range(3)]
    first, second, other = (network.checkpoint.read_bytes() for network in networks)
    assert first == second != other
    records = [predict(tmp_path / f"predicted-{i}", networks[i]) for i in range(2)]
    first, second = ((record.folder / "confusion.npz").read_bytes() for record in records)
    assert first == second


def test_small_subsets_are_repeated_up_to_the_minimum_of_steps(tune, tmp_path):
    run = tune(tmp_path, epochs=2, minimum_steps=7)
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


def test_a_checkpoint_of_another_network_is_refused(world, pretrain, tune, tmp_path):
    root, config = world
    checkpoint = pretrain(tmp_path / "pretrain").checkpoint
    wider = config.model_copy(
        update={"backbones": {"spvcnn": config.backbones["spvcnn"].model_copy(update={"width": 0.25})}}
    )
    with pytest.raises(InputError, match=r"pretrain/checkpoint\.pt: width is 0\.125; expected 0\.25"):
        tune(tmp_path / "run", checkpoint=checkpoint, config=wider)
    content = read_checkpoint(checkpoint)
    content["meta"]["width"] = 0.25  # it says so, and its tensors do not
    write_checkpoint(tmp_path / "wide.pt", content)
    with pytest.raises(InputError, match=r"wide\.pt: stem\S+ has the shape .*; expected"):
        tune(tmp_path / "run", checkpoint=tmp_path / "wide.pt", config=wider)
    assert not finished(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    with pytest.raises(InputError, match=r"text\.pt: found embeddings, prompts; expected"):
        tune(tmp_path / "run", checkpoint=root / "text.pt")


def test_a_network_that_was_not_tuned_does_not_predict(pretrain, predict, tmp_path):
    """A pre-training checkpoint has a backbone and no classifier; nothing of it is used."""
    with pytest.raises(InputError, match=r"pretrain/checkpoint\.pt: .* expected a tuned network"):
        predict(tmp_path / "run", pretrain(tmp_path / "pretrain"))
    assert not (tmp_path / "run" / "confusion.npz").exists()


DISAGREEING = {
    "method": "slidr", "backbone": "minkunet14a", "width": 0.5, "coordinates": "cylindrical",
    "dataset": "other", "split": "val", "voxel_size": 0.1, "recipe": "paper", "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", DISAGREEING)
def test_a_checkpoint_that_is_not_what_the_row_says_is_refused(name, world, ask_oracle, tune, tmp_path):
    """Both protocols that start from a checkpoint: its voxels, for example, would be of another size."""
    root, config = world
    changed = {name: DISAGREEING[name]}
    message = rf"oracle\.pt: {name} is {DISAGREEING[name]!r}; expected"
    with pytest.raises(InputError, match=message):
        ask_oracle(root / "index.parquet", changed=changed)
    with pytest.raises(InputError, match=message):
        tune(tmp_path / "tuned", checkpoint=tmp_path / "oracle.pt")
    if name != "seed":  # an imported file is of no seed
        from_file = {"published": Checkpoint(file=tmp_path / "oracle.pt")}
        config = config.model_copy(update={"checkpoints": from_file})
        with pytest.raises(InputError, match=message):
            ask_oracle(root / "index.parquet", config, "published", changed)
        with pytest.raises(InputError, match=message):
            tune(tmp_path / "tuned", checkpoint=tmp_path / "oracle.pt", config=config, recipe="published")


def test_a_split_without_labels_is_refused(world, ask_oracle, tmp_path):
    root, _ = world
    for number in (4, 5):
        np.zeros(500, np.uint8).tofile(tmp_path / f"{number}.labels")
    rows = [_row(number) for number in range(FRAMES)]
    for row in rows[4:]:
        row["labels"] = str(tmp_path / row["labels"])
    write_index(tmp_path / "index.parquet", Index("nuscenes", root, pd.DataFrame(rows)))
    with pytest.raises(InputError, match="data set nuscenes, split val, all points: no point has a label"):
        ask_oracle(tmp_path / "index.parquet")
    assert not (tmp_path / "run" / "confusion.npz").exists()
