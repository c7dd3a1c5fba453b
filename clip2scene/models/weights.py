"""Weights: read without running code, and loaded only where they fit."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip2scene.errors import InputError
from clip2scene.files import atomic, first_line, reading

MINIMUM_SHARE = 0.95
"""Least share of a published 3D network's tensors that must find their place."""
HUB_SECONDS = 8.0
"""Time that a model hub has to answer, seconds."""
_COUNTER = "num_batches_tracked"


class _Unread:
    """Stands in for a class that a checkpoint mentions beside its tensors."""


_UNREAD = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)
"""Classes by which Lightning before 1.5 (CLIP2Scene's is 1.4.0) named what its callbacks remember."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, never running code from it: safetensors, a torch file, or OpenAI's TorchScript.

    The content decides which of them it is, not the name.

    Raises:
        InputError: the file is missing, cannot be read, is damaged or holds anything else.
    """
    expected = "a checkpoint of tensors only"
    with reading(path, expected), path.open("rb") as file:
        head = file.read(64)
    try:
        checkpoint = _read(path, head)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or first_line(error)}; expected {expected}") from None
    except Exception as error:  # of a damaged file, torch's readers raise errors of a dozen types
        raise InputError(f"{path}: expected {expected}, found {_found(head, error)}") from None
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path}: expected a dictionary of tensors, found {type(checkpoint).__name__}")
    return checkpoint


def _read(path: Path, head: bytes) -> Any:
    """Read a file of one of the three formats; `head` holds its first bytes."""
    if head[8:9] == b"{" or (path.suffix == ".safetensors" and not head.startswith(b"PK")):
        from safetensors.torch import load_file

        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they advise to load the file all the same
        try:
            # from an open file: of a path, torch takes the name's ending for its format
            with (
                torch.serialization.safe_globals([(_Unread, name) for name in _UNREAD]),
                path.open("rb") as file,
            ):
                return torch.load(file, map_location="cpu", weights_only=True)
        except RuntimeError as error:
            if "TorchScript" not in str(error):
                raise
        return torch.jit.load(path, map_location="cpu").state_dict()


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; equal contents make equal bytes.

    Raises:
        OSError: it cannot be written; it names `path`.
    """
    with atomic(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(checkpoint, file)  # a path's name would be written into the archive
        except RuntimeError as error:  # of a full disk, torch reports an unexpected position in the archive
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def state_dict_of(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, from its top or from ``state_dict``, without DDP's ``module.``."""
    values = checkpoint.get("state_dict", checkpoint)
    values = values if isinstance(values, dict) else {}
    return {
        str(name).removeprefix("module."): value
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def part(checkpoint: dict[str, Any], name: str, path: Path, what: str) -> dict[str, Any]:
    """Return a part of a checkpoint that must be a dictionary.

    Args:
        checkpoint: The checkpoint.
        name: Key of the part.
        path: The checkpoint's file, for the message.
        what: What the file should be, for the message.

    Raises:
        InputError: the part is missing or is something else.
    """
    if not isinstance(value := checkpoint.get(name), dict):
        found = f"{name} as {type(value).__name__}" if name in checkpoint else keys(checkpoint)
        raise InputError(f"{path}: found {found}; expected {what}")
    return value


def keys(checkpoint: dict[str, Any]) -> str:
    """Return the first keys of a checkpoint for a message."""
    return listed(sorted(map(str, checkpoint))) or "no key"


@contextmanager
def downloading(key: str, tag: str, library: str) -> Iterator[None]:
    """Let a library download weights in the body; end a failure in one line, and without minutes of retries.

    If the hub cannot be reached, Hugging Face's client is set to offline: it then takes what its cache holds,
    or gives up at once.

    Args:
        key: Key of the configuration that names the weights, for the message.
        tag: The weights' name.
        library: Library that knows the tag.

    Raises:
        InputError: the weights could not be downloaded or are damaged.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    reachable, level = True, logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the libraries report each retry
    try:
        if not constants.is_offline_mode():
            try:
                get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
            except Exception:  # of the network, of a proxy, of the address: of many libraries
                constants.HF_HUB_OFFLINE, reachable = True, False
        yield
    except Exception as error:  # whatever the hub's client, the system or a reader of weights raises
        network = "" if reachable else f", as {constants.ENDPOINT} cannot be reached"
        raise InputError(
            f"{key}: found {tag!r}, which {library} could not load{network} ({first_line(error)[:200]}); "
            f"expected a network, the weights in the cache ({constants.HF_HUB_CACHE}), or the path of a file "
            "that holds them"
        ) from None
    finally:
        logging.disable(level)
        if not reachable:
            constants.HF_HUB_OFFLINE = False


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
    """Raise an InputError for a value of `weights` that is no tensor, or whose shape or values do not fit."""
    for name, value in weights.items():
        wanted = expected[name]
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
            raise InputError(f"{source}: {name} is {_kind(value)}; expected a tensor with values")
        if value.shape != wanted.shape:
            found, shape = list(value.shape), list(wanted.shape)
            raise InputError(f"{source}: {name} has the shape {found}; expected {shape}")
        if wanted.is_floating_point():
            if not value.is_floating_point():
                raise InputError(f"{source}: {name} holds {value.dtype}; expected floating-point numbers")
            if not value.to(wanted.dtype).isfinite().all():
                raise InputError(f"{source}: {name} holds values that are not finite")
            if name.endswith("running_var") and value.lt(0).any():
                raise InputError(f"{source}: {name} holds values below 0; expected variances")


def _kind(value: Any) -> str:
    """Return what a value is, for a message."""
    if isinstance(value, Tensor):
        return "a tensor without values" if value.is_meta else f"a tensor of layout {value.layout}"
    return f"of type {type(value).__name__}"


def listed(names: list[str], most: int = 8) -> str:
    """Return names for a message, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _found(head: bytes, error: Exception) -> str:
    """Return what a file is that is no checkpoint, without torch's advice to load it all the same.

    Args:
        head: First bytes of the file.
        error: Error of its reader.
    """
    message = re.sub(r"\x1b\[\d*m", "", str(error))
    if pickled := re.search(r"GLOBAL (\S+)", message):
        return f"{pickled[1]}, which is code; save its state_dict alone, where the file was made"
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; fetch the file itself with `git lfs pull`"
    if re.match(rb"\s*<[!?a-zA-Z]", head):
        return "a web page; download the file itself"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return f"text ({head.decode().splitlines()[0][:40]!r})"
    if "central directory" in message or "EOF" in message or "EOF" in type(error).__name__:
        return "a file that is cut short"
    if not message or "weights_only" in message or "[enforce fail" in message:
        return "a damaged file, or one that torch did not write"
    return f"a damaged file ({message.splitlines()[0][:100]})"
