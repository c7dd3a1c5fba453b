"""Switchable self-training (S3): labels come from the pixels or from the network itself (paper 3.4)."""

import torch
from torch import Tensor

from clip2scene.method.base import Progress
from clip2scene.method.recipe import Recipe
from clip2scene.seeding import derive


def switch_labels(labels: Tensor, scores: Tensor, recipe: Recipe, progress: Progress) -> Tensor:
    """Replace the pixels' pseudo labels by the points' own predictions at random, from a given epoch on.

    The paper starts "after 10 epochs". A run too short for that starts after the same share of its epochs.

    Args:
        labels: [M] int64, pseudo labels of the pixels.
        scores: [M, C] float, class scores of the points; the arg max is the prediction.
        recipe: Start, probability and granularity (whole batch or single pair) of the switch.
        progress: Progress of training; its seed and step determine the draw.

    Returns:
        [M] int64, labels to train on.
    """
    length = min(progress.epochs, recipe.self_training_of)
    if progress.epoch * recipe.self_training_of < recipe.self_training_start * length:
        return labels
    draws = len(labels) if recipe.self_training_granularity == "pair" else 1
    generator = torch.Generator().manual_seed(derive(progress.seed, "self-training", progress.step))
    own = torch.rand(draws, generator=generator) < recipe.self_training_probability
    return torch.where(own.to(labels.device), scores.argmax(dim=1), labels)
