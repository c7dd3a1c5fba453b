"""Reading weights that others made: safely, and only where enough of them find their place."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip2scene.errors import InputError
from clip2scene.files import atomic

MINIMUM_SHARE = 0.95


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


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: str | Path) -> list[str]:
    """Load `weights` into `model`; names that it does not have are left out.

    Args:
        model: Changed in place; what `weights` lacks keeps its values.
        weights: State dict.
        source: Where the weights are from, for the message.

    Returns:
        Names of the model's tensors that `weights` lacks or has in another shape, at most 5 %.

    Raises:
        InputError: fewer than 95 % of the model's tensors are there in the right shape; names the others.
    """
    expected = model.state_dict()
    found = {
        name: value
        for name, value in weights.items()
        if name in expected and value.shape == expected[name].shape
    }
    missing = [name for name in expected if name not in found]
    if len(found) < MINIMUM_SHARE * len(expected):
        raise InputError(
            f"{source}: holds {len(found)} of the model's {len(expected)} tensors, expected at least "
            f"{MINIMUM_SHARE:.0%}; missing or of another shape: {', '.join(missing[:8])}"
            + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        )
    model.load_state_dict(found, strict=False)
    return missing


def _found(error: Exception) -> str:
    """What torch refused, without its advice to load it all the same."""
    if pickled := re.search(r"GLOBAL (\S+)", str(error)):
        return f"{pickled[1]}, which is code; save its state_dict alone, where the file was made"
    return (str(error) or type(error).__name__).splitlines()[0]
