"""Memory of the loader: a worker holds no more after an epoch than before it."""

import gc
import re
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
def samples(tiny_index, tmp_path_factory):
    """Samples of an index with as many rows as a split of nuScenes; the files are those of four keyframes."""
    folder = tmp_path_factory.mktemp("many")
    write_superpixels(tiny_index, "train", Superpixels(segments=20), folder / "superpixels.arrow")
    few = read_index(tiny_index).split("train")
    frames = pd.concat([few.frames] * (ROWS // len(few)), ignore_index=True)
    frames["id"] = [f"frame-{number}" for number in range(len(frames))]
    write_index(folder / "index.parquet", replace(few, frames=frames))
    del frames
    index = read_index(folder / "index.parquet").split("train")
    config = Pretraining(sweeps=3, crop=Crop(size=(24, 44)))
    return PretrainingSamples(NuScenes(), index, config, NEEDS, 0.2, False, 0, folder / "superpixels.arrow")


def test_nothing_that_python_allocated_for_a_sample_outlives_it(samples):
    def epoch():
        for number in range(0, len(samples), len(samples) // 8):
            samples[number]
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        epoch(), epoch()  # caches fill
        before = epoch()
        assert epoch() - before < 64 * 2**10
    finally:
        tracemalloc.stop()


class Private(Dataset):
    """Memory of the process, MiB, that it shares with no other, after each sample."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        self.samples[number]
        text = Path("/proc/self/smaps_rollup").read_text()
        return sum(int(size) for size in re.findall(r"Private_\w+: +(\d+) kB", text)) / 2**10


def settle(_):
    gc.collect()  # walks over every object, and so copies pages that are still shared


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_a_worker_keeps_its_size_over_an_epoch(samples):
    """A row of Python objects costs a page each as soon as its references are counted: here 20,000 rows."""
    order = list(range(0, ROWS, ROWS // 640))
    loader = DataLoader(
        Private(samples),
        sampler=order,
        batch_size=None,
        num_workers=1,
        worker_init_fn=settle,
        multiprocessing_context="fork",
    )
    sizes = list(loader)
    assert len(sizes) == len(order)
    growth = max(sizes[-40:]) - max(sizes[80:240])
    assert growth < 3  # MiB; 14 with arrays in place of Arrow's lists
