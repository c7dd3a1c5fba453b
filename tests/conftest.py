"""Fixtures shared by tests of several packages."""

import clip2scene  # noqa: F401 - first: it pins what the libraries below choose when they are loaded

# isort: split

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite.binding
import numba
import pytest
import torch

from clip2scene.config import Config, DatasetConfig, Rooms, Synthetic
from clip2scene.datasets.identity import MARKER
from clip2scene.datasets.index import build
from clip2scene.pairing.batch import Batch
from clip2scene.record import Identity, RunRecord
from clip2scene.runs import Run
from clip2scene.study import Study
from clip2scene.task import Task

TINY_ROOMS = Rooms(
    train_rooms=2, val_rooms=1, images=3, image_size=(48, 64), depth_size=(36, 48), vertex_spacing=0.12
)
TINY = Synthetic(train_scenes=2, val_scenes=1, keyframes=2, azimuth_steps=90, image_size=(48, 80))
TINY_KITTI = TINY.model_copy(update={"beams": 64, "keyframes": 3, "image_size": (48, 160)})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real files, which their licence keeps out of the repository; skip without it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder}: the real files are not here")
    return folder


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate a tiny synthetic data set in nuScenes' format (v1.0-tiny); tests must not modify its root."""
    from clip2scene.synthetic.generate import generate

    root = tmp_path_factory.mktemp("tiny")
    generate(DatasetConfig(root=root, version="v1.0-tiny", synthetic=TINY), seed=0, processes=1)
    return root


@pytest.fixture
def download(tiny_root: Path, tmp_path: Path) -> Path:
    """Copy the tiny data set as a download, which a test may change."""
    shutil.copytree(tiny_root, tmp_path / "download", ignore=shutil.ignore_patterns(MARKER))
    return tmp_path / "download"


@pytest.fixture(scope="session")
def tiny_streets(tiny_root: Path) -> DatasetConfig:
    """Return the section of `tiny_root`, whose synthetic images have captions."""
    return DatasetConfig(root=tiny_root, version="v1.0-tiny", synthetic=TINY)


@pytest.fixture(scope="session")
def link_made() -> Callable[..., None]:
    return _link_made


def _link_made(study: Study, **made: Path) -> None:
    """Link to data sets that are made already, by name, where the study would make them."""
    for name, root in made.items():
        place = study.configuration().datasets[name].root
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(root)


