"""`clip2scene explain`: where a run comes from and how to make it again, and how two runs differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.reporting.attribution import attribution
from clip2scene.run_files import read_description, state
from clip2scene.runs import Run, flat
from clip2scene.study import Study

ORDER = ("data", "split", "rule", "backbone", "method", "settings", "code", "seed", "machine")
"""Kinds of differences, in the order in which they are likely to matter."""


@dataclass(frozen=True)
class Difference:
    """Something in which two runs, or runs that they read from, differ.

    Attributes:
        kind: One of `ORDER`.
        name: What differs.
        first, second: Its value in each run; None where there is none.
        stages: Stages whose runs have it.
    """

    kind: str
    name: str
    first: Any
    second: Any
    stages: tuple[str, ...]

    def __str__(self) -> str:
        values = " → ".join(_short(value) for value in (self.first, self.second))
        return f"{self.kind}: {self.name}: {values} ({', '.join(self.stages)})"


def chain(study: Study, run: Run) -> dict[str, Run]:
    """Return a run and all that it reads from, by the path of roles that leads there (network/index)."""
    found = {"": run}
    for role, parent in study.parents(run).items():
        found |= {f"{role}/{path}".strip("/"): each for path, each in chain(study, parent).items()}
    return found


def provenance(study: Study, run: Run, config: str) -> Iterator[str]:
    """Yield a run's record in lines: files, settings, seed, commit, data, commands that make it again.

    Args:
        study: The study.
        run: The run, with its key.
        config: Path of the configuration, for the commands.
    """
    yield f"run {run.key}  {run.kind}: {run.title}"
    cells = [e for e in study.experiments if run in study.cell(e)]
    tables = sorted({table for e in cells for table in e.tables})
    if cells:
        rows = f"{len(cells)} row{'s' * (len(cells) > 1)} of {study.config.experiments}"
        yield f"fills {rows}, tables {', '.join(tables)}"
    yield from _state(study, run)
    yield ""
    yield "settings"
    for name, value in flat(study.settings(run)).items():
        yield f"  {name} = {value}"
    yield ""
    yield "reads, each after what it reads itself"
    paths: dict[str, str] = {}
    for path, parent in chain(study, run).items():
        paths.setdefault(parent.key, path)
    for parent in study.with_parents([run])[:-1]:
        folder = layout.run_folder(study.config, parent)
        there = read_description(folder) or {}
        how_far = state(study.config, parent)
        yield f"  {parent.key}  {how_far:8}  {paths[parent.key]}: {parent.kind}: {parent.title}"
        for name, sha in there.get("files", {}).items():
            yield f"    {folder / name}  sha256 {sha[:12]}"
    yield from _outside(study, run)
    yield ""
    yield "commands that make just this run again"
    if commit := (read_description(layout.run_folder(study.config, run)) or {}).get("commit"):
        yield f"  git checkout {commit}"
    yield f"  clip2scene --config {config} run --parents {run.key}"
    for table in tables:
        yield f"  clip2scene --config {config} table {table}"


def _state(study: Study, run: Run) -> Iterator[str]:
    """Yield what a run's record says of itself."""
    folder = layout.run_folder(study.config, run)
    there = read_description(folder)
    if there is None:
        yield "was never computed"
        return
    yield f"status {state(study.config, run)}, fingerprint {there['fingerprint'][:12]}"
    dirty = " with changes that were not committed" if there.get("dirty") else ""
    yield f"seed {there['seed']}, commit {there.get('commit', 'unknown')}{dirty}"
    names = ("device", "machine", "threads", "started", "ended")
    yield ", ".join(f"{name} {there.get(name)}" for name in names)
    for name, sha in there.get("files", {}).items():
        yield f"  {folder / name}  sha256 {sha[:12]}"
    for role, digest in there["reads"].items():
        yield f"  read {role}: {digest[:12]}"


def _outside(study: Study, run: Run) -> Iterator[str]:
    """Yield the files from outside that a run or one behind it reads."""
    for reader in study.with_parents([run]):
        for role, source in study.reads(reader).items():
            if isinstance(source, Path):
                yield f"  {source}  {role} of {reader.kind} {reader.key}, from outside"


