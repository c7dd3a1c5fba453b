"""Text embeddings of class names, averaged over 85 templates (CLIP2Scene, utils/prompt_engineering.py)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES, tokenize
from torch import Tensor
from torch.nn import functional as F

from clip2scene.datasets.registry import prompts_of
from clip2scene.errors import InputError
from clip2scene.models.clip import load_clip, shorten_context
from clip2scene.models.weights import keys, read_checkpoint, write_checkpoint
from clip2scene.portable.operators import begin
from clip2scene.task import Task

TEMPLATES: tuple[str, ...] = (
    *(template("{}") for template in OPENAI_IMAGENET_TEMPLATES),
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""Prompt templates: CLIP's 80 for ImageNet, and MaskCLIP's five for scenes."""


@torch.no_grad()
def text_embeddings(teacher: Path, prompts: Sequence[str]) -> Tensor:
    """Embed class names: L2-normalise the embedding of each template, average, and L2-normalise the mean.

    Args:
        teacher: Teacher checkpoint.
        prompts: C class names.

    Returns:
        [C, D] float32, L2-normalised, in the order of `prompts`.
    """
    model, _ = load_clip(teacher)
    texts = [
        tokenize([template.format(prompt) for template in TEMPLATES], model.context_length)
        for prompt in prompts
    ]
    longest = int(torch.cat(texts).argmax(1).max()) + 1  # the token that ends a text has the largest number
    shorten_context(model, longest)
    embeddings = [model.encode_text(tokens[:, :longest], normalize=True).mean(dim=0) for tokens in texts]
    return F.normalize(torch.stack(embeddings), dim=-1)


def compute(task: Task) -> None:
    """Embed the prompts of a run of the stage ``text``: ``text.pt``.

    Raises:
        InputError: the teacher's checkpoint is damaged.
    """
    begin(task.config)
    task.record.begin(task.config, "cpu")
    prompts = prompts_of(task.config, task.run)
    write_text_embeddings(task.inputs["teacher"], prompts, task.record.folder / "text.pt")
    task.record.finish()


def write_text_embeddings(teacher: Path, prompts: Sequence[str], out: Path) -> None:
    """Embed C class names `prompts` and write them to `out`; `load_text_embeddings` reads the file."""
    write_checkpoint(out, {"prompts": list(prompts), "embeddings": text_embeddings(teacher, prompts)})


def load_text_embeddings(path: Path) -> Tensor:
    """Load the text embeddings [C, D] float32 written by `write_text_embeddings`.

    Raises:
        InputError: the file is missing, damaged, or does not hold text embeddings.
    """
    saved = read_checkpoint(path)
    if not {"prompts", "embeddings"} <= saved.keys():
        raise InputError(f"{path}: found {keys(saved)}; expected text embeddings (prompts, embeddings)")
    prompts, embeddings = saved["prompts"], saved["embeddings"]
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or embeddings.dtype != torch.float32:
        shape = f"{embeddings.dtype} {list(embeddings.shape)}" if isinstance(embeddings, Tensor) else ""
        raise InputError(
            f"{path}: embeddings: found {shape or type(embeddings).__name__}; expected float32 [C, D]"
        )
    if not embeddings.isfinite().all():
        raise InputError(f"{path}: embeddings: holds values that are not finite")
    if not isinstance(prompts, list) or len(prompts) != len(embeddings):
        found = len(prompts) if isinstance(prompts, list) else type(prompts).__name__
        raise InputError(f"{path}: prompts: found {found}; expected {len(embeddings)}, one an embedding")
    return embeddings
