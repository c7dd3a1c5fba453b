"""A made-up network whose scores and features are known, and files of scans."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from clip2scene.config import load_config
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.models.clip import model_config, save_clip
from clip2scene.predict.network import Network
from clip2scene.study import Study


@pytest.fixture
def network():
    """A network that reads the class of a voxel off its intensity: tens of nuScenes' scale."""

    def score(batch):
        classes = (batch.features[:, 0] / 10).round().long().clamp(1, 16)
        return torch.nn.functional.one_hot(classes - 1, 16).float()

    return Network(
        title="made up",
        reader=NuScenes(),
        labels=NuScenes(),
        classes=NuScenes.classes,
        colours=NuScenes.colours,
        voxel_size=0.05,
        cylindrical=False,
        score=score,
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A CLIP teacher at random initialisation."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "checkpoint.pt"
    save_clip(path, CLIP(**model_config("embedded")), "embedded", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return path


@pytest.fixture
def aligned(network, teacher):
    """The same network, with features that are the text embedding of the class's prompt."""
    from clip2scene.models.prompts import text_embeddings

    texts = text_embeddings(teacher, NuScenes.prompts)

    def describe(batch, words):
        return network.score(batch) @ texts @ words.T

    return replace(network, describe=describe, teacher=teacher, prompts=NuScenes.prompts, texts=texts)


@pytest.fixture
def cloud():
    """Points [60, 3] float32, metres, and intensities [60] in tens, of classes 1 to 16 in turn."""
    draws = np.random.default_rng(0)
    return draws.uniform(-20, 20, (60, 3)).astype(np.float32), (10.0 * (1 + np.arange(60) % 16)).astype(
        np.float32
    )


class Bar:
    """A progress bar that shows nothing."""

    def __init__(self, *arguments):
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self):
        self.count += 1


@pytest.fixture(scope="session")
def bar():
    return Bar


@pytest.fixture(scope="session")
def study_at():
    return study_of


def study_of(folder, **datasets):
    """Return a study of data sets, whose one row fine-tunes on the first."""
    (folder / "rows.tsv").write_text(
        "protocol\tmethod\tbackbone\ttarget\tpercent\tseeds\n"
        f"finetune\trandom\tspvcnn\t{next(iter(datasets))}\t100\t0\n"
    )
    values = {
        "experiments": str(folder / "rows.tsv"),
        "results": str(folder / "results"),
        "datasets": datasets,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return Study(load_config(folder / "config.yaml"))
