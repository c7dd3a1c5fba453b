"""Checks before a network is trained: what its results would fail on hours later, and is known now."""

import re
import socket
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from clip2scene import layout
from clip2scene.config import DatasetConfig
from clip2scene.datasets.index import Index, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.runs import Product, Run
from clip2scene.study import Study

SERVER_SECONDS = 3.0
"""Time that a tracking server has to answer, seconds."""
_PORTS = {"http": 80, "https": 443}
_METRIC = re.compile(r"[\w.\- :/]+")
"""Names that MLflow takes for a metric, which the IoU of each class is."""


def check_before_training(study: Study, run: Run) -> None:
    """Check everything that the runs after a training will need: split, labels, classes, tracking server.

    Args:
        study: The study.
        run: The run that trains.

    Raises:
        InputError: a prediction that rests on this run could not be made or scored. A tracking server that
            does not answer is a warning only, as runs can be sent later.
    """
    for later in study.runs.values():
        if run.key not in {parent.key for parent in study.with_parents([later])} or not later.target:
            continue
        data = study.configuration(later.variant).datasets[later.target]
        _check_classes(later.target, data.format)
        for source in study.reads(later).values():
            scored = isinstance(source, Product) and f"{data.val_split}/labels" in source.decisive
            if scored and study.finished(parent := study.keyed(source.run), look=False):
                path = layout.run_folder(study.config, parent) / str(source.file)
                _check_labels(_index(path, data.root), data, later)
    _check_server(study.config.tracking.uri)


@cache
def _index(path: Path, root: Path) -> Index:
    return read_index(path, root)


@cache
def _check_classes(name: str, format_: str) -> None:
    """Raise an InputError if a data set's classes have no prompts, or names that MLflow refuses."""
    dataset = get_dataset(format_)
    if len(dataset.prompts) != len(dataset.classes):
        found = f"{len(dataset.prompts)} prompts for {len(dataset.classes)} classes"
        raise InputError(f"datasets.{name}: format {format_}: {found}; expected one for each")
    for each in dataset.classes:
        if not _METRIC.fullmatch(each):
            raise InputError(
                f"datasets.{name}: format {format_}: class {each!r}; expected a name of letters, digits, "
                "spaces and _ - . : /, as MLflow takes for a metric"
            )


def _check_labels(index: Index, data: DatasetConfig, reader: Run) -> None:
    """Raise an InputError if the split for evaluation is missing or has no labels."""
    frames = index.split(data.val_split).frames
    if bare := int(frames["labels"].isna().sum()):
        raise InputError(
            f"split {data.val_split!r} of {data.root}: {bare} of {len(frames)} keyframes have no labels; "
            f"expected labels for all, which {reader.kind} ({reader.title}) is to be scored with"
        )


@cache
def _check_server(uri: str) -> None:
    """Print a warning if a tracking server does not answer."""
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS:
        return
    try:
        place = (parts.hostname or "", parts.port or _PORTS[parts.scheme])
        socket.create_connection(place, timeout=SERVER_SECONDS).close()
    except (OSError, ValueError) as error:
        print(
            f"warning: tracking.uri: {uri} does not answer ({error}); runs are computed all the same, and "
            "`clip2scene sync` sends them later",
            file=sys.stderr,
            flush=True,
        )
