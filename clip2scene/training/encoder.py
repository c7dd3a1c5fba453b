"""Preparation of the self-supervised image encoder: trained here, from timm, or from a local file."""

from itertools import repeat
from pathlib import Path

import numpy as np
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from clip2scene.config import ImageEncoder
from clip2scene.datasets.index import read_index
from clip2scene.errors import InputError
from clip2scene.models.clip import nearest
from clip2scene.models.image_encoder import build_encoder, dilate
from clip2scene.models.weights import (
    downloading,
    load_weights,
    read_checkpoint,
    state_dict_of,
    write_checkpoint,
)
from clip2scene.pairing.images import read_image
from clip2scene.seeding import generator, seed_everything
from clip2scene.task import Task
from clip2scene.training.meter import refuse_infinite
from clip2scene.training.steps import run_on_cpu

VIEW = (96, 176)  # height and width of a view, pixels
SPOTS = 32  # matched locations per image
PREFIXES = ("encoder_q.", "encoder.", "backbone.")
"""Prefixes of the trained encoder in checkpoints of MoCo, PixPro and others, after DDP's ``module.``."""


def compute(task: Task) -> None:
    """Prepare the checkpoint of a run of the stage ``encoder``.

    Raises:
        InputError: see `prepare_encoder`.
    """
    images = []
    for name in task.run.pretrain.split():
        data = task.config.datasets[name]
        index = read_index(task.inputs[f"index.{name}"], data.root).split(data.pretrain_split)
        images += [index.root / image for row in index.frames["camera_images"] for image in row]
    config, record = task.config.image_encoder, task.record
    run_on_cpu(task, lambda: prepare_encoder(config, images, record.checkpoint, task.run.seed))


def prepare_encoder(config: ImageEncoder, images: list[Path], out: Path, seed: int) -> list[dict[str, float]]:
    """Write the encoder checkpoint that `config` asks for.

    Args:
        config: `config.pretrained` is ``train``, a timm tag, or a local file.
        images: Image files to train on; needed for ``train`` only.
        out: Checkpoint to write.
        seed: Seed of the training; used for ``train`` only.

    Returns:
        Metrics of each training step; empty if nothing was trained.

    Raises:
        InputError: the architecture or tag is unknown (the message suggests the nearest), the file is missing
            or matches too few tensors, or there are no images to train on.
    """
    if config.pretrained == "train":
        return train_encoder(images, out, config, seed)
    encoder = build_encoder(config.architecture)
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{config.architecture}.*")]
    if config.pretrained in tags:
        name = f"{config.architecture}.{config.pretrained}"
        with downloading("image_encoder.pretrained", config.pretrained, "timm"):
            encoder = timm.create_model(name, pretrained=True, num_classes=0)
    elif Path(config.pretrained).is_file():
        weights = encoder_weights(state_dict_of(read_checkpoint(Path(config.pretrained))))
        load_weights(encoder, weights, config.pretrained)
    else:
        raise InputError(
            f"image_encoder.pretrained: found {config.pretrained!r}, expected train, a file that exists, or "
            f"a tag that timm has for {config.architecture}{nearest(config.pretrained, ['train', *tags])}"
        )
    write_checkpoint(out, {"architecture": config.architecture, "state_dict": encoder.state_dict()})
    return []


