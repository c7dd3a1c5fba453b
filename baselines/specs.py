"""Entry points of the baselines in the group ``clip2scene.methods``. This module does not import torch."""

from pydantic import Field

from clip2scene.config_data import Section
from clip2scene.config_training import Superpixels
from clip2scene.method.spec import MethodSpec


class PPKTSettings(Section):
    """Settings of PPKT."""

    pairs: int = Field(default=1024, ge=1, le=1_000_000)
    """Point-pixel pairs per step in the contrastive loss; the paper uses 4096."""


class SLidRSettings(Section):
    """Settings of SLidR."""

    superpixels: Superpixels = Superpixels()
    """SLIC parameters."""


PPKT = MethodSpec("baselines.ppkt:PPKT", frozenset({"images", "encoder"}), settings=PPKTSettings)
SLIDR = MethodSpec(
    "baselines.slidr:SLidR", frozenset({"images", "superpixels", "encoder"}), settings=SLidRSettings
)
RANDOM = MethodSpec(None)  # fine-tuning from random initialisation
