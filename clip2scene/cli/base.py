"""The group of commands, and what its commands share."""

import os
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import click

from clip2scene.config import load_config
from clip2scene.errors import InputError, unknown
from clip2scene.reporting.registry import all_names
from clip2scene.runs import KEY_LENGTH, Run
from clip2scene.study import Study

_WHOLE = 1000  # letters, more than any sentence has


class _Group(click.Group):
    """Ends a mistake of the user, or a refusal of the system, in one line and exit code 2.

    A bug keeps its traceback. Its help lists commands by section, each with its whole first sentence.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._sections: dict[str, tuple[click.Command, ...]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands, which the help lists under a title."""
        self._sections[title] = commands
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        for title, commands in self._sections.items():
            shown = [command for command in commands if not command.hidden]
            with formatter.section(title):
                formatter.write_dl([(each.name, each.get_short_help_str(_WHOLE)) for each in shown])

    def main(self, *arguments: Any, **settings: Any) -> NoReturn:
        """Run a command line; end its errors of usage in one line too."""
        try:
            code = super().main(*arguments, **settings | {"standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            click.echo(f"error: {_in_words(error)}", err=True)
            sys.exit(2)
        except click.Abort:
            click.echo("Aborted!", err=True)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for; the nearest is offered if there is none."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; end what a user can mend in one line."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            message = str(error)
        except OSError as error:  # a full disk, a folder that may not be written
            if error.filename is None and error.strerror is None:
                raise
            message = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
        except ImportError as error:
            if "failed to map segment" not in str(error):
                raise
            message = f"{error}; expected more memory for this process (see `ulimit -v`)"
        _close_progress_bars()
        click.echo(f"error: {' '.join(message.split())}", err=True)
        sys.exit(2)


def _in_words(error: click.ClickException) -> str:
    """Return click's message in one line that starts with the argument or option."""
    message = error.format_message()
    if (
        isinstance(error, click.BadParameter)
        and not isinstance(error, click.MissingParameter)
        and error.param
    ):
        option = isinstance(error.param, click.Option)
        message = f"{max(error.param.opts, key=len) if option else error.param.name}: {error.message}"
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"; see `{context.command_path} --help`" if context else ""
    return f"{' '.join(message.split()).removesuffix('.')}{hint}"


def _close_progress_bars() -> None:
    """End the lines of progress bars, so that what follows stands on a line of its own."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "path",
    envvar="CLIP2SCENE_CONFIG",
    default="config/config.yaml",
    show_default=True,
    show_envvar=True,
    help="Configuration file (YAML).",
)
@click.version_option(package_name="clip2scene")
@click.pass_context
def main(context: click.Context, path: str) -> None:
    """From raw data sets to a table beside CLIP2Scene's published numbers, stage by stage.

    The whole of it: snakemake --cores all results/table_main.csv
    """
    if not path:
        raise InputError("--config: found an empty path; expected a YAML file")
    if not sys.stderr.isatty():  # a progress bar in a log file: a line every 10 s
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    context.obj = path


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
processes_option = click.option(
    "--processes", type=click.IntRange(1, 1024), default=1, show_default=True, help="Worker processes."
)


def examples(*lines: str) -> str:
    """Return the end of a help text that shows command lines as they are."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def study_of(path: str) -> Study:
    """Read the configuration and its table of experiments."""
    return Study(load_config(path))


def data_set(path: str, dataset: str) -> Study:
    """Return the study, whose configuration must hold `dataset`."""
    study = study_of(path)
    if dataset not in study.config.datasets:
        raise unknown(f"{path}: datasets", dataset, study.config.datasets)
    return study


def known_table(table: str) -> str:
    """Return the name of a registered table.

    Raises:
        InputError: there is no such table; the nearest name is given.
    """
    if table not in all_names():
        raise unknown("table", table, all_names())
    return table


def find_run(study: Study, text: str) -> Run:
    """Return the run that a key, or a name that ends in a key, stands for.

    Raises:
        InputError: the study has no such run; the nearest is named.
    """
    key = key_of(text)
    if key not in study.runs:
        names = [name for run in study.runs.values() for name in (run.key, run.name)]
        raise unknown(f"{study.config.experiments}: run", text, names)
    return study.runs[key]


def key_of(text: str) -> str:
    """Return the key that a run's name ends in, as names of files do; any other text as it is."""
    return text.rpartition("-")[2] if re.fullmatch(rf".+-[0-9a-f]{{{KEY_LENGTH}}}", text) else text


def select(study: Study, names: Iterable[str]) -> list[Run]:
    """Return the runs that names of runs, stages or tables stand for; a run after those it reads from.

    Raises:
        InputError: a name stands for no run of the study; the nearest name is given.
    """
    chosen: set[str] = set()
    kinds = {run.kind for run in study.runs.values()}
    for name in names:
        if key_of(name) in study.runs:
            chosen.add(key_of(name))
        elif name in kinds:
            chosen |= {key for key, run in study.runs.items() if run.kind == name}
        elif name in all_names():
            chosen |= study.runs_of(name).keys()
        else:
            valid = [*study.runs, *kinds, *all_names()]
            raise unknown(f"{study.config.experiments}: run, stage or table", name, valid)
    return [run for key, run in study.runs.items() if key in chosen]
