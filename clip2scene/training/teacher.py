"""Preparation of the teacher checkpoint: trained here, downloaded by open_clip, or read from a local file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pyarrow as pa
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from clip2scene.config import Teacher
from clip2scene.errors import InputError
from clip2scene.files import reading
from clip2scene.models.clip import model_config, nearest, save_clip
from clip2scene.models.weights import downloading, load_weights, read_checkpoint, state_dict_of
from clip2scene.pairing.images import read_image
from clip2scene.seeding import generator, seed_everything
from clip2scene.task import Task
from clip2scene.training.meter import refuse_infinite
from clip2scene.training.steps import run_on_cpu

_NOT_WEIGHTS = frozenset({"input_resolution", "context_length", "vocab_size"})
"""Numbers that OpenAI's files hold beside the weights."""
MARGIN = 1.25
"""Size of the stored crops relative to the image tower's input, so that random views can be cut from them."""
VIEW = (24, 64)
"""Smallest and largest side of a view, pixels of the original image. Dense features see about as much of an
image that is enlarged two or three times before the tower."""
SMALLEST = 24
"""Smallest side of a crop, pixels of the original image."""


def compute(task: Task) -> None:
    """Prepare the CLIP checkpoint of a run of the stage ``teacher``.

    Raises:
        InputError: see `prepare_teacher`.
    """
    captions = [path for role, path in task.inputs.items() if role.startswith("captions.")]
    run_on_cpu(
        task, lambda: prepare_teacher(task.config.teacher, captions, task.record.checkpoint, task.run.seed)
    )


def prepare_teacher(
    config: Teacher, captions: Sequence[Path], out: Path, seed: int
) -> list[dict[str, float]]:
    """Write the teacher checkpoint that `config` asks for.

    Args:
        config: `config.pretrained` is ``train``, an open_clip tag, or a local file.
        captions: Tables of captioned crops, see `train_teacher`; needed for ``train`` only.
        out: Checkpoint to write.
        seed: Seed of the training; used for ``train`` only.

    Returns:
        Metrics of each training step; empty if nothing was trained.

    Raises:
        InputError: the architecture or tag is unknown (the message suggests the nearest), the file is missing
            or matches too few tensors, or there are no captions to train on.
    """
    if config.pretrained == "train":
        if not captions:
            raise InputError("teacher.pretrained: train needs captions, which only synthetic data sets have")
        return train_teacher(captions, out, config, seed)
    architecture = model_config(config.architecture)
    tags = open_clip.list_pretrained_tags_by_model(config.architecture)
    if config.pretrained in tags:
        with downloading("teacher.pretrained", config.pretrained, "open_clip"):
            model = open_clip.create_model(config.architecture, pretrained=config.pretrained)
        preprocess = open_clip.get_model_preprocess_cfg(model)
        save_clip(out, model, config.architecture, preprocess["mean"], preprocess["std"])
    elif Path(config.pretrained).is_file():
        model = CLIP(**architecture)
        weights = state_dict_of(read_checkpoint(Path(config.pretrained)))
        load_weights(
            model, {name: weights[name] for name in weights if name not in _NOT_WEIGHTS}, config.pretrained
        )
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
        captions: Parquet tables, one per data set, with one row per crop: ``image`` (path relative to the
            data set's root, which is two folders up), box ``x0, y0, x1, y1`` (pixels), ``caption``, and
            ``name``, the class that the caption describes.
        out: Checkpoint to write.
        config: Architecture and `config.training`.
        seed: Seed; the same seed gives the same bytes; with native arithmetic, at a fixed number of threads.

    Returns:
        ``loss`` and ``accuracy`` of each step. Accuracy is the share of crops whose best-scoring caption
        names their class.

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
            model.logit_scale.clamp_(max=np.log(100))  # CLIP's upper bound
        history.append({"loss": loss.item(), "accuracy": accuracy.item()})
        refuse_infinite(history, "teacher")
        progress.set_postfix(history[-1], refresh=False)
    save_clip(out, model, config.architecture, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    return history


def read_captions(path: Path) -> pd.DataFrame:
    """Read a table of captioned crops, see `train_teacher`, and prepend the root to its image paths.

    Raises:
        InputError: the table is missing or damaged, lacks a column or has no rows, or holds an empty text
            or a box without an area.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a table of captioned crops")
    with reading(path, "a table of captioned crops", pa.ArrowException, OSError, ValueError):
        table = pd.read_parquet(path)
    sides, texts = ["x0", "y0", "x1", "y1"], ["image", "caption", "name"]
    missing = {*sides, *texts} - set(table.columns)
    if missing or table.empty:
        raise InputError(
            f"{path}: expected rows with captions, found "
            + (f"no column {min(missing)}" if missing else "none")
        )
    for name in texts:
        wrong = ~table[name].map(lambda value: isinstance(value, str) and value != "")
        if wrong.any():
            found = table[name][wrong].iloc[0]
            raise InputError(f"{path}: row {wrong.to_numpy().argmax()}: {name} is {found!r}; expected text")
    numbers = table[sides].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    bad = ~(
        np.isfinite(numbers).all(1) & (numbers[:, :2] >= 0).all(1) & (numbers[:, :2] < numbers[:, 2:]).all(1)
    )
    if bad.any():
        found = table[sides].iloc[int(bad.argmax())].tolist()
        raise InputError(f"{path}: row {bad.argmax()}: box {found}; expected pixels x0 < x1 and y0 < y1")
    return table.assign(image=f"{path.parent.parent}/" + table["image"])


def read_crops(table: pd.DataFrame, size: int) -> Tensor:
    """Read the square around each of R boxes, resized to [R, 3, size, size] uint8; reads each image once."""
    crops = np.empty((len(table), size, size, 3), np.uint8)
    for name, rows in table.groupby("image"):
        image = Image.fromarray(read_image(Path(name)))
        for box in rows.itertuples():
            crops[table.index.get_loc(box.Index)] = crop_square(image, (box.x0, box.y0, box.x1, box.y1), size)
    return torch.from_numpy(crops).movedim(-1, 1).contiguous()


def crop_square(image: Image.Image, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Crop the square around a box (x0, y0, x1, y1; pixels), kept inside the image: [size, size, 3] uint8."""
    width, height = image.size
    x0, y0, x1, y1 = box
    side = min(max(x1 - x0, y1 - y0, SMALLEST), width, height)
    left = min(max((x0 + x1 - side) / 2, 0), width - side)
    top = min(max((y0 + y1 - side) / 2, 0), height - side)
    area = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=area))


