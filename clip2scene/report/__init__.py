"""The report: every table, curve and run of a study on one page that needs no network."""

from pathlib import Path

from clip2scene.provenance import code_hash, digest


def stamp() -> str:
    """Return a digest of all that makes the page of the same results: code, templates and captions."""
    here = Path(__file__).parent
    texts = [path.read_text() for path in sorted([*here.glob("page/*"), *here.glob("captions/*.rst")])]
    return digest(code_hash("clip2scene.report.page"), texts)
