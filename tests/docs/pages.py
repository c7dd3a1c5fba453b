"""Parts of the documentation that can be checked: code blocks, commands, links, paths."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

_BLOCK = re.compile(r"^```(\{?[\w-]*\}?)[^\n]*\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.M)


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page that are marked with a language."""
    return [body for name, body in _BLOCK.findall(page.read_text()) if name == language]


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _BLOCK.sub("", page.read_text())


def commands(page: Path) -> list[str]:
    """Return the commands of a page's shell blocks, one a line; comments are left out."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures, and the files that it includes."""
    included = re.findall(r"^```\{literalinclude\} (\S+)", page.read_text(), re.M)
    return _LINK.findall(prose(page)) + included


def anchors(page: Path) -> set[str]:
    """Return the names by which GitHub and MyST link to a page's headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(prose(page))
    }


def quoted(page: Path) -> Iterator[str]:
    """Yield what a page's prose sets in code font, and what its diagrams and tables do."""
    yield from re.findall(r"`([^`\n]+)`", prose(page))
