"""The benchmark of a GPU runs to its end, small and on the CPU; what it says of a GPU is not seen here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("gpu.py")
CONFIG = {
    "device": "cpu",
    "datasets": {"nuscenes": {"root": "data", "voxel_size": 0.4}},
    "backbones": {"spvcnn": {"width": 0.125}, "res16unet34c": {"width": 0.125, "coordinates": "cylindrical"}},
    "pretrain": {"sweeps": 1, "batch_size": 2, "crop": {"size": [32, 64]}},
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, env=env
    )


def test_layers_and_steps_are_measured(tmp_path):
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    done = run(str(tmp_path / "gpu.json"), "--config", str(tmp_path / "config.yaml"), "--smoke")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert [tuple(layer["channels"]) for layer in result["layers"]][:2] == [(64, 64), (96, 96)]
    for layer in result["layers"]:
        for library in ("native", "pytorch", "matmul"):
            assert 0 < layer[library]["forward"] < layer[library]["forward_and_backward"]
    assert result["kernel_maps"] > 0
    assert {name: step["same_bytes_twice"] for name, step in result["steps"].items()} == {
        "clip2scene": True, "slidr": True,
    }  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_ends_in_one_line(tmp_path):
    done = run(str(tmp_path / "gpu.json"))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: torch finds no NVIDIA GPU; expected one (--smoke runs everything small on the CPU)"
    ]
    assert not (tmp_path / "gpu.json").exists()
