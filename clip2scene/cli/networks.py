"""Commands that use finished networks: label scans, enter benchmarks, look."""

import json
from collections.abc import Callable
from pathlib import Path

import click

from clip2scene.cli.base import examples, find_run, json_option, study_of
from clip2scene.cli.completion import completing, datasets, runs
from clip2scene.errors import InputError, unknown

run_argument = click.argument("name", metavar="RUN", shell_complete=completing(runs))


def palette_option(command: Callable) -> Callable:
    """Add the option `--palette` to a command."""
    from clip2scene.reporting.palettes import PALETTES

    return click.option(
        "--palette",
        type=click.Choice(PALETTES),
        default=PALETTES[0],
        show_default=True,
        help="Colours of the classes: the data set's own, or ones that colour-blind readers tell apart.",
    )(command)


class Listing(click.Command):
    """A command whose option `--words` takes all arguments up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat `--words` before each of its values, which is how click reads several."""
        spread, listing = [], False
        for argument in args:
            if argument.startswith("-"):
                listing = argument == "--words"
                if not listing:
                    spread.append(argument)
            else:
                spread += ["--words", argument] if listing else [argument]
        return super().parse_args(ctx, spread)


@click.command(
    cls=Listing,
    epilog=examples(
        "clip2scene predict 000000.bin --run 1f2e3d4c5b6a --as label --out predictions",
        "clip2scene predict scans/*.pcd --run 1f2e3d4c5b6a --as ply --as png",
        'clip2scene predict 000000.bin --run 6a5b4c3d2e1f --words "a red car" "road"',
    ),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--run", "name", required=True, shell_complete=completing(runs),
    help="Key or name of a finished run, or a published folder.",
)  # fmt: skip
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="predictions",
    show_default=True,
    help="Folder to write into.",
)
@click.option(
    "--as",
    "formats",
    type=click.Choice(("npy", "label", "ply", "png")),
    multiple=True,
    default=("npy",),
    show_default=True,
    help="npy: classes 1 to C; label: SemanticKITTI's ids; ply: coloured; png: from above. May be repeated.",
)
@click.option("--words", multiple=True, metavar="TEXT...", help="Free text in place of the classes.")
@click.option(
    "--top",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Number of points to name for each text.",
)
@click.option(
    "--intensity",
    type=click.FloatRange(min=0, min_open=True),
    help="Largest intensity that the sensor gives: 1 (SemanticKITTI), 255 (nuScenes), 65535, ... By default "
    "taken from the format or the values.",
)
@palette_option
@json_option
@click.pass_obj
def predict(
    path: str,
    files: tuple[Path, ...],
    name: str,
    out: Path,
    formats: tuple[str, ...],
    words: tuple[str, ...],
    top: int,
    intensity: float | None,
    palette: str,
    as_json: bool,
) -> None:
    """Label every point of FILES with a finished network; no labels and no images are needed.

    FILES are scans: nuScenes' or SemanticKITTI's .bin, or .ply, .npy, .pcd with x, y, z and intensity (colour
    for a network of RGB-D scans). Intensity is brought to the scale on which the network was trained.

    With --words, which goes after FILES, a pre-trained network compares its features with free text: labels
    are the best text of each point. Similarity, relevancy (how much better a text fits a point than the
    classes do), the most relevant points and a picture are written too.
    """
    from clip2scene.predict.files import Wishes, predict_files

    network = _network(path, name)
    if words:
        network = network.with_words(words)
    wishes = Wishes(out, tuple(dict.fromkeys(formats)), palette, intensity, top)
    with _bar("predict", "scan", len(files)) as bar:
        report = predict_files(network, files, wishes, bar)
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for item in report:
        click.echo(f"{item['file']}: {item['points']:,} points; {item['features']}")
        shares = sorted(item["classes"].items(), key=lambda pair: -pair[1])
        listed = ", ".join(f"{name} {100 * count / item['points']:.1f} %" for name, count in shares)
        click.echo(f"  {listed}")
        if item["unmeasured"]:
            click.echo(f"  {item['unmeasured']:,} points that are not numbers have class 0")
        for word, points in item.get("top", {}).items():
            best = "; ".join(
                f"{point['point']} at {point['at']} ({point['relevancy']:.2f})" for point in points
            )
            click.echo(f"  {word}: {best}")
        click.echo(f"  {', '.join(item['written'].values())}")


