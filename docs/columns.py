"""Write docs/columns.md, the meaning of every column of every table, from the code that writes the tables.

``make docs`` runs it; a test holds the page to the code.
"""

from pathlib import Path

from clip2scene.reporting.ablation import ABLATION
from clip2scene.reporting.answers import CLAIMS
from clip2scene.reporting.columns import explained
from clip2scene.reporting.label_fraction import LABEL_FRACTION
from clip2scene.reporting.main import MAIN
from clip2scene.reporting.numbers import NUMBERS
from clip2scene.reporting.results import COMPARISONS

PAGE = Path(__file__).parent / "columns.md"
COLUMNS = {
    "table_main.csv": MAIN,
    "table_label_fraction.csv": LABEL_FRACTION,
    "table_ablation.csv": ABLATION,
    "claims.csv": CLAIMS,
    "results.csv": NUMBERS,
    "comparisons.csv": COMPARISONS,
}
"""Columns of each table, in their order. The other tables have a column a class or a data set."""
HEAD = """# Columns of every table

Written by `docs/columns.py` from the code that writes them. [Read the tables](tables.md) says what for.
"""


def page() -> str:
    """Return the page."""
    return (
        "\n".join([HEAD.rstrip(), *(line for file in COLUMNS for line in explained(file, COLUMNS[file]))])
        + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page())
