"""Pre-training checkpoints: their description, and how a network takes over the weights."""

from pathlib import Path
from typing import Any

from torch import nn

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.models.weights import load_weights, read_checkpoint


def describe(config: Config, method: str, backbone: str, dataset: str) -> dict[str, Any]:
    """Describe a checkpoint: the settings that a run starting from it must share.

    Args:
        config: The configuration.
        method: Registered method that trains it.
        backbone: Key of the configuration's `backbones`.
        dataset: Key of the configuration's `datasets` that it is trained on.
    """
    data = config.datasets[dataset]
    return {
        "method": method,
        "backbone": backbone,
        **config.backbones[backbone].model_dump(),
        "dataset": dataset,
        "split": data.pretrain_split,
        "voxel_size": data.voxel_size,
    }


def read_pretrained(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `clip2scene.training.pretrain` or of `clip2scene.training.published`.

    Returns:
        ``backbone``, a state dict; ``method``, the rest of the method's state; ``meta``, its description
        (`describe`) with the recipe, and with the seed or the file it was imported from.

    Raises:
        InputError: the file is missing, damaged, or something else.
    """
    content = read_checkpoint(path)
    parts = {"backbone", "method", "meta"}
    if not parts <= content.keys() or not all(isinstance(content[name], dict) for name in parts):
        found = ", ".join(sorted(map(str, content))[:8])
        raise InputError(
            f"{path}: found {found}; expected a pre-training run's backbone, method and meta "
            "(`clip2scene import-checkpoint` makes them of a published file)"
        )
    return content


def require(path: Path, expected: dict[str, Any]) -> None:
    """Make sure that a checkpoint is what the configuration takes it for.

    Raises:
        InputError: its ``meta`` differs from `expected` (see `describe`).
    """
    meta = read_pretrained(path)["meta"]
    for name, value in expected.items():
        if meta.get(name) != value:
            raise InputError(f"{path}: {name} is {meta.get(name)!r}; expected {value!r}")


def load_backbone(path: Path, backbone: nn.Module) -> dict[str, Any]:
    """Load a pre-trained backbone into `backbone` and return the checkpoint's ``meta``.

    The released code silently leaves out whatever does not match, so that a checkpoint of another network is
    "loaded" without one tensor (CLIP2Scene @ f37dae7, downstream/model_builder.py).

    Raises:
        InputError: `path` is no pre-training checkpoint, or its tensors are not exactly the backbone's.
    """
    content = read_pretrained(path)
    load_weights(backbone, content["backbone"], path)
    return content["meta"]
