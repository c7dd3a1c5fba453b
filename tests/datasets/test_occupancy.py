import numpy as np
import pytest

from clip2scene.config import Config
from clip2scene.datasets import fractions
from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation import tuned
from clip2scene.evaluation.confusion import read_confusion
from clip2scene.experiment_table import load_experiments
from clip2scene.experiments import Experiment
from clip2scene.models.backbones import build_backbone
from clip2scene.models.weights import write_checkpoint
from clip2scene.runs import Run
from clip2scene.training import finetune
from clip2scene.training.checkpoint import describe


@pytest.fixture
def config(tiny_root, tiny_kitti, tiny_rooms, tmp_path) -> Config:
    """Configure the tiny streets and rooms without intensity and colour."""
    rooms = tiny_rooms.model_dump(exclude={"synthetic", "format"})
    kitti = tiny_kitti.model_dump(exclude={"synthetic", "format"})
    return Config(
        experiments=tmp_path / "experiments.tsv",
        device="cpu",
        datasets={
            "nuscenes": {"format": "nuscenes_occupancy", "root": tiny_root, "version": "v1.0-tiny"},
            "semantickitti": {"format": "semantickitti_occupancy", **kitti},
            "scannet": {"format": "scannet_occupancy", **rooms},
        },
        finetune={"epochs": 1, "minimum_steps": 2},
    )


@pytest.mark.parametrize("name", ["nuscenes", "semantickitti", "scannet"])
def test_points_are_the_data_set_s_own_and_have_one_feature(config, name, tmp_path):
    data = config.datasets[name]
    index = build(data, tmp_path / "index.parquet")
    row = index.frames.iloc[0]
    frame = load_frame(get_dataset(data.format), index.root, row)
    original = load_frame(get_dataset(name), index.root, row)
    np.testing.assert_array_equal(frame.points, original.points)
    np.testing.assert_array_equal(frame.labels, original.labels)
    np.testing.assert_array_equal(frame.features, np.ones((len(frame.points), 1), np.float32))


def test_a_network_of_streets_is_fine_tuned_on_rooms(config, tmp_path, make_task):
    row = {"protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes"}
    row |= {"target": "scannet", "percent": "100", "pretrain_seeds": "0", "seeds": "0"}
    lines = (Experiment.model_fields, [row.get(name, "") for name in Experiment.model_fields])
    config.experiments.write_text("".join("\t".join(line) + "\n" for line in lines))
    assert [experiment.target for experiment in load_experiments(config)] == ["scannet"]

    meta = describe(config, "slidr", "spvcnn", "nuscenes") | {"recipe": "", "seed": 0}
    streets = build_backbone("spvcnn", get_dataset("nuscenes_occupancy").feature_channels, meta["width"])
    content = {"backbone": streets.state_dict(), "method": {}, "meta": meta}
    write_checkpoint(tmp_path / "pretrained.pt", content)
    index, subset = tmp_path / "index.parquet", tmp_path / "all.json"
    rooms = build(config.datasets["scannet"], index)
    fractions.write_subset(subset, rooms.split("train").ids, split="train", rule="all", percent=100)
    fields = {
        "method": "slidr",
        "backbone": "spvcnn",
        "pretrain": "nuscenes",
        "target": "scannet",
        "percent": 100,
    }
    inputs = {"index": index, "subset": subset, "network": tmp_path / "pretrained.pt"}
    tuning = make_task(config, Run("finetune", pretrain_seed=0, **fields), tmp_path / "tuned", inputs)
    finetune.compute(tuning)
    inputs = {"index": index, "network": tuning.record.checkpoint}
    run = Run("predict", protocol="finetune", pretrain_seed=0, **fields)
    task = make_task(config, run, tmp_path / "predicted", inputs)
    tuned.compute(task)
    counts = read_confusion(task.record.folder / "confusion.npz", len(get_dataset("scannet").classes))["all"]
    assert len(counts) == len(rooms.split("val"))
    assert counts[:, 1:].sum() > 0