def balance(name: np.ndarray) -> np.ndarray:
    """Return sampling probabilities [R] float64 of rows from their classes [R] int64.

    Each class is drawn in proportion to the square root of its count. This is a compromise between sampling
    crops uniformly (few of them show a cone) and sampling classes uniformly (cones become too likely).
    """
    count = np.bincount(name)[name]
    return count**-0.5 / np.sum(count**-0.5)


def views(crops: Tensor, side: np.ndarray, size: int, random: np.random.Generator) -> Tensor:
    """Cut random views from crops, with random flips and brightness, normalised as CLIP's input.

    Args:
        crops: [B, 3, S, S] uint8.
        side: [B] int64, side of each crop in its original image, pixels.
        size: Height and width of the result, pixels.
        random: Random number generator.

    Returns:
        [B, 3, size, size] float32.
    """
    count = len(crops)
    share = np.minimum(1, np.exp(random.uniform(*np.log(VIEW), count)) / side)
    affine = np.zeros((count, 2, 3), np.float32)
    affine[:, 0, 0] = share * random.choice([-1, 1], count)
    affine[:, 1, 1] = share
    # Shift by at most 0.7 of the free range, since the object is in the middle of the crop.
    affine[:, :, 2] = random.uniform(-0.7, 0.7, (count, 2)) * (1 - share)[:, None]
    grid = F.affine_grid(torch.from_numpy(affine), [count, 3, size, size], align_corners=False)
    images = F.grid_sample(crops.float() / 255, grid, align_corners=False, padding_mode="reflection")
    gain = torch.from_numpy(random.uniform(0.8, 1.2, (count, 1, 1, 1)).astype(np.float32))
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    )
    return ((images * gain).clamp(max=1) - mean) / std


def contrastive_step(model: CLIP, images: Tensor, tokens: Tensor, name: Tensor) -> tuple[Tensor, Tensor]:
    """Compute a contrastive loss in which all captions of a crop's class are positives, and the accuracy.

    CLIP's loss treats every other pair of the batch as a negative, which is wrong for crops of one class.
    This is the bidirectional loss of UniCL (Yang et al., "Unified Contrastive Learning in Image-Text-Label
    Space", CVPR 2022). It equals CLIP's if no two pairs share a class.

    Args:
        model: CLIP model.
        images: [B, 3, H, W] float32, normalised.
        tokens: [B, T] int64, tokenised captions of the images.
        name: [B] int64, class of each pair.

    Returns:
        Loss and accuracy, scalars.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    image = model.encode_image(images, normalize=True)
    texts, pair = tokens.unique(dim=0, return_inverse=True)  # captions repeat: encode each once
    text = model.encode_text(texts, normalize=True)[pair]
    logits = model.logit_scale.exp() * image @ text.T
    positive = (name[:, None] == name).float()
    target = positive / positive.sum(dim=1, keepdim=True)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, (name[logits.argmax(dim=1)] == name).float().mean()
