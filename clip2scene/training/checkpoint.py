"""What pre-training hands on, and how a network takes it over."""

from pathlib import Path
from typing import Any

from torch import nn

from clip2scene.errors import InputError
from clip2scene.models.weights import load_weights, read_checkpoint


def read_pretrained(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `clip2scene.training.pretrain.pretrain`.

    Returns:
        ``backbone``, a state dict; ``method``, what else the method has; ``meta``, what it is: method,
        recipe, backbone, width, coordinates, dataset, split, seed.

    Raises:
        InputError: the file is missing, damaged, or something else.
    """
    content = read_checkpoint(path)
    if not {"backbone", "method", "meta"} <= content.keys():
        found = ", ".join(sorted(content)[:8])
        raise InputError(f"{path}: found {found}; expected a pre-training run's backbone, method and meta")
    return content


def load_backbone(path: Path, backbone: nn.Module) -> dict[str, Any]:
    """Load a pre-trained backbone into `backbone`; returns the checkpoint's ``meta``.

    The released code silently leaves out whatever does not match, so that a checkpoint of another network is
    "loaded" without one tensor (CLIP2Scene @ f37dae7, downstream/model_builder.py).

    Raises:
        InputError: `path` is no pre-training checkpoint, or matches fewer than 95 % of the backbone's
            tensors.
    """
    content = read_pretrained(path)
    load_weights(backbone, content["backbone"], path)
    return content["meta"]
