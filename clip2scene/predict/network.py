"""Trained 3D networks as predictors: any finished run that can label points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.registry import get_dataset
from clip2scene.datasets.vocabulary import SAFE_COLOURS
from clip2scene.errors import InputError
from clip2scene.evaluation.annotation_free import load_method, load_text
from clip2scene.models.prompts import text_embeddings
from clip2scene.models.weights import read_checkpoint
from clip2scene.pairing.batch import Batch
from clip2scene.portable.operators import begin
from clip2scene.run_files import finished
from clip2scene.runs import Run
from clip2scene.stages.training import Teacher
from clip2scene.study import Study
from clip2scene.training.checkpoint import expected_start, require
from clip2scene.training.finetune import load_segmenter

TUNED = ("finetune", "linear_probe", "predict")
"""Stages of a network with a classifier."""
ALIGNED = ("pretrain", "annotation_free")
"""Stages of a network whose features are compared with text."""


@dataclass(frozen=True)
class Network:
    """A trained network, and what a scan must be like for it.

    Attributes:
        title: The run in words.
        reader: Data set it was trained on, which decides the features of a point and their scale.
        labels: Data set whose classes it predicts; None if its classes are words.
        classes: Names of classes 1..C.
        colours: [C, 3] uint8, display colour of each class.
        voxel_size: Edge of a voxel, metres.
        cylindrical: Whether voxels are cylindrical.
        score: Scores [V, C] of classes 1..C for the voxels of a batch.
        device: Device that `score` computes on.
        describe: Scores [V, W] of the voxels of a batch for texts [W, D]; None if its features are not
            aligned with text.
        teacher: CLIP checkpoint whose text tower embeds words; None if there is none.
        prompts: Names of the C classes as they were embedded; none if features are not aligned with text.
        texts: Embeddings of the prompts, [C, D] float32; None if there are none.
        rivals: [W, C] bool, prompts that each of W words competes with; None unless the classes are words. If
            they are, `score` gives similarities [V, W + C], of the words and of the prompts.
    """

    title: str
    reader: Dataset
    labels: Dataset | None
    classes: tuple[str, ...]
    colours: np.ndarray
    voxel_size: float
    cylindrical: bool
    score: Callable[[Batch], Tensor]
    device: torch.device
    describe: Callable[[Batch, Tensor], Tensor] | None = None
    teacher: Path | None = None
    prompts: tuple[str, ...] = ()
    texts: Tensor | None = None
    rivals: np.ndarray | None = None

    def with_words(self, words: Sequence[str]) -> "Network":
        """Return the network with free text in place of its classes.

        Args:
            words: W texts, e.g. ``a red car``. Each is put into the templates of class names, which bring an
                article of their own.

        Raises:
            InputError: its features are not aligned with text, or a text comes twice or is empty.
        """
        if self.describe is None:
            raise InputError(
                f"--words: {self.title}: has a classifier and no text; expected a run of the stages "
                f"{' or '.join(ALIGNED)}, of a method that aligns points with text"
            )
        if not all(word.strip() for word in words) or len(set(words)) < len(words):
            raise InputError(f"--words: found {list(words)}; expected different texts")
        if self.teacher is None or not self.teacher.is_file():
            found = self.teacher or "no teacher"
            raise InputError(f"--words: {found}: no such file; expected the CLIP model that embeds text")
        names = [without_article(word) for word in words]
        texts = torch.cat([text_embeddings(self.teacher, names).to(self.device), self.texts])
        colours = np.resize(SAFE_COLOURS, (len(words), 3))
        describe = self.describe
        return replace(
            self,
            labels=None,
            classes=tuple(words),
            colours=colours,
            score=lambda batch: describe(batch, texts),
            rivals=np.array([[_spelt(name) != _spelt(prompt) for prompt in self.prompts] for name in names]),
        )


def without_article(text: str) -> str:
    """Return a text without the article that it begins with."""
    first, _, rest = text.strip().partition(" ")
    return rest.strip() if first.lower() in ("a", "an", "the") and rest.strip() else text.strip()


def _spelt(name: str) -> str:
    """Return a name as it is compared: a word is no rival of the class of its name."""
    return " ".join(name.replace("_", " ").casefold().split())


def load_network(study: Study, run: Run) -> Network:
    """Load the network of a finished run.

    Args:
        study: The study.
        run: A run of the stages `TUNED` or `ALIGNED`.

    Raises:
        InputError: the run has no network that labels points, is not finished, or its file is damaged.
    """
    if run.kind not in (*TUNED, *ALIGNED):
        raise InputError(
            f"run {run.key} ({run.kind}: {run.title}): labels no points; expected a run of the stages "
            f"{', '.join((*TUNED, *ALIGNED))}"
        )
    if run.kind == "predict":
        return replace(load_network(study, study.parents(run)["network"]), title=run.title)
    folder, config = layout.run_folder(study.config, run), study.configuration(run.variant)
    if not finished(folder):
        raise InputError(
            f"run {run.key} ({run.kind}: {run.title}): is not finished; `clip2scene run --parents {run.key}` "
            "computes it"
        )
    if run.kind in TUNED:
        return tuned_network(config, run, folder / "checkpoint.pt")
    inputs = study.inputs(run)
    if "text" not in inputs:
        raise InputError(
            f"run {run.key} ({run.kind}: {run.title}): method {run.method} does not align points with text; "
            "expected one that does, or a fine-tuned network"
        )
    checkpoint = folder / "checkpoint.pt" if run.kind == "pretrain" else inputs["network"]
    if run.kind == "annotation_free":
        require(checkpoint, expected_start(config, run))
    return aligned_network(config, run, checkpoint, inputs["text"], teacher_of(study, run))


def teacher_of(study: Study, run: Run) -> Path:
    """Return the CLIP checkpoint of a run's configuration."""
    teacher = study.keyed(Teacher.run(study.configuration(run.variant), run.variant))
    return layout.run_folder(study.config, teacher) / "checkpoint.pt"


