"""Pre-training checkpoints: their description, and how a network takes over the weights."""

from pathlib import Path
from typing import Any

from torch import nn

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.method.spec import method_spec
from clip2scene.models.architectures import architecture
from clip2scene.models.weights import load_weights, part, read_checkpoint
from clip2scene.run_files import refuse_changed
from clip2scene.runs import Run


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


def expected_start(config: Config, run: Run) -> dict[str, Any]:
    """Describe the checkpoint that a run must start from: its pre-training's, or an imported file.

    Args:
        config: The configuration.
        run: A fine-tuning, probing or annotation-free run.
    """
    expected = describe(config, run.method, run.backbone, run.pretrain)
    if run.recipe in config.checkpoints:
        return expected | {"recipe": config.checkpoints[run.recipe].recipe}
    return expected | {"recipe": run.recipe, "seed": run.pretrain_seed}


def read_pretrained(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `clip2scene.training.pretrain` or of `clip2scene.training.published`.

    Returns:
        ``backbone``, a state dict; ``method``, the rest of the method's state; ``meta``, its description
        (`describe`) with the recipe, and with the seed or the file it was imported from.

    Raises:
        InputError: the file is missing, damaged, or something else.
    """
    content = read_checkpoint(path)
    what = (
        "a pre-training run's backbone, method and meta (`clip2scene import-checkpoint` makes them of a "
        "published file)"
    )
    meta = [part(content, name, path, what) for name in ("backbone", "method", "meta")][-1]
    for name, kind in _META.items():
        if not isinstance(value := meta.get(name), kind):
            found = f"{value!r}" if name in meta else "nothing"
            raise InputError(f"{path}: meta.{name}: found {found}; expected {_words(kind)}")
    try:
        architecture(meta["backbone"])
        method_spec(meta["method"])
    except InputError as error:
        raise InputError(f"{path}: meta: {error}") from None
    return content


_META = {
    "method": str, "recipe": str, "backbone": str, "coordinates": str, "dataset": str, "split": str,
    "width": (int, float), "voxel_size": (int, float),
}  # fmt: skip
"""Entries of ``meta`` that readers rely on, with their types."""


def _words(kind: type | tuple[type, ...]) -> str:
    return "a string" if kind is str else "a number"


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
        InputError: `path` is no pre-training checkpoint, or its tensors are not exactly the backbone's, or
            its run did not write it.
    """
    content = read_pretrained(path)
    load_weights(backbone, content["backbone"], path)
    refuse_changed(path)
    return content["meta"]
