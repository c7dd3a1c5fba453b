"""A finished table as a Workflow Run RO-Crate, which others can archive, cite and check.

It follows the Workflow Run Crate profile 0.5: the workflow, its inputs and outputs, and the action that made
the outputs of the inputs. Every run is an action of its own, as in Provenance Run Crate. ``rocrate`` is an
optional extra, imported when it is asked for.
"""

import importlib.metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.files import new_directory
from clip2scene.reporting.base import get_table
from clip2scene.run_files import finished, read_description
from clip2scene.runs import Run
from clip2scene.study import Study

PROFILES = (
    "https://w3id.org/ro/wfrun/process/0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
)
KEPT = ("run.json", "metrics.json", "metrics.jsonl", "confusion.npz", "subset.json")
"""Files of a run that the crate holds: what the table's numbers are computed from. Weights are left out;
run.json has their hashes."""
SOURCES = ("Snakefile", "rules", "environment.yml", "requirements.lock")
"""The workflow's own files, of those that are there."""


def rocrate_library() -> ModuleType:
    """Return the library `rocrate`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import rocrate.rocrate
    except ImportError:
        raise InputError("rocrate: is not installed; expected it: pip install 'clip2scene[crate]'") from None
    return rocrate.rocrate


def publish_table(study: Study, table: str, out: Path) -> int:
    """Write a finished table, its runs and its workflow into a new folder, as a Workflow Run RO-Crate.

    Args:
        study: The study.
        table: Registered table.
        out: The folder; it must not exist, or be empty.

    Returns:
        The number of runs.

    Raises:
        InputError: `rocrate` is not installed, the table or a run is not finished, the current folder has no
            Snakefile, or `out` holds something.
    """
    library = rocrate_library()
    if not Path("Snakefile").is_file():
        raise InputError("Snakefile: no such file; expected the folder of the workflow as the current one")
    files = [study.config.results / name for name in get_table(table).files]
    for path in files:
        if not path.is_file():
            raise InputError(f"{path}: no such file; `clip2scene table {table}` writes it")
    runs = list(study.runs_of(table).values())
    for run in runs:
        if not finished(layout.run_folder(study.config, run)):
            raise InputError(
                f"run {run.key} ({run.kind}: {run.title}): is not finished; `clip2scene run {table}`"
            )
    crate = library.ROCrate()
    crate.name = f"CLIP2Scene, table {table}, study {study.name}"
    crate.description = (
        f"The table {table} of CLIP2Scene's reproduction (arXiv 2301.04926), the confusion matrices that its "
        f"numbers are computed from, and the workflow that made them: {len(runs)} runs."
    )
    crate.license = "https://www.apache.org/licenses/LICENSE-2.0"
    profiles = [crate.add(_entity(crate, id, "CreativeWork", {"name": id})) for id in PROFILES]
    crate.root_dataset["conformsTo"] = profiles
    workflow = _workflow(crate)
    inputs = [
        crate.add_file(str(path), f"config/{path.name}")
        for path in (study.file, study.file.parent / "experiments.tsv")
    ]
    outputs = [crate.add_file(str(path), path.name) for path in files]
    times = [read_description(layout.run_folder(study.config, run)) for run in runs]
    actions = {run.key: _action(crate, study, run) for run in runs}
    for run in runs:
        reads = {study.keyed(parent).key for parent in study.parents(run).values()}
        made = [
            item for key in sorted(reads & actions.keys()) for item in _as_list(actions[key].get("result"))
        ]
        if made:
            actions[run.key]["object"] = made
    whole = _entity(crate, f"#workflow-{study.name}", "CreateAction", {
        "name": f"snakemake: table {table}",
        "startTime": min(values["started"] for values in times),
        "endTime": max(values["ended"] for values in times),
        "actionStatus": "http://schema.org/CompletedActionStatus",
    })  # fmt: skip
    crate.add(whole)
    whole["instrument"], whole["object"], whole["result"] = workflow, inputs, outputs
    crate.root_dataset["mentions"] = [whole, *actions.values()]
    with new_directory(out) as made:
        crate.write(str(made))
    return len(runs)


def _entity(crate: Any, identifier: str, kind: str, properties: dict[str, Any]) -> Any:
    from rocrate.model.contextentity import ContextEntity

    return ContextEntity(crate, identifier, properties={"@type": kind, **properties})


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _workflow(crate: Any) -> Any:
    """Add the Snakefile, its rules and its environment; return the workflow."""
    workflow = crate.add_workflow("Snakefile", "Snakefile", main=True, lang="snakemake")
    workflow["name"] = "From raw data sets to a table beside CLIP2Scene's published numbers"
    parts = []
    for name in SOURCES[1:]:
        path = Path(name)
        found = sorted(path.glob("*.smk")) if path.is_dir() else [path] * path.is_file()
        parts += [crate.add_file(str(file), file.as_posix()) for file in found]
    workflow["hasPart"] = parts
    software = _entity(crate, "#clip2scene", "SoftwareApplication", {
        "name": "clip2scene", "softwareVersion": importlib.metadata.version("clip2scene")
    })  # fmt: skip
    crate.add(software)
    return workflow


def _action(crate: Any, study: Study, run: Run) -> Any:
    """Add a run with the files that it left; return its action."""
    folder = layout.run_folder(study.config, run)
    values = read_description(folder)
    action = _entity(crate, f"#run-{run.key}", "CreateAction", {
        "name": f"{run.kind}: {run.title}",
        "startTime": values["started"],
        "endTime": values["ended"],
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "identifier": values["fingerprint"],
    })  # fmt: skip
    crate.add(action)
    action["instrument"] = crate.dereference("#clip2scene")
    action["result"] = [
        crate.add_file(str(folder / name), f"runs/{run.key}/{name}")
        for name in KEPT
        if (folder / name).is_file()
    ]
    return action
