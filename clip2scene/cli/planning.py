"""Commands that say what a study will cost, before it costs anything: pilot and plan."""

import json
import re
from pathlib import Path

import click

from clip2scene.cli.base import examples, json_option, processes_option, study_of
from clip2scene.config import Config, load_config
from clip2scene.errors import InputError
from clip2scene.planning.costs import Costs, plan_file

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.command(epilog=examples("clip2scene --config config/paper.yaml pilot --steps 24"))
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Steps of each training, keyframes of each prediction.",
)
@processes_option
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    help="Runs that the study will compute at a time. They slow each other down, so copies of each run are "
    "computed beside it [default: one on a GPU, else what the cores allow].",
)
@json_option
@click.pass_obj
def pilot(path: str, steps: int, processes: int, jobs: int | None, as_json: bool) -> None:
    """Compute every kind of run for a few steps at its real size; say what the whole study costs.

    On the data and the machine at hand; synthetic keyframes of the real size stand in for a data set that is
    not there, random weights for a file that is not. Writes plan.json into the results folder, which
    `clip2scene plan` reads, and touches no run.
    """
    from clip2scene.planning.pilot import run_pilot

    config = load_config(path)
    costs = run_pilot(config, steps, processes, lambda line: click.echo(line, err=True), jobs)
    costs.write(plan_file(config))
    click.echo(json.dumps(costs.model_dump(mode="json"), indent=2) if as_json else _described(costs, config))


@click.command(epilog=examples("clip2scene --config config/paper.yaml plan --budget 3d --gpus 4"))
@click.option("--budget", help="Time, such as 90m, 24h, 3d or 1w; all rows if it is left out.")
@click.option(
    "--gpus",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="GPUs; without one, runs that are computed at a time.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Table of experiments to write [default: plan.tsv in results].",
)
@json_option
@click.pass_obj
def plan(path: str, budget: str | None, gpus: int, out: Path | None, as_json: bool) -> None:
    """List the rows of the table of experiments that a budget buys, and write them as one.

    The most cells of tables for the time; a pre-training that several rows rest on counts once, and a run
    that is finished counts nothing. Costs are those of the last `clip2scene pilot`.
    """
    from clip2scene.planning.plan import choose, in_order, rows_of, total, write_rows

    study = study_of(path)
    costs = Costs.read(plan_file(study.config))
    machines = max(1, gpus // costs.processes)
    limit = seconds_of(budget) if budget else None
    rows, seconds = rows_of(study, costs)
    chosen = rows if limit is None else choose(rows, seconds, limit, machines)
    ordered = list(in_order(chosen, seconds))
    out = out or study.config.results / "plan.tsv"
    one, several = ("GPU", "GPUs") if costs.on_gpu else ("run at a time", "runs at a time")
    within = f" in {budget}, {gpus} {one if gpus == 1 else several}" if budget else ""
    comment = (
        f"{len(chosen)} of the {len(rows)} rows of {study.config.experiments}{within}, in the order to take"
    )
    if ordered:
        write_rows(out, [row for row, _ in ordered], comment)
    command = f"CLIP2SCENE_CONFIG={path} snakemake --cores all --config experiments={out}"
    if as_json:
        values = {
            "budget_seconds": limit,
            "machines": machines,
            "seconds": total(chosen, seconds),
            "cells": sum(row.cells for row in chosen),
            "rows": [
                {"row": row.experiment.model_dump(mode="json"), "cells": row.cells, "seconds": added}
                for row, added in ordered
            ],
            "rows_left_out": len(rows) - len(chosen),
            "experiments": str(out) if ordered else None,
            "command": command if ordered else None,
        }
        click.echo(json.dumps(values, indent=2))
        return
    done = 0.0
    click.echo(f"{'hours':>10}  {'in all':>10}  row")
    for row, added in ordered:
        done += added
        click.echo(f"{added / 3600:10.3f}  {done / 3600:10.3f}  {_words(row.experiment.model_dump())}")
    cells = sum(row.cells for row in chosen)
    everything = f"{sum(row.cells for row in rows)} in {total(rows, seconds) / 3600:.2f} hours"
    bought = f"{cells} cell{'s' * (cells != 1)} of tables in {done / 3600:.2f} hours of computing"
    click.echo(f"{bought} (all: {everything})")
    made_up = f"; {len(costs.stand_ins)} stand-ins" if costs.stand_ins else ""
    click.echo(f"measured on {costs.machine}{made_up}")
    click.echo(f"{out}: {comment}\n{command}" if ordered else "nothing fits")


def seconds_of(budget: str) -> float:
    """Return the seconds of a time such as 90m, 24h, 3d or 1w.

    Raises:
        InputError: it is no such time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", budget.strip())
    if found is None or not float(found[1]):
        raise InputError(f"--budget: found {budget!r}; expected a time such as 90m, 24h, 3d or 1w")
    return float(found[1]) * _SECONDS[found[2]]


def _words(row: dict) -> str:
    """Return a row in words."""
    names = ("protocol", "method", "recipe", "variant", "backbone", "pretrain", "target")
    words = [row[name] for name in names if row[name]]
    if row["percent"]:
        words.append(f"{row['percent']:g} % {row['rule']}".strip())
    return ", ".join(words)


def _described(costs: Costs, config: Config) -> str:
    """Return what a pilot found, as a table a kind of run, and what the machine lacks."""
    header = (
        f"{'runs':>5} {'units':>13} {'s/unit':>9} {'h/run':>9} {'host MiB':>9} {'GPU MiB':>8} {'waits':>6} "
        f"{'MiB/run':>8}  run"
    )
    lines = [header]
    for name, kind in costs.kinds.items():
        runs = [run for run in costs.runs.values() if run.kind == name]
        hours = sum(run.seconds for run in runs) / len(runs) / 3600
        units, rate = "-", "-"
        if kind.unit:
            units, rate = f"{max(run.units for run in runs)} {kind.unit}s", f"{kind.seconds.unit:.3f}"
        size = max(run.bytes for run in runs) / 2**20
        lines.append(
            f"{len(runs):5} {units:>13} {rate:>9} {hours:9.4f} {kind.memory_mib:9.0f} "
            f"{kind.gpu_memory_mib:8.0f} {100 * kind.waiting:5.0f}% {size:8.1f}  {kind.stage}: {kind.title}"
        )
    every = costs.runs.values()
    lines.append(
        f"{len(costs.runs)} runs, {sum(run.seconds for run in every) / 3600:.2f} hours one after the other "
        f"({sum(run.cpu_seconds for run in every) / 3600:.2f} CPU hours), on {costs.machine}"
    )
    for need in costs.needs:
        state = "enough" if need.enough else "NOT ENOUGH"
        lines.append(
            f"{need.what}: {state}: needs {need.needed:.1f} {need.unit}, there are {need.available:.1f}"
        )
    if not any(need.what == "GPU memory" for need in costs.needs):
        lines.append("GPU memory: not measured, as there is no GPU")
    lines += [f"stand-in: {line}" for line in costs.stand_ins]
    lines.append(f"{plan_file(config)}: written; next, e.g. `clip2scene plan --budget 24h`")
    return "\n".join(lines)
