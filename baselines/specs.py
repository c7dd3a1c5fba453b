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


class PointContrastSettings(Section):
    """Settings of PointContrast; the sources are facebookresearch/PointContrast's own."""

    matches: int = Field(default=1024, ge=1, le=1_000_000)
    """Matches per step in the contrastive loss; the official command for PointInfoNCE takes 4096."""
    temperature: float = Field(default=0.4, gt=0, le=100)
    """tau of PointInfoNCE: that of the official commands; the default in the official code is 0.07."""


PPKT = MethodSpec("baselines.ppkt:PPKT", frozenset({"images", "encoder"}), settings=PPKTSettings)
SLIDR = MethodSpec(
    "baselines.slidr:SLidR", frozenset({"images", "superpixels", "encoder"}), settings=SLidRSettings
)
POINTCONTRAST = MethodSpec(
    "baselines.pointcontrast:PointContrast", frozenset({"sweeps", "views"}), settings=PointContrastSettings
)
RANDOM = MethodSpec(None)  # fine-tuning from random initialisation
