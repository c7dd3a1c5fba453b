"""Captions of tables and figures, a reStructuredText file each: for the report, and for Snakemake's own."""

from pathlib import Path


def path(name: str) -> Path | None:
    """Return the file of a caption; None if there is none, as for a table of another package."""
    file = Path(__file__).with_name(f"{name}.rst")
    return file if file.is_file() else None


def caption(name: str) -> str:
    """Return a caption in one line; empty if there is none."""
    file = path(name)
    return " ".join(file.read_text().split()) if file else ""
