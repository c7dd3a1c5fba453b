"""Text embeddings of classes, averaged over 85 templates (CLIP2Scene, utils/prompt_engineering.py)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES, tokenize
from torch import Tensor
from torch.nn import functional as F

from clip2scene.errors import InputError
from clip2scene.models.clip import load_clip
from clip2scene.models.weights import read_checkpoint, write_checkpoint

TEMPLATES: tuple[str, ...] = (
    *(template("{}") for template in OPENAI_IMAGENET_TEMPLATES),
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""CLIP's 80 ImageNet templates, and MaskCLIP's five for scenes."""


@torch.no_grad()
def text_embeddings(teacher: Path, prompts: Sequence[str]) -> Tensor:
    """Embed class names: each template's embedding is L2-normalised, then their mean is.

    Args:
        teacher: Teacher checkpoint.
        prompts: C class names.

    Returns:
        [C, D] float32, L2-normalised, in the order of `prompts`.
    """
    model, _ = load_clip(teacher)
    embeddings = []
    for prompt in prompts:
        tokens = tokenize([template.format(prompt) for template in TEMPLATES], model.context_length)
        embeddings.append(model.encode_text(tokens, normalize=True).mean(dim=0))
    return F.normalize(torch.stack(embeddings), dim=-1)


def write_text_embeddings(teacher: Path, prompts: Sequence[str], out: Path) -> None:
    """Write the embeddings of `prompts` to `out`; see `load_text_embeddings`."""
    write_checkpoint(out, {"prompts": list(prompts), "embeddings": text_embeddings(teacher, prompts)})


def load_text_embeddings(path: Path) -> Tensor:
    """Text embeddings [C, D] float32 that `write_text_embeddings` wrote.

    Raises:
        InputError: the file is missing or holds something else.
    """
    saved = read_checkpoint(path)
    if "embeddings" not in saved:
        raise InputError(f"{path}: expected text embeddings (prompts, embeddings)")
    return saved["embeddings"]
