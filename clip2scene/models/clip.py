"""CLIP models: their architectures, their checkpoint format, and loading.

A teacher checkpoint is a dictionary of ``architecture``, ``model_cfg`` (open_clip's), ``mean`` [3], ``std``
[3] and ``state_dict``. The format does not depend on the source of the weights, and it loads with
``weights_only=True``.
"""

import difflib
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import CLIP
from torch import nn

from clip2scene.errors import InputError
from clip2scene.files import first_line
from clip2scene.models.weights import load_weights, part, read_checkpoint, write_checkpoint

EMBEDDED: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 3], "width": 16, "head_width": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
"""Small CLIP that the workflow trains: a narrow, shallow ModifiedResNet and a tiny text tower."""


def model_config(architecture: str) -> dict[str, Any]:
    """Return open_clip's configuration of an architecture.

    Raises:
        InputError: open_clip does not have the architecture (the message names the nearest one), or MaskCLIP
            is not defined for it. MaskCLIP needs CLIP's own ViT or modified ResNet and its own text tower.
    """
    if architecture == "embedded":
        return deepcopy(EMBEDDED)
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise InputError(
            f"teacher.architecture: unknown{nearest(architecture, ['embedded', *open_clip.list_models()])}, "
            f"found {architecture!r}"
        )
    foreign = {"timm_model_name", "attentional_pool", "block_type", "hf_model_name", "hf_tokenizer_name"}
    keys = {*config, *config["vision_cfg"], *config["text_cfg"]}
    if config.get("custom_text") or keys & foreign:
        raise InputError(
            f"teacher.architecture: expected CLIP's own towers, for which MaskCLIP is defined (ViT-*, RN*), "
            f"found {architecture!r}"
        )
    return config


def nearest(name: str, valid: list[str]) -> str:
    """Return ``, did you mean X?`` for an error message, or an empty string if no valid name is similar."""
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    return f", did you mean {near[0]!r}?" if near else ""


def save_clip(
    path: Path, model: CLIP, architecture: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """Write a teacher checkpoint; `mean` and `std` (RGB) normalise images with values in 0..1."""
    checkpoint = {
        "architecture": architecture,
        "model_cfg": model_config(architecture),
        "mean": list(mean),
        "std": list(std),
        "state_dict": {name: value.contiguous() for name, value in model.state_dict().items()},
    }
    write_checkpoint(path, checkpoint)


def load_clip(path: Path) -> tuple[CLIP, dict[str, Any]]:
    """Load a teacher checkpoint.

    Returns:
        The frozen model in evaluation mode, and the checkpoint.

    Raises:
        InputError: the file is missing, damaged or not a teacher checkpoint.
    """
    checkpoint = read_checkpoint(path)
    what = "a teacher checkpoint (model_cfg, mean, std, state_dict)"
    config, weights = (part(checkpoint, name, path, what) for name in ("model_cfg", "state_dict"))
    for name in ("mean", "std"):
        if not _is_colour(values := checkpoint.get(name)) or (name == "std" and min(values) <= 0):
            positive = " above 0" if name == "std" else ""
            raise InputError(f"{path}: {name} is {values!r}; expected three finite numbers{positive}")
    try:
        model = CLIP(**config)
    except Exception as error:  # open_clip checks none of its arguments
        raise InputError(f"{path}: model_cfg makes no CLIP model ({first_line(error)})") from None
    load_weights(model, weights, path)
    return model.eval().requires_grad_(False), checkpoint


def shorten_context(model: CLIP, length: int) -> None:
    """Have the text network read texts of at most `length` tokens, without padding them to CLIP's 77.

    Its attention is causal, so padding behind the end of a text changes nothing but the time: with a dozen
    tokens, an eighth of it.
    """
    model.context_length = length
    model.positional_embedding = nn.Parameter(model.positional_embedding[:length])
    model.attn_mask = model.attn_mask[:length, :length]


def _is_colour(values: Any) -> bool:
    """Say whether a value of a checkpoint is three finite numbers."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    )
