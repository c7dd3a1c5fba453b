"""The command line. The Snakemake rules call it, and every stage also runs by hand.

Nothing heavy is imported before the subcommand that needs it runs.
"""

import atexit
import gc

import clip2scene.cli.interpreter  # noqa: F401 - first: it refuses versions of Python that the rest does not run on
from clip2scene.cli.base import main
from clip2scene.cli.checkpoints import export_checkpoint, import_checkpoint
from clip2scene.cli.completion import completion
from clip2scene.cli.data import check_data, index, subset, superpixels, synthesize, text_embeddings
from clip2scene.cli.networks import predict, submit, view
from clip2scene.cli.planning import pilot, plan
from clip2scene.cli.publishing import import_published, publish
from clip2scene.cli.results import (
    collect,
    decide,
    explain,
    figures,
    reference,
    report,
    schema,
    show,
    sync,
    table,
    verify,
)
from clip2scene.cli.runs import clean, run, runs, why

__all__ = ["main"]

# What torch's import makes stays. To look through it takes half a second, and at the end a whole one.
gc.set_threshold(50_000)
atexit.register(gc.freeze)
main.add_section("Data", check_data, synthesize, index, subset, superpixels, text_embeddings)
main.add_section("Runs", runs, run, why, explain, pilot, plan, decide, clean)
main.add_section("Results", show, report, verify, reference, figures, sync, table, collect)
main.add_section(
    "Networks", predict, submit, view, publish, import_published, import_checkpoint, export_checkpoint
)
main.add_section("Tools", completion, schema)
