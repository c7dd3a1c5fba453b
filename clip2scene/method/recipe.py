"""Recipes: the choices in which the paper, its released code and our fixed version differ.

This module does not import torch.
"""

from dataclasses import dataclass, replace
from typing import Literal

from clip2scene.errors import unknown


@dataclass(frozen=True)
class Recipe:
    """Settings of CLIP2Scene's losses.

    Attributes:
        semantic: Semantic loss. ``eq1``: equation 1 as printed, which contrasts the points of a class with
            all others, summed over classes. ``cross_entropy``: cross-entropy over classes, averaged over
            pairs. ``weighted_cross_entropy``: the same with larger weights for rare classes.
        temperature: tau of the semantic loss.
        normalise: L2-normalise point and pixel features, so that dot products are cosines.
        normalise_images: Normalise images by the teacher's training mean and standard deviation. If False,
            the teacher gets values in 0..1.
        teacher_gelu: Run the teacher's ViT with GELU, as MaskCLIP does. If False, it runs with the QuickGELU
            that it was trained with.
        agreement: Target of the spatial-temporal loss. ``cells``: the fused feature of the point's grid cell,
            equations 2 to 4. ``pixels``: a linear map of the point's own pixel, with 1 - cosine averaged over
            pairs; `fusion`, `attention_text`, `attention_temperature`, `reduction` and `cell_cap` then have
            no effect.
        fusion: ``pixels_and_points``: equations 3 and 4. ``points``: attention and fused feature over points
            only.
        attention_text: Text in the attention scores. ``pair``: each pair's own, equation 4. ``first``: that
            of the first pair of the cell.
        attention_temperature: lambda of equation 4.
        reduction: Reduction of the spatial-temporal loss. ``sum_per_cell``: equation 2, the sum over pairs
            divided by the number of cells. ``mean``: mean over pairs. ``padded_mean``: mean over `cell_cap`
            slots per cell, where each empty slot counts as 1 - sigmoid(0).
        cell_cap: Maximum number of pairs per cell, the first ones; None keeps all.
        semantic_weight, spatial_temporal_weight: Weights of the two losses; a loss of weight 0 is not
            computed.
        self_training_start: Share of the epochs after which switchable self-training starts.
        self_training_probability: Probability that a label is the network's own prediction; 0 disables
            self-training.
        self_training_granularity: ``batch``: all labels of a batch switch together. ``pair``: each pair
            switches independently.
    """

    semantic: Literal["eq1", "cross_entropy", "weighted_cross_entropy"]
    temperature: float
    normalise: bool
    normalise_images: bool
    teacher_gelu: bool
    fusion: Literal["pixels_and_points", "points"]
    attention_text: Literal["pair", "first"]
    reduction: Literal["sum_per_cell", "mean", "padded_mean"]
    self_training_start: float
    agreement: Literal["cells", "pixels"] = "cells"
    attention_temperature: float = 1.0
    cell_cap: int | None = None
    semantic_weight: float = 1.0
    spatial_temporal_weight: float = 1.0
    self_training_probability: float = 0.5
    self_training_granularity: Literal["batch", "pair"] = "batch"


PAPER = Recipe(
    semantic="eq1",
    temperature=0.5,
    normalise=True,
    normalise_images=True,
    teacher_gelu=True,
    fusion="pixels_and_points",
    attention_text="pair",
    reduction="sum_per_cell",
    self_training_start=10 / 20,
)
"""Equations 1 to 4 as printed, with self-training "after 10 epochs" of 20.

Where the paper is silent (loss weights, probability and granularity of self-training), this recipe follows
the released code. The paper does not say that point features are normalised, but it takes their dot products
with CLIP's unit vectors. Without normalisation, equation 1 has no lower bound, because its denominator does
not contain the positives: features then grow without limit (to 1e14 in 200 steps at the released learning
rate, in a toy problem)."""

RELEASED = Recipe(
    semantic="cross_entropy",
    temperature=1.0,
    normalise=False,
    normalise_images=False,
    teacher_gelu=True,
    fusion="points",
    attention_text="first",
    reduction="padded_mean",
    cell_cap=8,
    self_training_start=11 / 20,
)
"""The losses of runnanchen/CLIP2Scene @ f37dae7 on nuScenes (pretrain/lightning_trainer.py ``loss_nuscenes``,
model/fusionNet.py), where that code does not crash.

Self-training runs at ``epoch > 10`` of 20, counted from 0. Self-training on points without a pixel is left
out, since the released code overwrites its result before using it."""

RELEASED_SCANNET = replace(RELEASED, agreement="pixels", self_training_start=10 / 30)
"""The losses of the same code on ScanNet (``scannet_loss``).

Cells are replaced by a cosine with the pixel's own values, passed through a trained linear map
(model/maskclip_model.py ``image_mapping_local``). Self-training runs at ``epoch >= 10`` of 30."""

FIXED = Recipe(
    semantic="weighted_cross_entropy",
    temperature=0.07,
    normalise=True,
    normalise_images=True,
    teacher_gelu=False,
    fusion="pixels_and_points",
    attention_text="pair",
    reduction="mean",
    self_training_start=10 / 20,
)
"""The paper's structure with well-posed reductions.

* Semantic loss: equation 1 contrasts the points of a batch under one text, and never the texts of one point,
  although evaluation compares texts. The contrast here is therefore over classes, as in the released code.
* Class weights: rare classes get larger weights. The sum over classes in equation 1 has this effect, the
  released mean over points does not.
* Equation 2: a mean over pairs, so that its scale does not depend on how many pairs share a cell.
* Temperature: cosines lie in -1..1, so at the paper's tau of 0.5 no two logits differ by more than 4. tau is
  SLidR's 0.07.

Annotation-free mIoU on the embedded data after 320 steps, one seed: equation 1 with the positives in the
denominator 16.5, mean over points 19.8, mean over classes 25.0, the weights used here 27.2."""


def _with_ablations(name: str, recipe: Recipe) -> dict[str, Recipe]:
    """Return a recipe and its ablations of Table 3, which remove a loss, self-training or both."""
    return {
        name: recipe,
        f"{name}_without_semantic": replace(recipe, semantic_weight=0.0),
        f"{name}_without_spatial_temporal": replace(recipe, spatial_temporal_weight=0.0),
        f"{name}_without_self_training": replace(recipe, self_training_probability=0.0),
        f"{name}_baseline": replace(recipe, spatial_temporal_weight=0.0, self_training_probability=0.0),
        f"{name}_self_training_only": replace(recipe, self_training_probability=1.0),
    }


RECIPES = (
    _with_ablations("paper", PAPER)
    | _with_ablations("released", RELEASED)
    | {"released_scannet": RELEASED_SCANNET}
    | _with_ablations("fixed", FIXED)
)
"""Recipes by name, including the paper's ablations (Table 3). Its numbers of sweeps are set in the
configuration."""


def get_recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        InputError: there is no such recipe; the message suggests the nearest name.
    """
    if name not in RECIPES:
        raise unknown("recipe of method clip2scene", name, RECIPES)
    return RECIPES[name]
