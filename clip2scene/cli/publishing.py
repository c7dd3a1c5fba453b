"""Commands that hand finished work to others, and take it back."""

from pathlib import Path

import click

from clip2scene.cli.base import examples, find_run, study_of
from clip2scene.cli.completion import completing, published_tables, runs
from clip2scene.reporting.registry import table_names


@click.command(
    epilog=examples(
        "clip2scene publish 1f2e3d4c5b6a published/clip2scene-100",
        "clip2scene publish main published/table_main",
    )
)
@click.argument("what", shell_complete=completing(runs, published_tables))
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
def publish(path: str, what: str, folder: Path) -> None:
    """Write WHAT for others into FOLDER, which must not exist: a network, ids of keyframes, or a table.

    A run that trained a 3D network, or one that evaluates it: weights as safetensors, all settings, what it
    learned from, and a model card with scores and licence. `clip2scene predict` and `import-published` read
    the folder. A run of the stages subset or index: ids of keyframes and a data card. A table: a Workflow Run
    RO-Crate (pip install 'clip2scene[crate]').
    """
    study = study_of(path)
    if what in table_names():
        from clip2scene.publish.crate import publish_table

        count = publish_table(study, what, folder)
        click.echo(f"{folder}: table {what} with {count} runs, as RO-Crate")
        return
    run = find_run(study, what)
    if run.kind in ("subset", "index"):
        from clip2scene.publish.data import publish_data

        click.echo(f"{folder}: {publish_data(study, run, folder):,} keyframe ids")
        return
    from clip2scene.publish.model import publish_model

    scores = publish_model(study, run, folder)
    click.echo(f"{folder}: {run.title}")
    for score in scores:
        found = f"{score.miou.value:.1f} ({score.miou.low:.1f} to {score.miou.high:.1f})"
        click.echo(f"  mIoU {found}, {score.points} points, run {score.run.key}")


@click.command(
    "import-published", epilog=examples("clip2scene import-published published/clip2scene checkpoint.pt")
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def import_published(folder: Path, out: Path) -> None:
    """Write the checkpoint of FOLDER, which `clip2scene publish` wrote, to OUT.

    A pre-trained network starts rows of the table of experiments: the configuration's key `checkpoints` gives
    OUT a name, which a row has as its recipe.
    """
    from clip2scene.publish.load import import_published as read

    description = read(folder, out)
    click.echo(f"{out}: {len(description['tensors'])} tensors; {description['title']}")
