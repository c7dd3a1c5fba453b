"""MaskCLIP on a full ViT-B/16 compared with the official implementations (tests/golden/README.md)."""

import numpy as np
import pytest
import torch
from deterministic import difference, golden, integers, weight
from open_clip.model import CLIP
from torch.nn.functional import normalize

from clip2scene.models.clip import model_config
from clip2scene.models.maskclip import MaskCLIP, sample_features, use_gelu

IMAGES = integers("images", 256, 1, 64, 96, 3).byte().permute(0, 3, 1, 2)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # MaskCLIP's, for values in 0..255
TOLERANCE = 2e-5  # float32, 12 layers; its layer norms have epsilon 1e-6, CLIP's and ours 1e-5


@pytest.fixture(scope="module")
def clip():
    """Return OpenAI's CLIP architecture with GELU, as both official implementations run it."""
    with torch.device("meta"):
        clip = CLIP(**model_config("ViT-B-16-quickgelu"))
    tower = clip.visual.to_empty(device="cpu")
    names = {name: weight(f"visual.{name}", tensor.shape) for name, tensor in tower.state_dict().items()}
    tower.load_state_dict(names)
    use_gelu(tower)
    return clip


def test_dense_features_and_scores(clip):
    official = golden("maskclip")
    features = MaskCLIP(clip, tuple(m / 255 for m in MEAN), tuple(s / 255 for s in STD))(IMAGES)
    assert difference(features, normalize(official["features"], dim=1)) < TOLERANCE
    scores = torch.einsum("ldhw,cd->lchw", features, weight("text", (20, 512)))
    assert difference(scores, official["scores"]) < TOLERANCE


def test_labels_of_the_released_teacher(clip):
    """Compare the label of every pixel (images in 0..1, up-sampled scores); they may differ only at ties."""
    official = golden("maskclip")
    labels, text = official["labels"].long(), official["features"][0].flatten(1).T
    text = text - text.mean(dim=0)
    image, row, column = (torch.from_numpy(axis.ravel()) for axis in np.indices(labels.shape))
    scores = sample_features(MaskCLIP(clip)(IMAGES), image, row, column, labels.shape[1:]) @ text.T
    of_official = scores.gather(1, labels.reshape(-1, 1))[:, 0]
    assert len(labels.unique()) > 5
    assert (scores.argmax(dim=1) == labels.flatten()).float().mean() > 0.999
    assert (scores.amax(dim=1) - of_official).max() < TOLERANCE * scores.abs().max()