def differences(study: Study, first: Run, second: Run) -> list[Difference]:
    """Return all in which two runs differ, the runs that they read from included, most important first.

    What a run wrote down counts, not what the study would compute now. What follows from something else that
    is listed, such as other weights from other data, is left out.
    """
    chains = [chain(study, run) for run in (first, second)]
    found: dict[tuple[str, str, str, str], tuple[Any, Any, dict[str, None]]] = {}

    def add(kind: str, name: str, values: tuple[Any, Any], stage: str) -> None:
        key = (kind, name, *map(repr, values))
        found.setdefault(key, (*values, {}))[2][stage] = None

    for path in dict.fromkeys([*chains[0], *chains[1]]):
        runs = [each.get(path) for each in chains]
        if None not in runs:
            for kind, name, *values in _unequal(*(_facts(study, run) for run in runs)):
                add(kind, name, tuple(values), runs[0].kind)
        elif (reader := path.rpartition("/")[0]) in chains[0].keys() & chains[1].keys():
            titles = tuple(run and f"{run.kind}: {run.title}" for run in runs)
            add("method", f"reads {path.rpartition('/')[2]}", titles, chains[0][reader].kind)
    listed = [
        Difference(kind, name, *values[:2], tuple(values[2])) for (kind, name, *_), values in found.items()
    ]
    return sorted(listed, key=lambda item: (ORDER.index(item.kind), item.name))


Facts = dict[tuple[str, str], Any]


def _unequal(mine: Facts, other: Facts) -> Iterator[tuple[str, str, Any, Any]]:
    for kind, name in mine.keys() | other.keys():
        values = mine.get((kind, name)), other.get((kind, name))
        if values[0] != values[1]:
            yield kind, name, *values


def _facts(study: Study, run: Run) -> Facts:
    """Return all that decides a run by itself, by kind of difference and name."""
    there = read_description(layout.run_folder(study.config, run)) or {}
    record = there if "settings" in there else study.partial_identity(run).values()
    facts = {(kind, name): value for kind, name, value in _of_record(run.kind, record)}
    return facts | {("machine", name): there[name] for name in ("device", "machine") if name in there}


def _of_record(stage: str, record: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield kind, name and value of everything that decides one run."""
    for name, value in record["fields"].items():
        if kind := _FIELDS.get(name):
            yield kind, name, value
    for name, value in flat(dict(record["settings"])).items():
        yield _kind(name), name, value
    for name, value in record["code"].items():
        yield "code", name, value
    if stage in ("index", "subset"):  # what the data are; other digests follow from what is listed
        yield "data" if stage == "index" else "rule", f"{stage} read or found", _identity(record)
    if record.get("survey"):
        yield "data", "files on the disk", record["survey"]
    for role, digest in record.get("reads", {}).items():
        if ":" not in role:
            yield "data", f"{role} from outside", digest


_FIELDS = {
    "target": "data", "pretrain": "data", "percent": "rule", "rule": "rule", "backbone": "backbone",
    "protocol": "method", "method": "method", "recipe": "method", "seed": "seed", "pretrain_seed": "seed",
}  # fmt: skip
_MACHINE = frozenset({"arithmetic", "precision", "tf32", "threads", "processes", "backend"})


def _kind(setting: str) -> str:
    """Return the kind of difference that a setting makes."""
    first = setting.partition(".")[0]
    if first == "data":
        return "data"
    if first == "split":
        return "split"
    if first in ("network", "voxel_size"):
        return "backbone"
    return "machine" if setting in _MACHINE else "settings"


def _identity(record: Mapping[str, Any]) -> str:
    """Return the digests of what an index or a label subset holds."""
    products, files = record.get("products", {}), record.get("files", {})
    return " ".join(f"{name} {products[name][:8]}" for name in sorted(products.keys() - files.keys()))


def _short(value: Any, longest: int = 60) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def compare(study: Study, first: Run, second: Run) -> Iterator[str]:
    """Yield the differences of two runs of one stage in lines and, of runs that predict, what they amount to.

    Raises:
        InputError: the runs are of different stages, or one that predicts is not finished.
    """
    if first.kind != second.kind:
        raise InputError(
            f"run {second.key} is of the stage {second.kind}, run {first.key} of {first.kind}; expected two "
            "runs of one stage"
        )
    yield f"from  {first.key}  {first.kind}: {first.title}"
    yield f"to    {second.key}  {second.kind}: {second.title}"
    found = differences(study, first, second)
    yield from (["", *map(str, found)] if found else ["", "nothing differs"])
    if all((layout.run_folder(study.config, run) / "confusion.npz").exists() for run in (first, second)):
        yield ""
        yield from attribution(study, first, second)
