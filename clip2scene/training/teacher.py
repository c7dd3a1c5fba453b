"""The teacher: one checkpoint, whether its weights are trained here, open_clip's, or a local file's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from clip2scene.config import Teacher
from clip2scene.errors import InputError
from clip2scene.models.clip import model_config, nearest, save_clip
from clip2scene.models.weights import load_weights, read_checkpoint, state_dict_of
from clip2scene.pairing.images import read_image
from clip2scene.seeding import generator, seed_everything

MARGIN = 1.25
"""Crops are kept this much larger than the tower's input, as views of them are smaller than they."""
VIEW = (24, 64)
"""Smallest and largest side of a view, pixels of the image: dense features see about as much of an image that
is enlarged twice or thrice before the tower."""
SMALLEST = 24
"""Smallest side of a crop, pixels of the image."""


def prepare_teacher(
    config: Teacher, captions: Sequence[Path], out: Path, seed: int
) -> list[dict[str, float]]:
    """Write the teacher checkpoint that `config` asks for.

    Args:
        config: `config.pretrained` is ``train``, an open_clip tag, or a local file.
        captions: Tables of captioned crops, see `train_teacher`; needed for ``train`` only.
        out: Checkpoint to write.
        seed: For ``train``.

    Returns:
        Metrics of each training step; none where nothing was trained.

    Raises:
        InputError: unknown architecture or tag (the nearest is named), a file that is missing or matches too
            few tensors, or no captions to train on.
    """
    if config.pretrained == "train":
        if not captions:
            raise InputError("teacher.pretrained: train needs captions, which only synthetic data sets have")
        return train_teacher(captions, out, config, seed)
    architecture = model_config(config.architecture)
    tags = open_clip.list_pretrained_tags_by_model(config.architecture)
    if config.pretrained in tags:
        model = open_clip.create_model(config.architecture, pretrained=config.pretrained)
        preprocess = open_clip.get_model_preprocess_cfg(model)
        save_clip(out, model, config.architecture, preprocess["mean"], preprocess["std"])
    elif Path(config.pretrained).is_file():
        model = CLIP(**architecture)
        weights = state_dict_of(read_checkpoint(Path(config.pretrained)))
        load_weights(model, weights, config.pretrained)
        save_clip(out, model, config.architecture, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    else:
        raise InputError(
            f"teacher.pretrained: found {config.pretrained!r}, expected train, a file that exists, or a "
            f"tag that open_clip has for {config.architecture}{nearest(config.pretrained, ['train', *tags])}"
        )
    return []


def train_teacher(captions: Sequence[Path], out: Path, config: Teacher, seed: int) -> list[dict[str, float]]:
    """Train CLIP contrastively on captioned crops of synthetic images.

    Args:
        captions: Parquet tables, one a data set, a row a crop: ``image`` (relative to the data set's root,
            two folders up), its box ``x0, y0, x1, y1`` (pixels), ``caption``, and ``name``, the class the
            caption is about.
        out: Checkpoint to write.
        config: Architecture and `config.training`.
        seed: The same seed gives the same bytes at a fixed number of threads.

    Returns:
        ``loss`` and ``accuracy`` (share of crops whose best caption names their class) of each step.

    Raises:
        InputError: a table is missing, lacks a column or has no rows, or an image is missing.
    """
    table = pd.concat(map(read_captions, captions), ignore_index=True)
    architecture = model_config(config.architecture)
    seed_everything(seed, "teacher")
    model = CLIP(**architecture).train().to(memory_format=torch.channels_last)  # faster on CPU and GPU
    size = model.visual.image_size if isinstance(model.visual.image_size, int) else model.visual.image_size[0]
    crops = read_crops(table, round(size * MARGIN))
    side = np.maximum(table[["x1", "y1"]].to_numpy() - table[["x0", "y0"]].to_numpy(), SMALLEST).max(axis=1)
    caption, texts = pd.factorize(table["caption"], sort=True)
    name = pd.factorize(table["name"], sort=True)[0]
    tokens = open_clip.tokenize(list(texts), model.context_length)

    steps, rate = config.training.steps, config.training.learning_rate
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, steps, pct_start=0.1, cycle_momentum=False
    )
    random = generator(seed, "teacher", "batches")
    chance = balance(name)
    history = []
    for _ in (progress := tqdm(range(steps), "teacher", unit="step", mininterval=1.0)):
        rows = random.choice(len(table), config.training.batch_size, p=chance)
        images = views(crops[rows], side[rows], size, random)
        loss, accuracy = contrastive_step(model, images, tokens[caption[rows]], torch.from_numpy(name[rows]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(100))  # as CLIP does
        history.append({"loss": loss.item(), "accuracy": accuracy.item()})
        progress.set_postfix(history[-1], refresh=False)
    save_clip(out, model, config.architecture, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    return history


def read_captions(path: Path) -> pd.DataFrame:
    """Table of captioned crops, see `train_teacher`; its images with their root before them."""
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a table of captioned crops")
    table = pd.read_parquet(path)
    missing = {"image", "x0", "y0", "x1", "y1", "caption", "name"} - set(table.columns)
    if missing or table.empty:
        raise InputError(
            f"{path}: expected rows with captions, found "
            + (f"no column {min(missing)}" if missing else "none")
        )
    return table.assign(image=f"{path.parent.parent}/" + table["image"])


def read_crops(table: pd.DataFrame, size: int) -> Tensor:
    """Crops [R, 3, size, size] uint8: the square about each box, resized; images are read once."""
    crops = np.empty((len(table), size, size, 3), np.uint8)
    for name, rows in table.groupby("image"):
        image = Image.fromarray(read_image(Path(name)))
        for box in rows.itertuples():
            crops[table.index.get_loc(box.Index)] = crop_square(image, (box.x0, box.y0, box.x1, box.y1), size)
    return torch.from_numpy(crops).movedim(-1, 1).contiguous()


def crop_square(image: Image.Image, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """The square about a box (x0, y0, x1, y1), shifted into the image, resized to [size, size, 3]."""
    width, height = image.size
    x0, y0, x1, y1 = box
    side = min(max(x1 - x0, y1 - y0, SMALLEST), width, height)
    left = min(max((x0 + x1 - side) / 2, 0), width - side)
    top = min(max((y0 + y1 - side) / 2, 0), height - side)
    area = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=area))


def balance(name: np.ndarray) -> np.ndarray:
    """Chance [R] of each row to be drawn, from its class [R]: classes by the square root of their numbers.

    Between crops as they come, few of which show a cone, and all classes alike, which makes cones likely.
    """
    count = np.bincount(name)[name]
    return count**-0.5 / np.sum(count**-0.5)


def views(crops: Tensor, side: np.ndarray, size: int, random: np.random.Generator) -> Tensor:
    """Random parts of crops, flipped and lightened at random; normalised as CLIP's.

    Args:
        crops: [B, 3, S, S] uint8.
        side: [B] what the crops measured in their images, pixels.
        size: Height and width of the result.
        random: Stream to draw from.

    Returns:
        [B, 3, size, size] float32.
    """
    count = len(crops)
    share = np.minimum(1, np.exp(random.uniform(*np.log(VIEW), count)) / side)
    affine = np.zeros((count, 2, 3), np.float32)
    affine[:, 0, 0] = share * random.choice([-1, 1], count)
    affine[:, 1, 1] = share
    affine[:, :, 2] = (
        random.uniform(-0.7, 0.7, (count, 2)) * (1 - share)[:, None]
    )  # the class is in the middle
    grid = F.affine_grid(torch.from_numpy(affine), [count, 3, size, size], align_corners=False)
    images = F.grid_sample(crops.float() / 255, grid, align_corners=False, padding_mode="reflection")
    gain = torch.from_numpy(random.uniform(0.8, 1.2, (count, 1, 1, 1)).astype(np.float32))
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    )
    return ((images * gain).clamp(max=1) - mean) / std


def contrastive_step(model: CLIP, images: Tensor, tokens: Tensor, name: Tensor) -> tuple[Tensor, Tensor]:
    """Contrastive loss in which all captions of a crop's class are its positives, and the accuracy.

    CLIP's loss takes every other pair of the batch for a negative, which is wrong where crops share a class.
    This is the bidirectional loss of UniCL (Yang et al., "Unified Contrastive Learning in Image-Text-Label
    Space", CVPR 2022), which is CLIP's if no two pairs share one.

    Args:
        model: CLIP.
        images: [B, 3, H, W], normalised.
        tokens: [B, T] captions of the images.
        name: [B] class of each pair.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    image = model.encode_image(images, normalize=True)
    texts, pair = tokens.unique(dim=0, return_inverse=True)  # captions repeat
    text = model.encode_text(texts, normalize=True)[pair]
    logits = model.logit_scale.exp() * image @ text.T
    positive = (name[:, None] == name).float()
    target = positive / positive.sum(dim=1, keepdim=True)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, (name[logits.argmax(dim=1)] == name).float().mean()