def _network(path: str, name: str):  # noqa: ANN202 - torch is imported only when a command runs
    """Return the network of a run of the study, or of a folder that `clip2scene publish` wrote."""
    if Path(name).is_dir():
        from clip2scene.publish.load import load_published

        return load_published(Path(name), study_of(path) if Path(path).is_file() else None)
    from clip2scene.predict.network import load_network

    study = study_of(path)
    return load_network(study, find_run(study, name))


def _bar(name: str, unit: str, total: int):  # noqa: ANN202
    """Return a progress bar on standard error."""
    from tqdm import tqdm

    return tqdm(desc=name, unit=unit, total=total)


@click.command(
    epilog=examples(
        "clip2scene submit 1f2e3d4c5b6a lidarseg.zip --dataset nuscenes_test",
        "clip2scene submit 1f2e3d4c5b6a semantickitti.zip",
    )
)
@run_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--dataset",
    shell_complete=completing(datasets),
    help="Key of `datasets` that holds the split; the run's by default.",
)
@click.option("--split", default="test", show_default=True, help="Split to predict.")
@json_option
@click.pass_obj
def submit(path: str, name: str, out: Path, dataset: str | None, split: str, as_json: bool) -> None:
    """Predict a test split with RUN, and write OUT, the archive (.zip) for the benchmark's server.

    nuScenes' lidarseg challenge: the split test is in version v1.0-test, which is a data set of its own in
    the configuration. SemanticKITTI: the split test is sequences 11 to 21. The archive is checked by the
    rules of the server's own tool before it is given its name.
    """
    from clip2scene.predict.network import load_network
    from clip2scene.predict.submission import submit as write

    if out.suffix != ".zip":
        raise InputError(f"{out}: expected a name that ends in .zip, as the servers do")
    study = study_of(path)
    run = find_run(study, name)
    target = dataset or run.target
    if target not in study.config.datasets:
        raise unknown(f"{path}: datasets", target, study.config.datasets)
    report = write(study, run, load_network(study, run), target, split, out, _bar)
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(f"{out}: {report['scans']:,} scans, {report['points']:,} points of {target}, {split}; valid")
    for key, value in report["meta"].items():
        click.echo(f"  {key}: {str(value).lower()}")


@click.command(
    epilog=examples(
        "clip2scene view 1f2e3d4c5b6a",
        "clip2scene view 1f2e3d4c5b6a --frames 20 --save scenes.rrd",
    )
)
@run_argument
@click.option("--frame", "frames", multiple=True, help="Id of a keyframe; may be repeated.")
@click.option("--frames", "count", type=click.IntRange(1, 10_000), default=4, show_default=True,
              help="Number of keyframes, evenly spaced, if none is named.")  # fmt: skip
@click.option("--split", help="Split of the data set; that of validation by default.")
@click.option(
    "--save", type=click.Path(path_type=Path), help="Write a recording (.rrd) in place of a window."
)
@palette_option
@click.pass_obj
def view(
    path: str,
    name: str,
    frames: tuple[str, ...],
    count: int,
    split: str | None,
    save: Path | None,
    palette: str,
) -> None:
    """Open keyframes in Rerun as RUN sees them: scan, sweeps, images, pairs, labels, predictions, errors.

    It needs Rerun: pip install 'clip2scene[view]'. Without a display, --save writes a recording, which
    `rerun FILE` opens elsewhere.
    """
    from clip2scene.predict.viewer import Choice, rerun_sdk, show

    rerun_sdk()
    study = study_of(path)
    files = show(study, find_run(study, name), Choice(frames, count, split, palette), save, _bar)
    click.echo(f"{save}: {files} keyframes" if save else f"{files} keyframes are in the viewer")