def device_of(config: Config) -> torch.device:
    """Return the device that the configuration asks for.

    Raises:
        InputError: it asks for a GPU and there is none.
    """
    begin(config)
    gpu = config.device != "cpu" and torch.cuda.is_available()
    if config.device == "cuda" and not gpu:
        raise InputError("device: cuda, but torch finds no GPU; expected auto or cpu")
    return torch.device("cuda" if gpu else "cpu")


def tuned_network(config: Config, run: Run, checkpoint: Path) -> Network:
    """Return the network of a fine-tuning or probing run, given its checkpoint."""
    device, section = device_of(config), config.datasets[run.target]
    dataset = get_dataset(section.format)
    return Network(
        title=run.title,
        reader=dataset,
        labels=dataset,
        classes=dataset.classes,
        colours=dataset.colours,
        voxel_size=section.voxel_size,
        cylindrical=config.backbones[run.backbone].coordinates == "cylindrical",
        score=load_segmenter(config, run, checkpoint).to(device).eval().classify,
        device=device,
    )


def aligned_network(config: Config, run: Run, checkpoint: Path, text: Path, teacher: Path) -> Network:
    """Return a pre-trained network that compares its features with texts.

    Args:
        config: The configuration.
        run: A run of the stages `ALIGNED`.
        checkpoint: The pre-training's.
        text: Texts that stand for the classes, with their prompts.
        teacher: CLIP checkpoint; it need not be there before words are asked for.
    """
    section = config.datasets[run.target or run.pretrain]
    reader, labels = get_dataset(config.datasets[run.pretrain].format), get_dataset(section.format)
    method, meta = load_method(config, checkpoint, text, reader.feature_channels)
    device = device_of(config)
    method = method.to(device).eval()
    prompts = tuple(read_checkpoint(text)["prompts"])
    embeddings = load_text(text, len(prompts)).to(device)

    def describe(batch: Batch, texts: Tensor) -> Tensor:
        return method.classify(method.backbone(batch.coordinates, batch.features), texts)

    own = prompts == labels.prompts
    return Network(
        title=run.title,
        reader=reader,
        labels=labels if own else None,
        classes=labels.classes if own else prompts,
        colours=labels.colours if own else np.resize(SAFE_COLOURS, (len(prompts), 3)),
        voxel_size=section.voxel_size,
        cylindrical=meta["coordinates"] == "cylindrical",
        score=lambda batch: describe(batch, embeddings),
        device=device,
        describe=describe,
        teacher=teacher,
        prompts=prompts,
        texts=embeddings,
    )
