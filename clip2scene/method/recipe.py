"""Recipes: the choices in which the paper, its released code and our fixed version differ.

This module does not import torch.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from clip2scene.errors import unknown


@dataclass(frozen=True)
class Recipe:
    """Settings of CLIP2Scene's losses.

    Attributes:
        semantic: Semantic loss. ``eq1``: equation 1 as printed, which contrasts the points of a class with
            all others, summed over classes. ``cross_entropy``: cross-entropy over classes, averaged over
            pairs. ``weighted_cross_entropy``: the same with larger weights for rare classes. ``kl``:
            divergence of the points' distribution over classes from the pixels', without pseudo labels.
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
        self_training_start, self_training_of: Switchable self-training starts after this many epochs; in a
            run of fewer epochs than `self_training_of`, after the same share of them.
        self_training_probability: Probability that a label is the network's own prediction; 0 disables
            self-training.
        self_training_granularity: ``batch``: all labels of a batch switch together. ``pair``: each pair
            switches independently.
    """

    semantic: Literal["eq1", "cross_entropy", "weighted_cross_entropy", "kl"]
    temperature: float
    normalise: bool
    normalise_images: bool
    teacher_gelu: bool
    fusion: Literal["pixels_and_points", "points"]
    attention_text: Literal["pair", "first"]
    reduction: Literal["sum_per_cell", "mean", "padded_mean"]
    self_training_start: int
    self_training_of: int = 20
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
    self_training_start=10,
)
"""Equations 1 to 4 as printed, with self-training "after 10 epochs", on nuScenes of 20, on ScanNet of 30.

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
    self_training_start=11,
)
"""The losses of runnanchen/CLIP2Scene @ f37dae7 on nuScenes (pretrain/lightning_trainer.py ``loss_nuscenes``,
model/fusionNet.py), where that code does not crash.

Self-training runs at ``epoch > 10`` of 20, counted from 0. Self-training on points without a pixel is left
out, since the released code overwrites its result before using it.

Its spatial-temporal loss starts where it has no gradient. Features are not normalised, so that D(p, f) is
about |p|^2. Where that is above 24 ln 2 = 16.6, 1 - sigmoid is 0 in float32: for almost all pairs of a fresh
network, though not once the semantic loss has shrunk the features (docs/recipes.md)."""

RELEASED_SCANNET = replace(RELEASED, agreement="pixels", self_training_start=10, self_training_of=30)
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
    self_training_start=15,
)
"""The paper's structure with well-posed reductions.

* Semantic loss: equation 1 contrasts the points of a batch under one text, and never the texts of one point,
  although evaluation compares texts. The contrast here is therefore over classes, as in the released code.
* Class weights: rare classes get larger weights. The sum over classes in equation 1 has this effect, the
  released mean over points does not.
* Equation 2: a mean over pairs, so that its scale does not depend on how many pairs share a cell.
* Temperature: cosines lie in -1..1, so at the paper's tau of 0.5 no two logits differ by more than 4. tau is
  SLidR's 0.07.
* Self-training starts after 15 of 20 epochs rather than 10: a network that is still weak teaches itself its
  own mistakes. On the embedded rooms (width 0.25, 320 steps, one seed), annotation-free mIoU was 18.5 with a
  start after half of the epochs, and 22.3 without self-training.

Annotation-free mIoU on the embedded data after 320 steps, one seed: equation 1 with the positives in the
denominator 16.5, mean over points 19.8, mean over classes 25.0, the weights used here 27.2."""


RELEASED_TRAINING: dict[str, Any] = {
    "augmentation": "cloud",
    "optimiser": {"schedule": "epoch"},
}
"""Keys of the section `pretrain` in which ``released`` repeats that code beyond the losses.

* Augmentation (pretrain/dataloader_nuscenes.py ``__getitem__``): every sweep is rotated and flipped by
  itself, and sees crops of its own of the keyframe's images: the teacher runs on K times as many images.
* Learning rate (pretrain/lightning_trainer.py ``configure_optimizers``): the cosine moves once an epoch.

Batch norm takes its statistics over all processes of a run, as that SPVCNN's ``SyncBatchNorm`` does, whatever
the recipe. (The released MinkUNet for ScanNet takes them on each GPU: pretrain.py:48 is commented out.)

Not repeated: the switch's own draw on each GPU, the repeated sweeps at the start of a scene, and what
crashes."""

_KL = {"semantic": "kl", "spatial_temporal_weight": 0.0, "self_training_probability": 0.0}

TABLE_3: dict[str, dict[str, Any]] = {
    "without_semantic": {"semantic_weight": 0.0},
    "without_spatial_temporal": {"spatial_temporal_weight": 0.0},
    "without_self_training": {"self_training_probability": 0.0},
    "baseline": {"spatial_temporal_weight": 0.0, "self_training_probability": 0.0},
    "self_training_only": {"self_training_probability": 1.0},
    "kl_distillation": _KL,
}
"""Fields that the paper's ablations change (Table 3), by the ending of the recipe's name. Prompts and sweeps
are variants of the configuration (`clip2scene.config_variants`).

"KL" replaces both losses by a divergence of class distributions. Without pseudo labels there is nothing that
self-training could switch. The paper gives no temperature; the released code has a divergence at 1 that it
never calls (pretrain/criterion.py ``DistillKL``), so ``paper`` and ``released`` take 1, and ``fixed`` keeps
its own."""

CHOICES: dict[str, dict[str, Any]] = {
    "normalised_images": {"normalise_images": True},
    "raw_images": {"normalise_images": False},
    "normalised_features": {"normalise": True},
    "temperature_0.07": {"temperature": 0.07},
    "temperature_0.5": {"temperature": 0.5},
    "temperature_1": {"temperature": 1.0},
    "fusion_of_points": {"fusion": "points"},
    "fusion_with_pixels": {"fusion": "pixels_and_points"},
    "switch_of_pairs": {"self_training_granularity": "pair"},
}
"""Fields that our ablations change, by the ending of the recipe's name: choices in which recipes differ, or
on which the paper is silent. A recipe that has a choice already has no ablation of this name."""


def _with_ablations(name: str, recipe: Recipe, **kl: float) -> dict[str, Recipe]:
    """Return a recipe and its ablations; `kl` are fields that its divergence has otherwise."""
    changes = TABLE_3 | {"kl_distillation": _KL | kl} | CHOICES
    ablations = {f"{name}_{ending}": replace(recipe, **fields) for ending, fields in changes.items()}
    return {name: recipe} | {other: changed for other, changed in ablations.items() if changed != recipe}


RECIPES = (
    _with_ablations("paper", PAPER, temperature=1.0)
    | _with_ablations("released", RELEASED, temperature=1.0)
    | {"released_scannet": RELEASED_SCANNET}
    | _with_ablations("fixed", FIXED)
)
"""Recipes by name, with their ablations."""


def training_of(name: str) -> dict[str, Any]:
    """Return the keys of the section `pretrain` that the recipe `name` brings beside its losses."""
    return RELEASED_TRAINING if name.startswith("released") else {}


def get_recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        InputError: there is no such recipe; the message suggests the nearest name.
    """
    if name not in RECIPES:
        raise unknown("recipe of method clip2scene", name, RECIPES)
    return RECIPES[name]
