"""Batch norm over all voxels of a batch, with the shortcut and the ReLU that follow it."""

import torch
from torch import Tensor, nn


def normalise(features: Tensor, norm: nn.BatchNorm1d, shortcut: Tensor | None, relu: bool) -> Tensor:
    """Normalise features [V, C], add a shortcut [V, C] if there is one, and apply ReLU if `relu`.

    In training on a CPU in float32, one operator does it all (see `clip2scene.portable.batch_norm`).
    PyTorch's own do the rest: with frozen statistics, with those of several processes, or on a GPU.
    """
    # PyTorch's own batch norm refuses a single row.
    is_plain = type(norm) is nn.BatchNorm1d and norm.training and len(features) > 1
    if is_plain and features.device.type == "cpu" and features.dtype == norm.weight.dtype == torch.float32:
        from clip2scene.portable import batch_norm

        return batch_norm.normalise(features, norm, shortcut, relu)
    return normalise_in_steps(features, norm, shortcut, relu)


def normalise_in_steps(features: Tensor, norm: nn.BatchNorm1d, shortcut: Tensor | None, relu: bool) -> Tensor:
    """Do what `normalise` does with PyTorch's operators, one after the other."""
    result = norm(features)
    if shortcut is not None:
        result = result.add_(shortcut)
    return result.relu_() if relu else result
