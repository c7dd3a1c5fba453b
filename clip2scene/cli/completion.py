"""Completion in shells: the command that installs it, and arguments that complete names of the study."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from clip2scene.cli.base import examples, main, study_of
from clip2scene.errors import InputError
from clip2scene.reporting.registry import all_names, table_names
from clip2scene.stages.base import stage_names
from clip2scene.study import Study

VARIABLE = "_CLIP2SCENE_COMPLETE"
"""Environment variable by which a shell asks `clip2scene` for completions (click's protocol)."""
Named = Iterable[tuple[str, str]]
"""Names and what they stand for."""


def completing(*sources: Callable[[Study], Named]) -> Callable[..., list[CompletionItem]]:
    """Return a completer of click that offers the names of the study in the configuration."""

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        try:
            study = study_of(context.find_root().params["path"])
        except InputError:  # a configuration that cannot be read has no names
            return []
        named = {name: words for source in sources for name, words in source(study)}
        return [CompletionItem(name, help=words) for name, words in named.items() if name.startswith(typed)]

    return complete


def runs(study: Study) -> Named:
    """Yield the keys and the names of the study's runs."""
    for run in study.runs.values():
        yield run.key, f"{run.kind}: {run.title}"
        yield run.name, run.title


def stages(study: Study) -> Named:
    """Yield the stages."""
    return ((name, "stage") for name in stage_names())


def tables(study: Study) -> Named:
    """Yield the tables and summaries."""
    return ((name, "table") for name in all_names())


def published_tables(study: Study) -> Named:
    """Yield the tables that can be published."""
    return ((name, "table") for name in table_names())


def datasets(study: Study) -> Named:
    """Yield the data sets of the configuration."""
    return ((name, section.format) for name, section in study.config.datasets.items())


dataset_argument = click.argument("dataset", shell_complete=completing(datasets))
table_argument = click.argument("table", shell_complete=completing(tables))


@click.command(
    epilog=examples(
        'eval "$(clip2scene completion bash)"  # in ~/.bashrc; zsh: the same in ~/.zshrc',
        "clip2scene completion fish > ~/.config/fish/completions/clip2scene.fish",
    )
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the script by which SHELL completes commands, options, runs, tables and data sets."""
    script = get_completion_class(shell)
    assert script is not None  # click has all three
    click.echo(script(main, {}, "clip2scene", VARIABLE).source())
