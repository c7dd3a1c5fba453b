"""Weights: read without running code, and loaded only where they fit."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip2scene.errors import InputError
from clip2scene.files import atomic

MINIMUM_SHARE = 0.95
"""Least share of a published 3D network's tensors that must find their place."""
_COUNTER = "num_batches_tracked"


class _Unread:
    """Stands in for a class that a checkpoint mentions beside its tensors."""


_UNREAD = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)
"""Classes by which Lightning before 1.5 (CLIP2Scene's is 1.4.0) named what its callbacks remember."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, never running code from it: safetensors, a torch file, or OpenAI's TorchScript.

    Raises:
        InputError: the file is missing or holds anything else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a checkpoint")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        with torch.serialization.safe_globals([(_Unread, name) for name in _UNREAD]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if "TorchScript" not in str(error):
            raise InputError(
                f"{path}: expected a checkpoint of tensors only, found {_found(error)}"
            ) from None
        checkpoint = torch.jit.load(path, map_location="cpu").state_dict()
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path}: expected a dictionary of tensors, found {type(checkpoint).__name__}")
    return checkpoint


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; equal contents make equal bytes."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)  # a path's name would be written into the archive


def state_dict_of(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, from its top or from ``state_dict``, without DDP's prefix ``module.``."""
    values = checkpoint.get("state_dict", checkpoint)
    return {
        name.removeprefix("module."): value for name, value in values.items() if isinstance(value, Tensor)
    }


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Load `weights` into `model`, all of them or none.

    The counters of batch norm layers (``num_batches_tracked``) may be missing: nothing reads them.

    Args:
        model: Changed in place.
        weights: State dict.
        source: Origin of the weights, for the message.

    Raises:
        InputError: a tensor of the model is missing or of another shape, one is left over, or a value is not
            finite; the tensors are named.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights and not name.endswith(_COUNTER)]
    if missing or (left := [name for name in weights if name not in expected]):
        what, names = ("lacks", missing) if missing else ("holds, beside the model's tensors,", left)
        raise InputError(f"{source}: {what} {listed(names)}; expected the model's {len(expected)} tensors")
    refuse_unfit(expected, weights, source)
    model.load_state_dict(weights, strict=False)


def load_published(model: nn.Module, weights: dict[str, Tensor], source: str | Path) -> list[str]:
    """Load a published 3D network's `weights` into `model`; a few tensors may be missing.

    Args:
        model: Changed in place; tensors that `weights` lacks keep their values.
        weights: State dict, with names of the model.
        source: Origin of the weights, for the message.

    Returns:
        Names of the model's tensors that keep their values, at most 5 %.

    Raises:
        InputError: fewer than 95 % of the model's tensors are there, the first layer is not, or a tensor has
            another shape or values that are not finite; the tensors are named.
    """
    expected = model.state_dict()
    found = {name: value for name, value in weights.items() if name in expected}
    missing = [name for name in expected if name not in found]
    if len(found) < MINIMUM_SHARE * len(expected):
        raise InputError(
            f"{source}: holds {len(found)} of the model's {len(expected)} tensors, expected at least "
            f"{MINIMUM_SHARE:.0%}; missing: {listed(missing)}"
        )
    refuse_unfit(expected, found, source)
    stem = next(iter(expected))
    if stem in missing:
        raise InputError(f"{source}: lacks {stem}, the first layer, which would start at random")
    model.load_state_dict(found, strict=False)
    return missing


def refuse_unfit(expected: dict[str, Tensor], weights: dict[str, Tensor], source: str | Path) -> None:
    """Raise an InputError for tensors of `weights` whose shape or values do not fit."""
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            found, wanted = list(value.shape), list(expected[name].shape)
            raise InputError(f"{source}: {name} has the shape {found}; expected {wanted}")
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{source}: {name} holds values that are not finite")


def listed(names: list[str], most: int = 8) -> str:
    """Return names for a message, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _found(error: Exception) -> str:
    """What torch refused, without its advice to load it all the same."""
    if pickled := re.search(r"GLOBAL (\S+)", str(error)):
        return f"{pickled[1]}, which is code; save its state_dict alone, where the file was made"
    return (str(error) or type(error).__name__).splitlines()[0]
