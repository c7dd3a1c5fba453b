"""The finished workflow that the tests of this folder start from."""

import shutil
from pathlib import Path

import pytest
from checkouts import Site, checkout

from clip2scene.config import DatasetConfig, Synthetic
from clip2scene.datasets.identity import MARKER
from clip2scene.synthetic.generate import generate

HERE = Path(__file__).parent


def download(root: Path, spare: Path) -> None:
    """Lay out a small data set as a download of SemanticKITTI; one of its sequences goes to `spare`."""
    tiny = Synthetic(
        format="semantickitti", train_scenes=3, val_scenes=1, keyframes=2, beams=64, azimuth_steps=60,
        image_size=(48, 160),
    )  # fmt: skip
    generate(DatasetConfig(format="semantickitti", root=root, synthetic=tiny), seed=7, processes=1)
    (root / MARKER).unlink()
    shutil.move(root / "sequences/02", spare / "02")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A checkout in which the whole workflow has run; look at it, and change nothing."""
    folder = tmp_path_factory.mktemp("finished")
    site = checkout(folder, HERE / "smallest.yaml", HERE / "smallest.tsv")
    (folder / "spare").mkdir()
    download(folder / "data/kitti", folder / "spare")
    site.snakemake()
    return site


@pytest.fixture
def site(finished: Site, tmp_path: Path) -> Site:
    """A copy of the finished checkout, which a test may change."""
    shutil.copytree(finished.folder, tmp_path / "site", symlinks=True)
    return Site(tmp_path / "site")
