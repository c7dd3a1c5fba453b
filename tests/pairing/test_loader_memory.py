"""Memory of loader workers: it does not grow over an epoch."""

import gc
import json
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from torch.utils.data import DataLoader, Dataset

from clip2scene.config import Crop, Pretraining, Superpixels
from clip2scene.datasets.index import read_index, write_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.pairing.samples import PretrainingSamples
from clip2scene.pairing.superpixels import write_superpixels

ROWS = 20_000
NEEDS = ("images", "sweeps", "superpixels")


@pytest.fixture(scope="module")
def folder(tiny_index, tiny_root, tmp_path_factory):
    """Write superpixels and an index with as many rows as a nuScenes split, over files of few keyframes."""
    folder = tmp_path_factory.mktemp("many")
    few = read_index(tiny_index, tiny_root).split("train")
    write_superpixels(few, "train", Superpixels(segments=20), folder / "superpixels.arrow")
    frames = pd.concat([few.frames] * (ROWS // len(few)), ignore_index=True)
    frames["id"] = [f"frame-{number}" for number in range(len(frames))]
    write_index(folder / "index.parquet", replace(few, frames=frames))
    (folder / "data").symlink_to(tiny_root)
    return folder


def samples_of(folder):
    index = read_index(folder / "index.parquet", folder / "data").split("train")
    config = Pretraining(sweeps=3, crop=Crop(size=(24, 44)))
    return PretrainingSamples(NuScenes(), index, config, NEEDS, 0.2, False, 0, folder / "superpixels.arrow")


def test_nothing_that_python_allocated_for_a_sample_outlives_it(folder):
    samples = samples_of(folder)

    def epoch():
        for number in range(0, len(samples), len(samples) // 8):
            samples[number]
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        epoch(), epoch()  # fill the caches
        before = epoch()
        assert epoch() - before < 64 * 2**10
    finally:
        tracemalloc.stop()


class Private(Dataset):
    """Data set that returns the private memory of the loader process after each sample, MiB."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        self.samples[number]
        text = Path("/proc/self/smaps_rollup").read_text()
        return sum(int(size) for size in re.findall(r"Private_\w+: +(\d+) kB", text)) / 2**10


def settle(_):
    gc.collect()  # touches every object, which copies the pages still shared with the parent


def sizes_over_an_epoch(folder):
    """Return the private memory of a loader's single worker after each of 640 samples, MiB."""
    loader = DataLoader(
        Private(samples_of(folder)),
        sampler=list(range(0, ROWS, ROWS // 640)),
        batch_size=None,
        num_workers=1,
        worker_init_fn=settle,
        multiprocessing_context="fork",
    )
    return list(loader)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_a_worker_keeps_its_size_over_an_epoch(folder):
    """Detect copy-on-write growth: reading Python objects changes reference counts, which copies their pages.

    The index has 20,000 rows. The loader runs in a fresh process, as in training, because pages of a long
    test run are copied at random.
    """
    fresh = [sys.executable, __file__, str(folder)]
    sizes = json.loads(subprocess.run(fresh, stdout=subprocess.PIPE, check=True).stdout)
    assert len(sizes) >= 640
    growth = max(sizes[-40:]) - max(sizes[80:240])
    assert growth < 2  # MiB; measured: 0.4, and 14 with NumPy arrays instead of Arrow lists


if __name__ == "__main__":
    print(json.dumps(sizes_over_an_epoch(Path(sys.argv[1]))))
