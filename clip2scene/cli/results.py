"""Commands that only read finished runs: tables, figures, MLflow, verification."""

from pathlib import Path

import click

from clip2scene import layout
from clip2scene.cli.base import known_table, one_run, processes_option, study_of, table_argument
from clip2scene.cli.networks import palette_option
from clip2scene.config import Config, load_config
from clip2scene.errors import InputError
from clip2scene.files import write_json


@click.command()
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


@click.command()
@click.argument("tables", nargs=-1)
@click.pass_context
def verify(context: click.Context, tables: tuple[str, ...]) -> None:
    """Recompute every number of TABLES (all that are there) from the files that they name.

    Checks the hash of every file of every run, and names each cell that differs. The exit code is 1 if
    anything does.
    """
    from clip2scene.reporting.registry import all_names
    from clip2scene.reporting.verify import verify as check

    study = study_of(context.obj)
    there = [name for name in all_names() if layout.shown(study.config, name).exists()]
    if not (tables or there):
        raise InputError(f"{study.config.results}: holds no table; write one with `clip2scene table TABLE`")
    problems = []
    for name in [known_table(name) for name in tables] or there:
        found = check(study, name)
        click.echo(f"{name}: {len(found)} differences" if found else f"{name}: verified")
        problems += found
    click.echo("\n".join(problems), nl=bool(problems))
    context.exit(1 if problems else 0)


@click.command()
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


@click.command()
@click.argument("claim")
@click.option("--seeds", type=int, help="Stop at this many seeds a row; at most what the claim plans.")
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


@click.command()
@click.argument("first")
@click.argument("second", required=False)
@click.pass_obj
def explain(path: str, first: str, second: str | None) -> None:
    """Say where the run FIRST comes from and how to make it again; or how SECOND differs from it.

    Of two runs: every difference, in the order in which it is likely to matter, the difference of their mIoU
    with its interval, and the classes and scenes that it comes from. `clip2scene runs` lists the keys.
    """
    from clip2scene.explain import compare, provenance

    study = study_of(path)
    runs = [one_run(study, key) for key in (first, second) if key]
    lines = compare(study, *runs) if second else provenance(study, runs[0], path)
    click.echo("\n".join(lines))


@click.command()
@palette_option
@click.pass_obj
def figures(path: str, palette: str) -> None:
    """Draw scenes, label-fraction curves and training curves of the main table's runs."""
    from clip2scene.reporting.figures import draw_figures

    study = study_of(path)
    drawn = draw_figures(study, study.config.results / "figures", palette)
    receipt = layout.receipt(study.config, f"figures-{study.name}")
    write_json(receipt, {"study": study.name, "files": [str(file) for file in drawn]})


@click.command()
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


@click.command()
@click.pass_obj
def mlflow(path: str) -> None:
    """Send the finished runs of the study to MLflow, making or migrating the store first."""
    from clip2scene.reporting.mlflow_sink import send

    study = study_of(path)
    ids = send(study)
    write_json(layout.receipt(study.config, f"mlflow-{study.name}"), ids)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
def schema(out: Path) -> None:
    """Write the JSON schema of the configuration to OUT."""
    write_json(out, Config.model_json_schema())
