"""A study of one row on a download, and what its runs have written."""

from pathlib import Path

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.experiments import Experiment
from clip2scene.run_files import read_description
from clip2scene.runs import Run
from clip2scene.study import Study


def config_of(folder: Path, root: Path) -> Config:
    """Return a configuration with one row: a network fine-tuned on half of the labels."""
    row = {"protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes"}
    row |= {"percent": "50", "rule": "frame_skip", "seeds": "0"}
    lines = (Experiment.model_fields, [row.get(name, "") for name in Experiment.model_fields])
    (folder / "experiments.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    return Config(
        experiments=folder / "experiments.tsv",
        results=folder / "results",
        device="cpu",
        datasets={"nuscenes": {"root": root, "version": "v1.0-tiny"}},
    )


def of_kind(study: Study, kind: str) -> Run:
    (run,) = [run for run in study.runs.values() if run.kind == kind]
    return run


def description(config: Config, run: Run) -> dict:
    return read_description(layout.run_folder(config, run))


def written(folder: Path) -> dict[str, int]:
    """Return when each file of a folder was written, nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
