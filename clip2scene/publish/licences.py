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
        id: Identifier of the Hugging Face Hub (huggingface/hub-docs, docs/hub/repositories-licenses.md);
            ``other`` if it knows none.
        name: The terms in words.
        link: Where they are; empty if nowhere.
    """

    id: str
    name: str
    link: str


SYNTHETIC = Licence("apache-2.0", "Apache License 2.0 (made by this software)", "")
_KNOWN: dict[type[Dataset], Licence] = {
    # The page gives CC BY-NC-SA 4.0, and conditions of its own beside it.
    NuScenes: Licence(
        "cc-by-nc-sa-4.0", "nuScenes terms of use, CC BY-NC-SA 4.0", "https://www.nuscenes.org/terms-of-use"
    ),
    # Scans and images: CC BY-NC-SA 3.0 (www.cvlibs.net/datasets/kitti). Labels: CC BY-NC-SA 4.0
    # (semantic-kitti.org/dataset.html#licence). What is made of both may be under 4.0: section 4(b) of 3.0
    # allows "a later version of this License with the same License Elements".
    SemanticKITTI: Licence(
        "cc-by-nc-sa-4.0",
        "SemanticKITTI, CC BY-NC-SA 4.0, on KITTI's scans, CC BY-NC-SA 3.0",
        "https://www.semantic-kitti.org/dataset.html#licence",
    ),
    # An agreement to sign, for research (github.com/ScanNet/ScanNet, README, which links this file).
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
    """Return the terms of what was made from data under several; their id is ``other`` where they differ."""
    bound = [terms for terms in dict.fromkeys(licences) if terms != SYNTHETIC]
    if not bound:
        return SYNTHETIC
    if len(bound) == 1:
        return bound[0]
    ids = {terms.id for terms in bound}
    names = "; ".join(terms.name for terms in bound)
    return Licence(ids.pop() if len(ids) == 1 else "other", names, "")