@pytest.fixture(scope="session")
def tiny_kitti(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    """Generate a tiny synthetic data set in SemanticKITTI's format; tests must not modify it."""
    from clip2scene.synthetic.generate import generate

    root = tmp_path_factory.mktemp("tiny-kitti")
    data = DatasetConfig(
        format="semantickitti", root=root, pretrain_split="train", sweeps=4, synthetic=TINY_KITTI
    )
    generate(data, seed=0, processes=1)
    return data


@pytest.fixture(scope="session")
def tiny_rooms(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    """Generate a tiny synthetic data set in ScanNet's format; tests must not modify it."""
    from clip2scene.synthetic.generate import generate

    data = DatasetConfig(
        format="scannet",
        root=tmp_path_factory.mktemp("tiny-rooms"),
        version="scannet_frames_25k",
        pretrain_split="train",
        voxel_size=0.2,
        synthetic=TINY_ROOMS,
        pretrain={"images": 2, "crop": {"size": (32, 40), "ratio": (1.2, 1.4), "minimum_pairs": 20}},
    )
    generate(data, seed=0, processes=1)
    return data


@pytest.fixture(scope="session")
def tiny_index(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the index of `tiny_root` and return its path."""
    path = tmp_path_factory.mktemp("index") / "index.parquet"
    build(DatasetConfig(root=tiny_root, version="v1.0-tiny", sweeps=4), path)
    return path


@pytest.fixture(scope="session")
def make_record() -> Callable[..., RunRecord]:
    return _make_record


def _make_record(folder: Path, kind: str = "pretrain", seed: int = 0, **identity: Any) -> RunRecord:
    """Return the record of a run in `folder`; `identity` holds fields of its Identity, empty by default."""
    values = {"fields": {}, "settings": {}, "code": {}} | identity
    return RunRecord(folder, kind, seed, Identity(kind, **values))


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    return _make_task


def _make_task(config: Config, run: Run, folder: Path, inputs: dict[str, Path] | None = None) -> Task:
    """Return a task that computes `run` into `folder` from the files `inputs`, by role."""
    record = _make_record(folder, run.kind, run.seed, fields=run.fields())
    return Task(config, run, record, inputs or {})


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    return _make_batch


def _make_batch(
    samples: int = 2,
    sweeps: int = 2,
    points: int = 80,
    images: int = 2,
    size: tuple[int, int] = (32, 64),
) -> Batch:
    """Return a Batch in which the features of a voxel are the colour of its pixels.

    Images consist of blocks of uniform colour, the same in all images of a sample. Every second point
    projects into an image, every sixth into two. Voxels hold about two points each.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = size
    n = samples * sweeps * points
    cloud = torch.arange(samples * sweeps).repeat_interleave(points)
    xyz = 4 * torch.rand(n, 3, generator=generator) - 2
    coordinates, inverse = torch.cat([cloud[:, None], (xyz / 0.7).floor().long()], dim=1).unique(
        dim=0, return_inverse=True
    )
    representative = torch.full((len(coordinates),), n).scatter_reduce(0, inverse, torch.arange(n), "amin")
    sample = cloud // sweeps

    blocks = torch.randint(0, 256, (samples, 3, 2, 4), generator=generator)
    blocks = blocks.repeat_interleave(images, dim=0)
    pictures = blocks.repeat_interleave(height // 2, dim=2).repeat_interleave(width // 4, dim=3)
    number = torch.arange(samples * images)[:, None, None] * 8 + torch.arange(8).view(2, 4)
    superpixels = number.repeat_interleave(height // 2, dim=1).repeat_interleave(width // 4, dim=2)

    pair_point = torch.cat([torch.arange(0, n, 2), torch.arange(0, n, 6)]).sort().values
    second = torch.cat([torch.zeros(1, dtype=torch.bool), pair_point[1:] == pair_point[:-1]])
    pair_image = sample[pair_point] * images + second.long()
    # The block depends on the voxel only, so that all pixels of a voxel have the colour of its features.
    block = inverse[pair_point] % 8
    row = (block // 4) * (height // 2) + torch.randint(0, height // 2, block.shape, generator=generator)
    column = (block % 4) * (width // 4) + torch.randint(0, width // 4, block.shape, generator=generator)
    colours = torch.zeros(len(coordinates), 3)
    colours[inverse[pair_point]] = pictures[pair_image, :, row, column] / 255.0

    return Batch(
        ids=[f"frame-{i}" for i in range(samples)],
        coordinates=coordinates.int(),
        features=colours,
        representative=representative,
        inverse=inverse,
        points=xyz,
        sample=sample,
        sweep=cloud % sweeps,
        labels=None,
        grid_cell=torch.cat([sample[:, None], (xyz / 0.9).floor().long()], dim=1).unique(
            dim=0, return_inverse=True
        )[1],
        images=pictures.to(torch.uint8),
        pair_point=pair_point,
        pair_image=pair_image,
        pair_row=row,
        pair_column=column,
        superpixels=superpixels.int(),
    )


@pytest.fixture
def with_vectors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], ModuleType]:
    """Loads a module of kernels for another processor's vectors; LLVM compiles it for this processor."""

    def load(feature: str, name: str) -> ModuleType:
        monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda: {feature: True})
        # cache keys do not tell copies apart
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / feature))
        for part in ("registers", "products", "convolution", "channels", "batch_norm"):
            monkeypatch.delitem(sys.modules, f"clip2scene.portable.{part}", raising=False)
        spec = importlib.util.find_spec(name)
        copy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(copy)
        widest = {"avx512f": 16, "avx2": 8, "neon": 4}[feature]
        assert sys.modules["clip2scene.portable.registers"].WIDE.lanes == widest
        return copy

    return load
