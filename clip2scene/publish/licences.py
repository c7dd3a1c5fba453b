"""Licences of the data that networks learn from, which decide what may be done with the networks."""

from dataclasses import dataclass

from clip2scene.config import Config
from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.registry import get_dataset
from clip2scene.datasets.scannet import ScanNet
from clip2scene.datasets.semantickitti import SemanticKITTI


@dataclass(frozen=True)
class Licence:
    """Terms of a data set.

    Attributes:
        id: Identifier that the Hugging Face Hub knows; ``other`` if it knows none.
        name: The terms in words.
        link: Where they are; empty if nowhere.
    """

    id: str
    name: str
    link: str


SYNTHETIC = Licence("apache-2.0", "Apache License 2.0 (made by this software)", "")
_KNOWN: dict[type[Dataset], Licence] = {
    NuScenes: Licence(
        "cc-by-nc-sa-4.0", "nuScenes terms of use, CC BY-NC-SA 4.0", "https://www.nuscenes.org/terms-of-use"
    ),
    SemanticKITTI: Licence(
        "cc-by-nc-sa-3.0",
        "KITTI and SemanticKITTI, CC BY-NC-SA 3.0",
        "https://www.semantic-kitti.org/dataset.html",
    ),
    ScanNet: Licence(
        "other", "ScanNet terms of use, non-commercial", "http://kaldir.vc.in.tum.de/scannet/ScanNet_TOS.pdf"
    ),
}
_UNKNOWN = Licence("other", "terms of the data set", "")


def licence_of(config: Config, name: str) -> Licence:
    """Return the terms of a data set of the configuration."""
    section = config.datasets[name]
    if section.synthetic:
        return SYNTHETIC
    dataset = get_dataset(section.format)
    return next((terms for kind, terms in _KNOWN.items() if isinstance(dataset, kind)), _UNKNOWN)


def strictest(licences: list[Licence]) -> Licence:
    """Return the terms of what was made from data under several; ``other`` where no single one holds."""
    bound = [terms for terms in dict.fromkeys(licences) if terms != SYNTHETIC]
    if not bound:
        return SYNTHETIC
    if len(bound) == 1:
        return bound[0]
    return Licence("other", "; ".join(terms.name for terms in bound), "")
