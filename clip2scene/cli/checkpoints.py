"""Commands that take in and give out published checkpoints."""

from pathlib import Path

import click

from clip2scene.cli.base import data_set, examples
from clip2scene.errors import InputError, unknown


@click.command(
    "import-checkpoint",
    epilog=examples(
        "clip2scene --config config/paper.yaml import-checkpoint minkunet_slidr_1gpu.pt data/slidr.pt \\",
        "    --method slidr --backbone res16unet34c --dataset nuscenes",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--method", required=True, help="Registered method that trained it, e.g. slidr.")
@click.option("--recipe", default="", help="The method's recipe; CLIP2Scene's own code is `released`.")
@click.option("--backbone", required=True, help="Key of the configuration's backbones.")
@click.option("--dataset", required=True, help="Key of the configuration's datasets: what it was trained on.")
@click.pass_obj
def import_checkpoint(
    path: str, file: Path, out: Path, method: str, recipe: str, backbone: str, dataset: str
) -> None:
    """Make FILE, a 3D network as SLidR's or CLIP2Scene's code saves it, a pre-training checkpoint OUT.

    The configuration's key `checkpoints` gives OUT a name, and a row of the table of experiments with this
    name as its recipe starts from it.
    """
    from clip2scene.method.spec import method_spec
    from clip2scene.training import published

    config = data_set(path, dataset).config
    if backbone not in config.backbones:
        raise unknown(f"{path}: backbones", backbone, config.backbones)
    if method_spec(method).implementation is None:
        raise InputError(f"--method: {method} pre-trains nothing; expected one that does")
    if recipe not in (recipes := method_spec(method).recipes):
        raise unknown(f"recipe of method {method}", recipe, recipes)
    parts, missing = published.import_checkpoint(config, file, out, method, recipe, backbone, dataset)
    click.echo(f"{out}: {len(parts.backbone)} tensors of {backbone}, {len(parts.heads)} of {method}'s heads")
    click.echo(f"not in {file}, left at random initialisation: {', '.join(missing) or 'none'}")
    click.echo(f"only in {file}, kept for export: {', '.join(parts.rest) or 'none'}")


@click.command(
    "export-checkpoint",
    epilog=examples("clip2scene export-checkpoint results/runs/1f2e3d4c5b6a/checkpoint.pt spvcnn.pt"),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def export_checkpoint(file: Path, out: Path) -> None:
    """Write FILE, a pre-training checkpoint, to OUT as SLidR's or (SPVCNN) CLIP2Scene's code saves it."""
    from clip2scene.training import published

    published.export_checkpoint(file, out)
