"""Benchmarks of the index and the samples; run with `pytest tests/benchmarks --benchmark-only`.

The released code is measured on the same keyframes if ``CLIP2SCENE_RELEASED`` names a folder with checkouts
of runnanchen/CLIP2Scene @ f37dae7 (``CLIP2Scene``) and of mit-han-lab/torchsparse @ v1.4.0 (``torchsparse``,
of which one Python file is used). The environment sets the number of threads (OMP_NUM_THREADS); a loader
process has one.
"""

import importlib
import os
import sys
from dataclasses import replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from clip2scene.config import Crop, DatasetConfig, Pretraining, Superpixels, Synthetic
from clip2scene.datasets.index import Index, build, read_index, write_index
from clip2scene.datasets.nuscenes import CAMERAS, NuScenes
from clip2scene.machine import keep_freed_memory
from clip2scene.pairing.collate import collate
from clip2scene.pairing.samples import PretrainingSamples
from clip2scene.pairing.superpixels import write_superpixels
from clip2scene.synthetic.generate import generate
from clip2scene.synthetic.real_keyframe import write_keyframe

PAPER = Pretraining(sweeps=3, crop=Crop(size=(224, 416)))
FULL_SIZE = Synthetic(train_scenes=1, val_scenes=1, keyframes=1, azimuth_steps=1085, image_size=(900, 1600))