def encoder_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors of a checkpoint, without the head ``fc``.

    They are those under the first prefix of `PREFIXES` that the checkpoint has, or else all.
    """
    prefix = next((prefix for prefix in PREFIXES if any(map(str.startswith, weights, repeat(prefix)))), "")
    named = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
    return {name: value for name, value in named.items() if not name.startswith("fc.")}


def train_encoder(images: list[Path], out: Path, config: ImageEncoder, seed: int) -> list[dict[str, float]]:
    """Train an encoder without labels: VICReg between the features of two views at the same image location.

    This is the location-based half of VICRegL (Bardes et al., "VICRegL: Self-Supervised Learning of Local
    Visual Features", NeurIPS 2022). Features are trained per location because distillation reads them per
    pixel. VICReg needs no negatives; in street scenes, most of these would be false negatives.

    Args:
        images: Image files of any size.
        out: Checkpoint to write.
        config: Architecture and `config.training`.
        seed: Seed; the same seed gives the same bytes; with native arithmetic, at a fixed number of threads.

    Returns:
        ``loss``, ``invariance``, ``variance`` and ``covariance`` of each step.

    Raises:
        InputError: there are no images, or an image is missing.
    """
    if not images:
        raise InputError("image_encoder.pretrained: train needs images, found none")
    steps, rate = config.training.steps, config.training.learning_rate
    seed_everything(seed, "encoder")
    encoder = build_encoder(config.architecture).train()
    dilate(encoder, 8)  # at stride 32, these small views would have few feature cells
    projector = nn.Sequential(
        nn.Linear(encoder.num_features, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 256)
    )
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, steps, pct_start=0.1, cycle_momentum=False
    )
    random = generator(seed, "encoder", "views")
    history = []
    for _ in (progress := tqdm(range(steps), "image encoder", unit="step", mininterval=1.0)):
        chosen = random.choice(len(images), config.training.batch_size)
        shown = (torch.from_numpy(read_image(images[number]).copy()).movedim(-1, 0) for number in chosen)
        views, spots = zip(*(two_views(image, random) for image in shown), strict=True)
        spots = torch.stack(spots, dim=1)  # [2, B, S, 2]
        maps = encoder(torch.stack(views, dim=1).flatten(0, 1))
        features = F.grid_sample(maps, spots.flatten(0, 1)[:, None], align_corners=False)  # [2 B, C, 1, S]
        projected = projector(features[:, :, 0].transpose(1, 2).flatten(0, 1))
        terms = vicreg(*projected.chunk(2))
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        optimiser.step()
        schedule.step()
        history.append({name: term.item() for name, term in terms.items()})
        refuse_infinite(history, "image_encoder")
        progress.set_postfix(loss=history[-1]["loss"], refresh=False)
    write_checkpoint(out, {"architecture": config.architecture, "state_dict": encoder.state_dict()})
    return history


def two_views(image: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut two random views from an image, with random flips and colours, and draw locations visible in both.

    Args:
        image: [3, H, W] uint8.
        random: Random number generator.

    Returns:
        Views [2, 3, h, w] float32, with ImageNet normalisation, and locations [2, S, 2] float32: x and y in
        each view, in the -1..1 coordinates of `torch.nn.functional.grid_sample`.
    """
    # [view, 1, axis], share of the image's side: from 0.5 on, both views contain the image's centre.
    scale = random.uniform(0.5, 1.0, (2, 1, 2))
    centre = random.uniform(scale - 1, 1 - scale)
    flip = np.stack([random.choice([-1, 1], (2, 1)), np.ones((2, 1))], axis=2)
    # In image coordinates, inside the intersection of the views.
    spots = random.uniform((centre - scale).max(axis=0), (centre + scale).min(axis=0), (SPOTS, 2))
    affine = np.concatenate(
        [scale[:, 0, :, None] * np.eye(2) * flip.swapaxes(1, 2), centre.swapaxes(1, 2)], axis=2
    )
    grid = F.affine_grid(torch.from_numpy(affine.astype(np.float32)), [2, 3, *VIEW], align_corners=False)
    views = F.grid_sample((image.float() / 255).expand(2, -1, -1, -1), grid, align_corners=False)
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    views = (recolour(views, random) - mean) / std
    return views, torch.from_numpy(((spots - centre) / (scale * flip)).astype(np.float32))


def recolour(views: Tensor, random: np.random.Generator) -> Tensor:
    """Jitter brightness, contrast and saturation of each view; views: [V, 3, h, w] float32, 0..1."""
    brightness, contrast, saturation = torch.from_numpy(
        random.uniform(0.6, 1.4, (3, len(views), 1, 1, 1)).astype(np.float32)
    )
    grey = views.mean(dim=1, keepdim=True)
    views = torch.lerp(grey, views, saturation) * brightness
    return torch.lerp(views.mean(dim=(1, 2, 3), keepdim=True), views, contrast).clamp(0, 1)


def vicreg(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Compute the VICReg loss (Bardes et al., ICLR 2022, equations 1 to 6) with its weights of 25, 25 and 1.

    Args:
        first: [N, D] float32, embeddings.
        second: [N, D] float32, embeddings of the same locations in another view.

    Returns:
        Scalars: ``loss`` and its unweighted terms ``invariance``, ``variance`` and ``covariance``.
    """
    invariance = F.mse_loss(first, second)
    variance, covariance = torch.zeros(()), torch.zeros(())
    for view in (first - first.mean(dim=0), second - second.mean(dim=0)):
        deviation = torch.sqrt(view.var(dim=0) + 1e-4)
        variance = variance + F.relu(1 - deviation).mean()
        matrix = view.T @ view / (len(view) - 1)
        covariance = covariance + (matrix.square().sum() - matrix.diagonal().square().sum()) / view.shape[1]
    loss = 25 * invariance + 25 * variance + covariance
    return {"loss": loss, "invariance": invariance, "variance": variance, "covariance": covariance}
