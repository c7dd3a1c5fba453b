"""`clip2scene check-data`: count the files of the data sets, and say which experiments can run with them."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from clip2scene.config import Config
from clip2scene.datasets.index import Index, build
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.experiments import TEACHER, Experiment
from clip2scene.inventory import Holding, take_inventory
from clip2scene.method.spec import method_spec
from clip2scene.study import Study

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
        The lines of the report, and whether everything is there.
    """
    config = study.configuration()
    report: list[str] = []
    missing: set[Need] = set()
    for name in datasets:
        section = config.datasets[name]
        report += ["", f"{name}: {section.format} {section.version} in {section.root}"]
        try:
            holdings = _holdings(config, name, thorough, processes)
        except InputError as error:
            report.append(f"  {error}" + ("; the workflow makes it" if section.synthetic else ""))
            missing.add((name, "", "index"))
            continue
        report += _table(holdings)
        missing |= {
            (name, split, kind)
            for split, kinds in holdings.items()
            for kind, holding in kinds.items()
            if holding.problems
        }
    return [*report[1:], "", *_rows(study, datasets, missing)], not missing


def _holdings(config: Config, name: str, thorough: bool, processes: int) -> dict[str, dict[str, Holding]]:
    """Return the holdings of the splits that the data set must hold, and of those that are used."""
    section = config.datasets[name]
    dataset = get_dataset(section.format)
    known = (
        {} if section.synthetic else dataset.keyframes.get(section.version, dataset.keyframes.get("*", {}))
    )
    used = (section.pretrain_split, section.train_split, section.val_split)
    splits = list(dict.fromkeys([*known, *used]))
    return take_inventory(dataset, _index(config, name), splits, dict(known), thorough, processes)


def _index(config: Config, name: str) -> Index:
    """Return the data set's index, built for this check alone: the workflow's may be older than the files."""
    with tempfile.TemporaryDirectory() as folder:
        return build(config.datasets[name], Path(folder) / "index.parquet")


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
        if problems:
            yield f"  {kind} missing or unreadable: {len(problems):,}"
            yield from (f"    {problem}" for problem in problems[:EXAMPLES])
            if len(problems) > EXAMPLES:
                yield f"    and {len(problems) - EXAMPLES:,} more"


def _count(holding: Holding) -> str:
    present = f"{holding.expected - len(holding.problems):,}"
    return f"{present} of {holding.expected:,}" if holding.problems else present


def _rows(study: Study, datasets: tuple[str, ...], missing: set[Need]) -> Iterator[str]:
    """Yield how many rows of the table of experiments can run, by protocol, and what the others lack."""
    lacks: dict[str, dict[tuple[str, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, experiment in enumerate(study.experiments, start=1):
        needs = _needs(study.configuration(experiment.variant), experiment)
        if needs & {(name, "", "index") for name in datasets}:
            reasons = (_word(need) for need in needs & missing)
            lacks[experiment.protocol][tuple(sorted(reasons))].append(number)
    for protocol, groups in lacks.items():
        total = sum(map(len, groups.values()))
        yield f"{protocol}: {len(groups[()])} of {total} rows of {study.config.experiments} can run"
        for reasons, rows in groups.items():
            if reasons:
                yield f"  not row {_ranges(rows)}: lacks {', '.join(reasons)}"


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
    if experiment.pretrain:
        split = config.datasets[experiment.pretrain].pretrain_split
        needs = method_spec(experiment.method).needs & {"images", "sweeps"}
        used.setdefault((experiment.pretrain, split), set()).update({"keyframes", "points"}, needs)
    named = {(dataset, split, kind) for (dataset, split), kinds in used.items() for kind in kinds}
    return named | {(dataset, "", "index") for dataset, _ in used}
