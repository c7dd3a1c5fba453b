"""Two processes train as one does: by torchrun, with gloo, on the CPU."""

import json
import os
import subprocess
import sys

import pytest
import torch

from clip2scene.config import parse_config

PROGRAM = """
import json
import sys
from pathlib import Path

import torch
from clip2scene.config import parse_config
from clip2scene.datasets.index import read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.models.backbones import build_backbone
from clip2scene.pairing.samples import LabelledSamples
from clip2scene.record import Identity, RunRecord
from clip2scene.seeding import seed_everything
from clip2scene.training.batch_norm import synchronise
from clip2scene.training.finetune import Segmenter
from clip2scene.training.loop import fit, launch, sgd

root, index, folder, values, sync = (json.loads(argument) for argument in sys.argv[1:])
config = parse_config(values, "test")
record = RunRecord(Path(folder), "finetune", 0, Identity("finetune", {}, {}, {}))
fabric = launch(config, record)
seed_everything(0, "initialisation")
dataset = get_dataset("nuscenes")
network = build_backbone("spvcnn", dataset.feature_channels, 0.125, "native")
for layer in network.modules():
    if isinstance(layer, torch.nn.Dropout):
        layer.p = 0.0  # each process draws its own
model = Segmenter(network, len(dataset.classes), frozen=False)
if sync:
    synchronise(model)
frames = read_index(Path(index), Path(root)).split("train")
samples = LabelledSamples(dataset, frames, 0.5, False, augment=True, seed=0)
optimiser = sgd([{"params": list(model.parameters())}], config.finetune.optimiser)
fit(fabric, model, samples, optimiser, record, epochs=2, batch_size=2, workers=1, checkpoint_minutes=0)
if fabric.is_global_zero:
    torch.save(model.state_dict(), record.checkpoint)
fabric.barrier()
"""


@pytest.fixture(scope="module")
def train(tiny_root, tiny_index, tmp_path_factory):
    """Train by some number of processes; returns the weights and the logged losses."""

    def train(processes, sync=True):
        folder = tmp_path_factory.mktemp("run")
        values = {
            "device": "cpu",
            "arithmetic": "native",
            "processes": processes,
            "datasets": {"any": {"root": "data"}},
            "finetune": {"optimiser": {"learning_rate": 0.05}},
        }
        parse_config(values, "test")
        arguments = [str(tiny_root), str(tiny_index), str(folder), values, sync]
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        (folder / "program.py").write_text(PROGRAM)
        command = [sys.executable, *(start if processes > 1 else []), str(folder / "program.py")]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *map(json.dumps, arguments)], check=True, env=env)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        weights = torch.load(folder / "checkpoint.pt", weights_only=True)
        return weights, [line["loss"] for line in lines]

    return train


def difference(one, other):
    """Return the largest difference of two state dicts, relative to the largest value of each tensor."""
    return max(
        ((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-3)).item()
        for name in one
        if one[name].is_floating_point()
    )


def test_two_processes_give_losses_and_weights_of_one(train):
    """SPVCNN, its batch norms over both, and the Lovász loss over all voxels: four steps of two frames."""
    (alone, expected), (together, losses) = train(1), train(2)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert difference(alone, together) < 1e-3
    assert all(torch.equal(alone[name], together[name]) for name in alone if "num_batches" in name)


def test_without_common_batch_norm_they_do_not(train):
    """Guard of the test above."""
    (alone, expected), (apart, losses) = train(1), train(2, sync=False)
    assert losses[-1] != pytest.approx(expected[-1], rel=1e-2)
    assert difference(alone, apart) > 1e-2
