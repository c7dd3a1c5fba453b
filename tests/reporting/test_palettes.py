"""Colours of classes: official ones, and ones that colour-blind readers tell apart."""

import numpy as np
import pytest
from nuscenes.eval.lidarseg.utils import LidarsegClassMapper
from skimage.color import deltaE_ciede2000, rgb2lab

from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.scannet import ScanNet
from clip2scene.datasets.semantickitti import SemanticKITTI
from clip2scene.reporting.palettes import palette_of

# Machado, Oliveira and Fernandes 2009, table of matrices, severity 1.0, for linear RGB
VISION = {
    "normal": np.eye(3),
    "protan": [(0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
               (-0.003882, -0.048116, 1.051998)],
    "deutan": [(0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
               (-0.011820, 0.042940, 0.968881)],
    "tritan": [(1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602),
               (0.004733, 0.691367, 0.303900)],
}  # fmt: skip


def nearest(colours, matrix):
    """Return the smallest CIEDE2000 between two of [N, 3] uint8 colours for a kind of reader."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(matrix), 0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(encoded)
    apart = deltaE_ciede2000(lab[:, None], lab[None])
    return apart[np.triu_indices(len(lab), 1)].min()


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("dataset", [NuScenes, SemanticKITTI, ScanNet])
def test_any_two_classes_can_be_told_apart_by_every_reader(dataset, vision):
    safe = palette_of(dataset.colours, "colour-blind")
    assert len(safe) == len(dataset.classes) + 1
    assert nearest(safe, VISION[vision]) > 6
    assert nearest(safe, VISION[vision]) > 2 * nearest(palette_of(dataset.colours), VISION["deutan"])


def test_official_colours_are_the_devkits(tiny_root):
    from nuscenes import NuScenes as Devkit

    colours = LidarsegClassMapper(Devkit("v1.0-tiny", str(tiny_root), verbose=False)).get_coarse2color()
    expected = [list(colours[name]) for name in NuScenes.classes]
    assert palette_of(NuScenes.colours)[1:].tolist() == expected
