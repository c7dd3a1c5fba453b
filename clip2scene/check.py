"""`clip2scene check-data`: count the files of the data sets, and say which experiments can run with them."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

from clip2scene.config import Config
from clip2scene.datasets.index import Index, build
from clip2scene.datasets.plausible import Faults
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.experiments import TEACHER, Experiment
from clip2scene.inventory import Holding, take_inventory
from clip2scene.method.spec import method_spec
from clip2scene.pairing.plausibility import leave_out_blind, look
from clip2scene.study import Study
from clip2scene.text_tables import read_tsv

EXAMPLES = 3
"""Number of missing files of one kind that are named."""

Need = tuple[str, str, str]
"""Data set, split and kind."""


def check_data(
    study: Study, datasets: tuple[str, ...], thorough: bool, processes: int
) -> tuple[list[str], bool]:
    """Check some data sets.

    Args:
        study: The study.
        datasets: Keys of its configuration's `datasets`.
        thorough: Read every file rather than look it up.
        processes: Number of processes that read.

    Returns:
        The lines of the report, and whether everything is there that a row of the table of experiments needs.
    """
    config = study.configuration()
    report: list[str] = []
    missing: set[Need] = set()
    for name in datasets:
        section = config.datasets[name]
        report += ["", f"{name}: {section.format} {section.version} in {section.root}"]
        try:
            index, odd = _index(config, name)
        except (InputError, OSError) as error:
            report += _faults(error, section.synthetic is not None)
            missing.add((name, "", "index"))
            continue
        holdings = _holdings(study, name, index, thorough, processes)
        report += _table(holdings)
        report += [f"  odd: {line}" for line in odd]
        for split in holdings:
            lines, blind = _pairing(config, name, index, split)
            report += lines
            if blind:
                missing.add((name, split, "depth"))
        missing |= {
            (name, split, kind)
            for split, kinds in holdings.items()
            for kind, holding in kinds.items()
            if holding.lacking
        }
    needs = [_needs(study.configuration(row.variant), row) for row in study.experiments]
    needed = set().union(*needs)
    used = {name for name, _, _ in needed}
    for name in datasets:
        if idle := sorted(
            {kind for of, _, kind in missing if of == name and name in used} - _kinds(needed, name)
        ):
            report += ["", f"{name}: no row needs its {' or '.join(idle)}"]
    lacking = {need for need in missing if need in needed or need[0] not in used}
    return [*report[1:], "", *_rows(study, datasets, missing)], not lacking


def _kinds(needs: set[Need], name: str) -> set[str]:
    """Return the kinds of files of a data set that are among some needs."""
    return {kind for of, _, kind in needs if of == name}


def _faults(error: InputError | OSError, made: bool) -> Iterator[str]:
    """Yield the faults for which a data set has no index, the first few by name."""
    words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    lines = error.lines if isinstance(error, Faults) else [words]
    yield from (f"  {line}" + ("; the workflow makes it" if made else "") for line in lines[:EXAMPLES])
    if len(lines) > EXAMPLES:
        yield f"    and {len(lines) - EXAMPLES:,} more"


def _holdings(
    study: Study, name: str, index: Index, thorough: bool, processes: int
) -> dict[str, dict[str, Holding]]:
    """Return the holdings of the splits that the data set must hold, and of those that are used."""
    section = study.configuration().datasets[name]
    dataset = get_dataset(section.format)
    known = {} if section.synthetic else dataset.complete(section.root, section.version)
    splits = list(dict.fromkeys([*known, *_splits(study, name)]))
    return take_inventory(dataset, index, splits, known, thorough, processes)


def _splits(study: Study, name: str) -> list[str]:
    """Return the splits of a data set that are used, by variants of the same files too."""
    variants = dict.fromkeys(["", *(row.variant for row in study.experiments)])
    sections = [study.configuration(variant).datasets[name] for variant in variants]
    place = attrgetter("format", "version", "root")
    same = (section for section in sections if place(section) == place(sections[0]))
    return [split for each in same for split in (each.pretrain_split, each.train_split, each.val_split)]


def _index(config: Config, name: str) -> tuple[Index, list[str]]:
    """Return the data set's index, and a line for each kind of oddity.

    It is built for this check alone: the workflow's may be older than the files.
    """
    odd: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        return build(config.datasets[name], Path(folder) / "index.parquet", odd.append), odd


def _pairing(config: Config, name: str, index: Index, split: str) -> tuple[list[str], bool]:
    """Return what share of the points of a few keyframes finds a pixel, and whether no depth was measured."""
    lines: list[str] = []
    try:
        part = index.split(split)
    except InputError:
        return lines, False  # no keyframes, as the table says
    try:
        part = leave_out_blind(part, lambda line: lines.append(f"  odd: {split}: {line}"))
    except InputError as error:
        return [f"  {split}: {error}"], True
    try:
        found = look(get_dataset(config.datasets[name].format), part)
    except InputError:
        return lines, False  # files are missing or damaged, as the table says, or says if thorough
    odd = [f"  odd: {split}: {line}" for line in found.odd] if found else []
    return [*([f"  {split}: {found}"] if found else []), *lines, *odd], False


def _table(holdings: dict[str, dict[str, Holding]]) -> Iterator[str]:
    """Yield the counts, a line a split, then the missing files, the first few of a kind by name."""
    kinds = list(next(iter(holdings.values())))
    cells = [["split", *kinds]]
    for split, found in holdings.items():
        cells.append([split, *(_count(found[kind]) for kind in kinds)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *rest in cells:
        numbers = (text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))
        yield "  " + "  ".join([first.ljust(widths[0]), *numbers])
    for kind in kinds:
        problems = list(dict.fromkeys(text for found in holdings.values() for text in found[kind].problems))
        if not problems:
            continue
        lacking = len(problems)
        if kind == "keyframes":  # a line a split
            lacking = sum(found[kind].lacking for found in holdings.values())
        yield f"  {kind} missing or unreadable: {lacking:,}"
        yield from (f"    {problem}" for problem in problems[:EXAMPLES])
        if len(problems) > EXAMPLES:
            yield f"    and {len(problems) - EXAMPLES:,} more"


def _count(holding: Holding) -> str:
    present = f"{holding.expected - holding.lacking:,}"
    return f"{present} of {holding.expected:,}" if holding.lacking else present


def _rows(study: Study, datasets: tuple[str, ...], missing: set[Need]) -> Iterator[str]:
    """Yield how many rows of the table of experiments can run, by protocol, and what the others lack."""
    lacks: dict[str, dict[tuple[str, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    lines = (line for line, _ in read_tsv(study.config.experiments, (), Experiment.model_fields))
    for number, experiment in zip(lines, study.experiments, strict=True):
        config = study.configuration(experiment.variant)
        needs = _needs(config, experiment)
        if needs & {(name, "", "index") for name in datasets}:
            reasons = {_word(need) for need in needs & missing}
            unseen = {name for name, _, _ in needs} - set(datasets)
            reasons |= {f"{name}, which was not looked at" for name in unseen}
            reasons |= set(_resources(config, experiment))
            lacks[experiment.protocol][tuple(sorted(reasons))].append(number)
    for protocol, groups in lacks.items():
        total = sum(map(len, groups.values()))
        yield f"{protocol}: {len(groups[()])} of {total} rows of {study.config.experiments} can run"
        for reasons, rows in groups.items():
            if reasons:
                yield f"  not line {_ranges(rows)}: lacks {', '.join(reasons)}"


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers in words, e.g. ``1-3, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _word(need: Need) -> str:
    dataset, split, kind = need
    return f"the {kind} of {dataset} {split}".rstrip()


def _needs(config: Config, experiment: Experiment) -> set[Need]:
    """Return the data that an experiment reads."""
    target = config.datasets[experiment.target]
    kinds = {"keyframes", "points", "labels"} | ({"images"} if experiment.method == TEACHER else set())
    used = {(experiment.target, target.val_split): kinds}
    if experiment.percent:
        used[experiment.target, target.train_split] = {"keyframes", "points", "labels"}
    needs = _method_needs(experiment)
    if experiment.pretrain and experiment.recipe not in config.checkpoints:
        split = config.datasets[experiment.pretrain].pretrain_split
        kinds = {"keyframes", "points", *(needs & {"images", "sweeps"})}
        used.setdefault((experiment.pretrain, split), set()).update(kinds)
        if "encoder" in needs and config.image_encoder.pretrained == "train":
            for name in set(config.image_encoder.datasets) & config.datasets.keys():
                split = config.datasets[name].pretrain_split
                used.setdefault((name, split), set()).update({"keyframes", "images"})
    named = {(dataset, split, kind) for (dataset, split), kinds in used.items() for kind in kinds}
    named |= {(dataset, split, "depth") for dataset, split, kind in named if kind == "images"}
    named |= {(dataset, "", "index") for dataset, _ in used}
    if needs & {"teacher", "text"} and config.teacher.pretrained == "train":
        named |= {(name, "", "index") for name in set(config.teacher.datasets) & config.datasets.keys()}
    return named


def _method_needs(experiment: Experiment) -> frozenset[str]:
    """Return what the method of an experiment needs; see `clip2scene.method.spec.MethodSpec`."""
    if experiment.method == TEACHER:
        return frozenset({"images", "teacher", "text"})
    return method_spec(experiment.method).needs


def _resources(config: Config, experiment: Experiment) -> Iterator[str]:
    """Yield what an experiment needs beside data and this machine lacks: a GPU, a library, weights."""
    if config.device == "cuda" and not _has_gpu():
        yield "a GPU (key device)"
    if config.backend == "minkowski" and find_spec("MinkowskiEngine") is None:
        yield "MinkowskiEngine, which is not installed (key backend)"
    needs, start = _method_needs(experiment), config.checkpoints.get(experiment.recipe)
    if start and not start.file.is_file():
        yield f"the file {start.file} (key checkpoints.{experiment.recipe})"
    teacher = needs & {"teacher", "text"} and (start is None or not experiment.percent)
    for name, used in (("teacher", teacher), ("image_encoder", "encoder" in needs and start is None)):
        weights = getattr(config, name).pretrained
        if used and _is_path(weights) and not Path(weights).is_file():
            yield f"the file {weights} (key {name}.pretrained)"


def _is_path(weights: str) -> bool:
    """Return True if a key `pretrained` names a file, rather than ``train`` or a tag."""
    return "/" in weights or Path(weights).suffix in {".pt", ".pth", ".bin", ".safetensors", ".tar", ".ckpt"}


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
