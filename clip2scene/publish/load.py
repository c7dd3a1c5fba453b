"""Published networks, read back from the folder that `clip2scene publish` wrote."""

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

from clip2scene.config import load_config
from clip2scene.errors import InputError
from clip2scene.files import read_object, read_text, sha256
from clip2scene.models.weights import read_checkpoint, write_checkpoint
from clip2scene.predict.network import Network, aligned_network, teacher_of, tuned_network
from clip2scene.publish.model import VERSION, nested
from clip2scene.runs import Run
from clip2scene.study import Study


def import_published(folder: Path, out: Path) -> dict[str, Any]:
    """Write the checkpoint of a published network, which every later stage reads.

    Args:
        folder: Folder that `clip2scene publish` wrote.
        out: The checkpoint; the configuration's key `checkpoints` gives it a name.

    Returns:
        The network's description, ``config.json``.

    Raises:
        InputError: the folder is no published network, or a file of it is not the one that was written.
    """
    description = read_published(folder)
    tensors = read_checkpoint(folder / "model.safetensors")
    if missing := [name for name in description["tensors"] if name not in tensors]:
        raise InputError(
            f"{folder / 'model.safetensors'}: lacks {missing[0]}; expected {len(description['tensors'])}"
        )
    write_checkpoint(out, nested(tensors, description["tensors"], description["values"]))
    return description


def read_published(folder: Path) -> dict[str, Any]:
    """Read the description of a published network, and check the hash of every file.

    Raises:
        InputError: the folder is no published network, is of a later layout, or a file of it was changed.
    """
    path = folder / "config.json"
    description = read_object(path)
    if description.get("format") != "clip2scene":
        found = repr(description.get("format"))
        raise InputError(f"{path}: format is {found}; expected 'clip2scene', as `clip2scene publish` writes")
    if description.get("version") != VERSION:
        raise InputError(f"{path}: version is {description.get('version')!r}; expected {VERSION}")
    for name, kind in (("run", dict), ("values", dict), ("tensors", list), ("kind", str)):
        if not isinstance(description.get(name), kind):
            raise InputError(f"{path}: {name}: found {description.get(name)!r:.40}; expected {kind.__name__}")
    for line in read_text(folder / "SHA256SUMS", "the hash of each file").splitlines():
        wanted, _, name = line.partition("  ")
        if not (folder / name).is_file() or sha256(folder / name) != wanted:
            raise InputError(
                f"{folder / name}: its SHA-256 is not the one in SHA256SUMS; the file was changed"
            )
    return description


def load_published(folder: Path, study: Study | None) -> Network:
    """Load the network of a published folder.

    Args:
        folder: Folder that `clip2scene publish` wrote.
        study: A study whose CLIP teacher embeds words, if it is the one that the network learned from.

    Raises:
        InputError: see `import_published`.
    """
    with tempfile.TemporaryDirectory() as place:
        checkpoint, text = Path(place, "checkpoint.pt"), Path(place, "text.pt")
        description = import_published(folder, checkpoint)
        config, run = load_config(folder / "configuration.yaml"), _run(folder, description)
        if run.kind != "pretrain":
            return tuned_network(config, run, checkpoint)
        if "prompts" not in description:
            raise InputError(
                f"{folder}: {run.title}: does not align points with text; expected a fine-tuned network"
            )
        embeddings = read_checkpoint(folder / "model.safetensors")["text"]
        write_checkpoint(text, {"prompts": description["prompts"], "embeddings": embeddings})
        teacher = _teacher(study, run, description.get("teacher_sha256"))
        return aligned_network(config, run, checkpoint, text, teacher)


def _run(folder: Path, description: dict[str, Any]) -> Run:
    names = {field.name for field in fields(Run)}
    if unknown := sorted(description["run"].keys() - names):
        raise InputError(
            f"{folder / 'config.json'}: run: unknown {unknown[0]}; expected {', '.join(sorted(names))}"
        )
    return Run(**description["run"])


def _teacher(study: Study | None, run: Run, wanted: str | None) -> Path | None:
    """Return the study's CLIP checkpoint, if the network learned from this very one."""
    if study is None or wanted is None:
        return None
    path = teacher_of(study, Run(run.kind))
    return path if path.is_file() and sha256(path) == wanted else None
