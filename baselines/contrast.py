"""InfoNCE, the contrastive loss of the baselines."""

import torch
from torch import Tensor
from torch.nn import functional as F

from clip2scene.precision import in_float32


@in_float32
def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Compute InfoNCE: a query's own key is its positive, the keys of all other queries its negatives.

    L = - 1/M sum_i log( exp(q_i . k_i / tau) / sum_j exp(q_i . k_j / tau) )

    (valeoai/SLidR @ 14729d0, pretrain/criterion.py ``NCELoss``; facebookresearch/PointContrast @ 47e8682,
    pretrain/pointcontrast/lib/ddp_trainer.py ``PointNCELossTrainer``.)

    Args:
        queries: [M, D] float, L2-normalised features.
        keys: [M, D] float, L2-normalised features.
        temperature: tau.

    Returns:
        Scalar loss.
    """
    return F.cross_entropy(queries @ keys.T / temperature, torch.arange(len(keys), device=keys.device))
