"""Commands that only read finished runs: tables, figures, MLflow, verification."""

from pathlib import Path

import click

from clip2scene import layout
from clip2scene.cli.base import known_table, study_of, table_argument
from clip2scene.config import Config
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
    from clip2scene.reporting.registry import table_names
    from clip2scene.reporting.verify import verify as check

    study = study_of(context.obj)
    there = [name for name in table_names() if layout.shown(study.config, name).exists()]
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
@click.pass_obj
def figures(path: str) -> None:
    """Draw scans, label-fraction curves and training curves of the main table's runs."""
    from clip2scene.reporting.figures import draw_figures

    study = study_of(path)
    drawn = draw_figures(study, study.config.results / "figures")
    receipt = layout.receipt(study.config, f"figures-{study.name}")
    write_json(receipt, {"study": study.name, "files": [str(file) for file in drawn]})


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
