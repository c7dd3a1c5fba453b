"""Batch norm over all voxels of a batch, with the shortcut and the ReLU that follow it."""

import torch
from torch import Tensor, nn


def normalise(features: Tensor, norm: nn.BatchNorm1d, shortcut: Tensor | None, relu: bool) -> Tensor:
    """Normalise features [V, C], add a shortcut [V, C] if there is one, and apply ReLU if `relu`.

    In training on a CPU in float32, one operator does it all (see `clip2scene.portable.batch_norm`).
    PyTorch's own do the rest: with frozen statistics, with those of several processes, or on a GPU.
    """
    if _is_usual(norm) and len(features) > 1:  # PyTorch refuses a single row, in words
        tensors = (features, norm.weight, norm.bias, *([] if shortcut is None else [shortcut]))
        if all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors):
            from clip2scene.portable import batch_norm

            return batch_norm.normalise(features, norm, shortcut, relu)
    return normalise_in_steps(features, norm, shortcut, relu)


def _is_usual(norm: nn.BatchNorm1d) -> bool:
    """Say whether a batch norm takes its statistics from the batch, and has all its default parts."""
    has_all = norm.affine and norm.track_running_stats and norm.momentum is not None
    return type(norm) is nn.BatchNorm1d and norm.training and has_all


def normalise_in_steps(features: Tensor, norm: nn.BatchNorm1d, shortcut: Tensor | None, relu: bool) -> Tensor:
    """Do what `normalise` does with PyTorch's operators, one after the other."""
    result = norm(features)
    if shortcut is not None:
        result = result.add_(shortcut)
    return result.relu_() if relu else result
