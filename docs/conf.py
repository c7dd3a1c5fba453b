"""Configuration of the documentation: `make docs` builds it into docs/_build/html."""

from importlib.metadata import version as installed
from typing import Any

from click import Context
from sphinx.application import Sphinx

project = "CLIP2Scene, made checkable"
author = "The clip2scene contributors"
project_copyright = author
release = version = installed("clip2scene")

extensions = ["myst_parser", "sphinx_click"]
exclude_patterns = ["_build"]
highlight_language = "text"  # of blocks that name none
smartquotes = False  # two dashes of an option stay two
myst_heading_anchors = 3  # links to headings, as GitHub makes them
default_role = "literal"  # `so`, in the help texts of commands

html_theme = "furo"
html_title = project
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False


def setup(app: Sphinx) -> None:
    """Show the examples of a command's help as they are written."""
    app.connect("sphinx-click-process-epilog", _examples)


def _examples(app: Sphinx, context: Context, lines: list[str]) -> None:
    """Replace the lines of an epilog by a block of code, in place."""
    epilog: Any = context.command.epilog
    if epilog and epilog.startswith("\b"):
        head, *examples = epilog.removeprefix("\b").strip("\n").splitlines()
        lines[:] = [
            head.strip(),
            "",
            ".. code-block:: sh",
            "",
            *(f"   {line.strip()}" for line in examples),
            "",
        ]
