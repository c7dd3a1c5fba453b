"""Commands that only read finished runs: tables, figures, MLflow, verification."""

import json
from pathlib import Path

import click

from clip2scene import layout
from clip2scene.cli.base import examples, find_run, json_option, known_table, processes_option, study_of
from clip2scene.cli.completion import completing, runs, table_argument, tables
from clip2scene.cli.networks import palette_option
from clip2scene.config import Config, load_config
from clip2scene.errors import InputError
from clip2scene.files import write_json


@click.command(epilog=examples("clip2scene table main"))
@table_argument
@click.pass_obj
def table(path: str, table: str) -> None:
    """Write the result TABLE from the confusion matrices of its finished runs."""
    from clip2scene.reporting.verify import write_table

    write_table(study_of(path), known_table(table))


@click.command(hidden=True)
@table_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.pass_obj
def collect(path: str, table: str, out: Path) -> None:
    """Write to OUT the fingerprints of the finished runs that TABLE rests on."""
    from clip2scene.reporting.verify import collect as write

    write(study_of(path), known_table(table), out)


@click.command(epilog=examples("clip2scene verify", "clip2scene verify main --json"))
@click.argument("names", metavar="[TABLES]...", nargs=-1, shell_complete=completing(tables))
@json_option
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Recompute every number of TABLES (all that are there) from the files that they name.

    Checks the hash of every file of every run, and names each cell that differs. The exit code is 1 if
    anything does.
    """
    from clip2scene.reporting.registry import all_names
    from clip2scene.reporting.verify import verify as check

    study = study_of(context.obj)
    there = [name for name in all_names() if layout.shown(study.config, name).exists()]
    if not (names or there):
        raise InputError(f"{study.config.results}: holds no table; write one with `clip2scene table TABLE`")
    found = {name: check(study, name) for name in [known_table(name) for name in names] or there}
    problems = [problem for listed in found.values() for problem in listed]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        context.exit(1 if problems else 0)
    for name, listed in found.items():
        click.echo(f"{name}: {len(listed)} differences" if listed else f"{name}: verified")
    click.echo("\n".join(problems), nl=bool(problems))
    context.exit(1 if problems else 0)


@click.command(epilog=examples("clip2scene show"))
@click.pass_obj
def show(path: str) -> None:
    """Print the main table, where it lies, and what to do next."""
    from clip2scene.reporting.terminal import shown

    click.echo("\n".join(shown(study_of(path))))


@click.command(epilog=examples("clip2scene reference"))
@click.option("--write", is_flag=True, help="Make the tables that are there the reference.")
@click.pass_context
def reference(context: click.Context, write: bool) -> None:
    """Compare the embedded study's tables with those of results/reference.

    The last line says that they are identical, or in how many rows they differ and by how much. The exit
    code is then 1.
    """
    from clip2scene.reporting import reference as tables

    study = study_of(context.obj)
    if write:
        tables.write(study)
        click.echo(f"{tables.REFERENCE}: written")
        return
    lines = tables.compare(study)
    click.echo("\n".join(lines))
    context.exit(0 if lines[-1] == tables.IDENTICAL else 1)


@click.command(
    epilog=examples("clip2scene decide paper_nuscenes_1", "clip2scene decide paper_nuscenes_1 --minutes 30")
)
@click.argument("claim")
@click.option("--seeds", type=int, help="Stop at this many seeds of each row; at most what the claim plans.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Start no further seed after so long.")
@processes_option
@click.pass_obj
def decide(path: str, claim: str, seeds: int | None, minutes: float | None, processes: int) -> None:
    """Add seeds to both rows of CLAIM, one by one, until it holds or fails.

    A sequential test: the chance of a wrong answer is at most 5 % over all looks. What was computed stays,
    and the last lines say which seeds to give the rows so that the table of claims shows it.
    """
    from clip2scene.decide import decide_claim

    for line in decide_claim(study_of(path), claim, seeds, minutes, processes):
        click.echo(line)


@click.command(
    epilog=examples("clip2scene explain 1f2e3d4c5b6a", "clip2scene explain 1f2e3d4c5b6a 6a5b4c3d2e1f")
)
@click.argument("first", metavar="RUN", shell_complete=completing(runs))
@click.argument("second", metavar="[OTHER]", required=False, shell_complete=completing(runs))
@click.pass_obj
def explain(path: str, first: str, second: str | None) -> None:
    """Say where RUN comes from and how to make it again; or how OTHER differs from it.

    Of two runs: every difference, in the order in which it is likely to matter, the difference of their mIoU
    with its interval, and the classes and scenes that it comes from. `clip2scene runs` lists the keys.
    """
    from clip2scene.explain import compare, provenance

    study = study_of(path)
    chosen = [find_run(study, text) for text in (first, second) if text]
    lines = compare(study, *chosen) if second else provenance(study, chosen[0], path)
    click.echo("\n".join(lines))


@click.command(epilog=examples("clip2scene figures", "clip2scene figures --palette colour-blind"))
@palette_option
@click.pass_obj
def figures(path: str, palette: str) -> None:
    """Draw scenes as the main table's runs see them: from above, in 3D, in each camera."""
    from clip2scene.reporting.figures import draw_figures

    study = study_of(path)
    drawn = draw_figures(study, study.config.results / "figures", palette)
    receipt = layout.receipt(study.config, f"figures-{study.name}")
    write_json(receipt, {"study": study.name, "files": [str(file) for file in drawn]})


@click.command(epilog=examples("clip2scene report"))
@click.pass_obj
def report(path: str) -> None:
    """Write report.html: every table, curve, scene and run of the study on one page that loads nothing.

    It shows the tables that are there. A browser opens it without a network.
    """
    from clip2scene.report.page import write_report
    from clip2scene.workflow import Workflow

    workflow = Workflow(load_config(path))
    out = workflow.config.results / "report.html"
    write_report(workflow, path, out)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@click.command(epilog=examples("clip2scene sync"))
@click.pass_obj
def sync(path: str) -> None:
    """Send finished runs to MLflow, except for those that it has, making or migrating the store first.

    Snakemake does so after a workflow. Sent again, nothing changes; after a failure, the rest is sent.
    """
    from clip2scene.tracking.sync import sync as send

    study = study_of(path)
    report = send(study)
    write_json(layout.receipt(study.config, f"mlflow-{study.name}"), report.ids)
    click.echo(f"{report.sent} runs sent, {len(report.ids) - report.sent} were there: {report.link}")


@click.command(epilog=examples("clip2scene schema config/schema.json"))
@click.argument("out", type=click.Path(path_type=Path))
def schema(out: Path) -> None:
    """Write the JSON schema of the configuration to OUT."""
    write_json(out, Config.model_json_schema())