def full_size_index() -> pd.DataFrame:
    """Return an index of nuScenes trainval's size: 34,149 keyframes with 10 sweeps and 6 cameras each."""
    draws, log = np.random.default_rng(0), "n015-2018-07-24-11-22-45+0800"
    intrinsics = draws.random((2, 54))  # two vehicles
    rows = []
    for number, scene in enumerate(np.arange(34149) * 850 // 34149):
        stamp = 1532402927647951 + number * 500000
        split = "val" if scene >= 700 else "train"
        rows.append(
            {
                "id": f"{number:032x}",
                "scene": f"scene-{scene:04d}",
                "splits": [split, "parametrize"] if scene < 600 else [split],
                "timestamp": stamp,
                "points": f"samples/LIDAR_TOP/{log}__LIDAR_TOP__{stamp}.pcd.bin",
                "labels": f"lidarseg/v1.0-trainval/{number:032x}_lidarseg.bin",
                "sweep_points": [
                    f"sweeps/LIDAR_TOP/{log}__LIDAR_TOP__{stamp - 50000 * k}.pcd.bin" for k in range(1, 11)
                ],
                "sweep_poses": draws.random(160),
                "sweep_lags": 0.05 * np.arange(1, 11),
                "camera_names": CAMERAS,
                "camera_images": [f"samples/{name}/{log}__{name}__{stamp}.jpg" for name in CAMERAS],
                "camera_sizes": [900, 1600] * 6,
                "camera_intrinsics": intrinsics[scene % 2],
                "camera_poses": draws.random(96),
            }
        )
    return pd.DataFrame(rows)


def test_opening_a_full_size_index(benchmark, tmp_path):
    path = tmp_path / "index.parquet"
    write_index(path, Index("nuscenes", tmp_path, full_size_index()))
    benchmark.extra_info["MiB"] = path.stat().st_size / 2**20
    benchmark.pedantic(lambda: read_index(path, tmp_path).split("parametrize"), rounds=5, warmup_rounds=1)


@cache
def synthetic(folder: Path) -> Index:
    """Generate keyframes of nuScenes' size: about 30,000 points per sweep, images of 900 x 1600 pixels."""
    data = DatasetConfig(root=folder / "data", version="v1.0-synthetic", synthetic=FULL_SIZE)
    generate(data, seed=0, processes=os.cpu_count())
    return build(data, folder / "index.parquet").split("train")


@cache
def real(folder: Path, source: Path) -> Index:
    """Index the real keyframe; its own sweep also serves as the earlier sweeps, which are not available."""
    write_keyframe(source, folder / "data", "v1.0-keyframe")
    index = build(DatasetConfig(root=folder / "data", version="v1.0-keyframe"), folder / "index.parquet")
    points = index.frames["points"].iloc[0]
    earlier = {
        "sweep_points": [[points] * 9],
        "sweep_poses": [np.tile(np.eye(4).ravel(), 9)],
        "sweep_lags": [[0.0] * 9],
    }
    return replace(index, frames=index.frames.assign(**earlier))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("keyframes")


@pytest.fixture(params=["synthetic", "real"])
def index(benchmark, request, folder) -> Index:  # `benchmark` comes first, to skip if disabled
    benchmark.group = f"a sample of the {request.param} keyframe"
    keep_freed_memory()  # as every run does
    torch.set_num_threads(1)
    if request.param == "synthetic":
        return synthetic(folder / "synthetic")
    source = request.getfixturevalue("shared_data") / "nuscenes_scene-0061"
    return real(folder / "real", source)


def samples(index: Index, needs=("images", "sweeps"), superpixels: Path | None = None) -> PretrainingSamples:
    return PretrainingSamples(NuScenes(), index, PAPER, needs, 0.1, False, 0, superpixels)


def measure(benchmark, data, rounds: int) -> None:
    """Time complete samples, each with a different augmentation."""
    epochs = count()

    def one():
        data.epoch = next(epochs)
        return data[0]

    benchmark.pedantic(one, rounds=rounds, warmup_rounds=2)
    benchmark.extra_info["samples a second"] = 1 / benchmark.stats.stats.median


def test_sample(benchmark, index):
    measure(benchmark, samples(index), 40)


def test_sample_with_superpixels(benchmark, index, tmp_path):
    """Measure samples for SLidR: one sweep, with superpixels."""
    path = tmp_path / "superpixels.arrow"
    write_superpixels(index, "train", Superpixels(), path, cores=os.cpu_count())
    measure(benchmark, samples(index, ("images", "superpixels"), path), 40)


def test_sample_of_the_released_code(benchmark, index, monkeypatch):
    measure(benchmark, released(index, monkeypatch), 5)


@pytest.mark.parametrize("workers", [1, 2])
def test_loader(benchmark, index, workers):
    """Load 60 samples; with at least as many cores as workers, the time divides by the number of workers."""
    benchmark.group = benchmark.group.replace("a sample", "60 samples")
    data = samples(index)

    def epoch():
        loader = DataLoader(data, sampler=[0] * 60, batch_size=1, collate_fn=collate, num_workers=workers)
        return sum(1 for _ in loader)

    assert benchmark.pedantic(epoch, rounds=3, warmup_rounds=1) == 60
    benchmark.extra_info["samples a second"] = 60 / benchmark.stats.stats.min


def released(index: Index, monkeypatch: pytest.MonkeyPatch):
    """Return the released pre-training data set on the keyframes of an index.

    Three problems that keep it from running are patched from outside: a pickle of sweeps at a private path
    (replaced by the index's sweeps), a method missing from the published nuscenes-devkit, and the hard-coded
    version trainval.
    """
    checkouts = os.environ.get("CLIP2SCENE_RELEASED")
    if not checkouts:
        pytest.skip("CLIP2SCENE_RELEASED does not name a folder with the checkouts")
    from nuscenes import NuScenes as Devkit
    from nuscenes.utils.data_classes import LidarPointCloud
    from torchvision.transforms.functional import resized_crop

    package = ModuleType("torchsparse")  # importing the package needs its compiled part
    package.__path__ = [str(Path(checkouts) / "torchsparse" / "torchsparse")]
    monkeypatch.setitem(sys.modules, "torchsparse", package)
    monkeypatch.syspath_prepend(str(Path(checkouts) / "CLIP2Scene"))
    from_points = classmethod(lambda cls, points: cls(np.array(points).T))
    monkeypatch.setattr(LidarPointCloud, "from_points", from_points, raising=False)
    loader = importlib.import_module("pretrain.dataloader_nuscenes")
    transforms = importlib.import_module("utils.transforms")
    # torchvision of that time did not antialias when shrinking tensors
    monkeypatch.setattr(transforms, "resized_crop", partial(resized_crop, antialias=False))
    config = {
        "dataset": "nuscenes",
        "mode": "pretrain",
        "transforms_clouds": ["Rotation", "FlipAxis"],
        "transforms_mixed": ["ResizedCrop", "FlipHorizontal"],
        "crop_size": PAPER.crop.size,
        "crop_ratio": PAPER.crop.ratio,
    }
    version = next(index.root.glob("*/scene.json")).parent.name
    data = object.__new__(loader.NuScenesMatchDataset)
    data.nusc = Devkit(version, str(index.root), verbose=False)
    data.dataroot, data.shuffle, data.config = str(index.root), True, config
    data.voxel_size, data.cylinder, data.max_sweeps = 0.1, False, PAPER.sweeps
    data.cloud_transforms = transforms.make_transforms_clouds(config)
    data.mixed_transforms = transforms.make_transforms_asymmetrical(config)
    data.list_keyframes = [data.nusc.get("sample", token)["data"] for token in index.ids]
    data.sweeps_infos = {row.points: {"sweeps": _sweeps(row)} for row in index.frames.itertuples()}
    return data


def _sweeps(row) -> list[dict]:
    poses = np.reshape(row.sweep_poses, (-1, 4, 4))
    return [
        {"lidar_path": path, "transform_matrix": pose, "time_lag": lag}
        for path, pose, lag in zip(row.sweep_points, poses, row.sweep_lags, strict=True)
    ]
