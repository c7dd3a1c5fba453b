"""A network for others: weights as safetensors, its description, and a model card.

A published folder holds ``model.safetensors``, ``config.json`` (what it is, its classes, the run),
``configuration.yaml`` (all settings), ``run.json``, ``subset.json`` or ``keyframes.json`` (what it learned
from), ``README.md`` (the model card) and ``SHA256SUMS``.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.index import read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.files import new_directory, sha256, write_json
from clip2scene.models.weights import read_checkpoint
from clip2scene.predict.network import TUNED, teacher_of
from clip2scene.publish.card import model_card
from clip2scene.publish.scores import Score, scores_of_network
from clip2scene.run_files import finished, read_description, refuse_changed
from clip2scene.runs import Run
from clip2scene.study import Study

VERSION = 1
"""Version of the layout of a published folder."""


def network_run(study: Study, run: Run) -> Run:
    """Return the run that trained the network which a run is or evaluates.

    Raises:
        InputError: it has no network of its own, as the teacher's.
    """
    if run.kind in ("pretrain", "finetune", "linear_probe"):
        return run
    if run.kind in ("predict", "annotation_free") and (trained := study.parents(run).get("network")):
        return trained
    raise InputError(
        f"run {run.key} ({run.kind}: {run.title}): trained no 3D network; expected a run of the stages "
        f"pretrain, {', '.join(TUNED)} or annotation_free"
    )


def publish_model(study: Study, run: Run, out: Path) -> list[Score]:
    """Write a network into a new folder; see the module.

    Args:
        study: The study.
        run: A finished run that trained a network, or one that evaluates it.
        out: The folder; it must not exist, or be empty.

    Returns:
        Its scores in the study.

    Raises:
        InputError: the run is not finished or has no network, or the folder holds something.
    """
    run = network_run(study, run)
    config, folder = study.configuration(run.variant), layout.run_folder(study.config, run)
    if not finished(folder):
        raise InputError(
            f"run {run.key} ({run.kind}: {run.title}): is not finished; `clip2scene run {run.key}`"
        )
    checkpoint = folder / "checkpoint.pt"
    content = read_checkpoint(checkpoint)
    refuse_changed(checkpoint)
    inputs = study.inputs(run)
    tensors, values = _flat(content)
    description: dict[str, Any] = {
        "format": "clip2scene",
        "version": VERSION,
        "kind": run.kind,
        "title": run.title,
        "key": run.key,
        "run": {name: value for name, value in asdict(run).items() if name not in ("key", "variant")},
        "values": values,
        "tensors": list(tensors),
        "settings": study.settings(run),
    } | _classes(config, run)
    if run.kind == "pretrain" and "text" in inputs:
        text, teacher = read_checkpoint(inputs["text"]), teacher_of(study, run)
        tensors["text"] = text["embeddings"]
        description |= {"prompts": text["prompts"]}
        description |= {"teacher_sha256": sha256(teacher)} if teacher.is_file() else {}
    scores = scores_of_network(study, run)
    with new_directory(out) as made:
        save_file({name: value.contiguous() for name, value in tensors.items()}, made / "model.safetensors")
        write_json(made / "config.json", description)
        values = config.model_dump(mode="json") | {"variants": {}}
        (made / "configuration.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        (made / "run.json").write_bytes((folder / "run.json").read_bytes())
        learned = _learned(study, run, made)
        card = model_card(study, run, description, read_description(folder), scores, learned)
        (made / "README.md").write_text(card)
        write_sums(made)
    return scores


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS``, which ``sha256sum -c`` checks: the hash of every other file of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def _flat(content: dict[str, Any], prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint by dotted path (``/`` between levels), and its other values."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            tensors[prefix + name] = value
        elif isinstance(value, dict) and (not value or any(isinstance(v, Tensor) for v in value.values())):
            below, _ = _flat(value, f"{prefix}{name}/")
            tensors |= below
        else:
            values[name] = value
    return tensors, values


def nested(tensors: dict[str, Tensor], names: list[str], values: dict[str, Any]) -> dict[str, Any]:
    """Return the checkpoint that `_flat` made tensors and values of, tensors in the order of `names`."""
    content: dict[str, Any] = {}
    for path in names:
        *groups, name = path.split("/")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = tensors[path]
    return content | values


def _classes(config: Config, run: Run) -> dict[str, Any]:
    """Return the data set that decides features, and the classes as the hub writes them."""
    dataset = get_dataset(config.datasets[run.target or run.pretrain].format)
    labels = {str(number): name for number, name in enumerate(dataset.classes, start=1)}
    return {"dataset": dataset.name, "id2label": {"0": "ignored", **labels}}


def _learned(study: Study, run: Run, out: Path) -> str:
    """Write the ids of the keyframes that a network learned from; return the file's name."""
    inputs = study.inputs(run)
    if "subset" in inputs:
        (out / "subset.json").write_bytes(inputs["subset"].read_bytes())
        return "subset.json"
    section = study.configuration(run.variant).datasets[run.pretrain]
    index = read_index(inputs["index"], section.root).split(section.pretrain_split)
    write_json(
        out / "keyframes.json", {"dataset": run.pretrain, "split": section.pretrain_split, "ids": index.ids}
    )
    return "keyframes.json"
