"""Tables of experiments of a few rows, and the studies that they ask for."""

from pathlib import Path

from clip2scene.config import Config, parse_config
from clip2scene.experiments import Experiment
from clip2scene.runs import Run
from clip2scene.study import Study

HEADER = list(Experiment.model_fields)
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0 1",
}  # fmt: skip
TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1 2",
}  # fmt: skip
RANDOM = TUNED | {"method": "random", "pretrain": "", "pretrain_seeds": ""}
TEACHER = {"protocol": "annotation_free", "method": "maskclip_projection", "target": "nuscenes"}


def write(path: Path, *rows: dict[str, str], header: list[str] = HEADER) -> Path:
    lines = ["\t".join(header), *("\t".join(row.get(name, "") for name in header) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def config(tmp_path: Path, *rows: dict[str, str], **settings) -> Config:
    path = write(tmp_path / "experiments.tsv", *rows)
    values = {"datasets": {"nuscenes": {"root": "data", "synthetic": {}}}, **settings}
    return parse_config({"experiments": str(path)} | values, "f.yaml")


def study(tmp_path: Path, *rows: dict[str, str], **settings) -> Study:
    return Study(config(tmp_path, *rows, **settings))


def keys(study: Study) -> dict[str, set[str]]:
    """Return the keys of a study's runs by stage."""
    found: dict[str, set[str]] = {}
    for run in study.runs.values():
        found.setdefault(run.kind, set()).add(run.key)
    return found


def changed(before: Study, after: Study) -> set[str]:
    """Return the stages of whose runs not one has the same key; the others have kept all of them."""
    old, new = keys(before), keys(after)
    assert old.keys() == new.keys()
    for kind in old:
        assert old[kind] == new[kind] or not old[kind] & new[kind], kind
    return {kind for kind in old if old[kind] != new[kind]}


def cells(study: Study) -> list[list[Run]]:
    return [study.cell(experiment) for experiment in study.experiments]


def above(study: Study, run: Run) -> list[Run]:
    """Return all that a run reads from, directly or not."""
    return study.with_parents([run])[:-1]


STREETS_AND_ROOMS = {
    "nuscenes": {"root": "streets", "synthetic": {}},
    "scannet": {"format": "scannet", "root": "rooms", "version": "scans", "synthetic": {}},
}
