"""The paper's configuration at full width, for a step of each stage, on a real keyframe and a real scan.

`make rehearsal` runs it. A batch holds two samples, so that it ends in minutes. No GPU and no weights are
needed: it computes on the CPU, from random weights. There are no real files of ScanNet here: a synthetic room
of the same size stands in.
"""

import os
import shutil
from pathlib import Path

import pytest

from clip2scene.config import parse_config
from clip2scene.config_data import merged
from clip2scene.config_yaml import load_yaml
from clip2scene.planning.pilot import run_pilot
from clip2scene.stages.base import stage_names
from clip2scene.study import Study
from clip2scene.synthetic.real_keyframe import write_keyframe

PAPER = Path(__file__).parents[2] / "config/paper.yaml"
ROWS = Path(__file__).with_name("rehearsal.tsv")
TWO = {"batch_size": 2}
SMALL = {
    "pretrain": TWO,
    "finetune": TWO | {"by_backbone": {"res16unet34c": TWO}},
    "datasets": {"semantickitti": {"finetune": TWO}, "scannet": {"pretrain": TWO, "finetune": TWO}},
}
"""Batches of two, wherever the paper's configuration has a size."""
SYNTHETIC_ONLY = {"synthetic"}
"""Stages that the paper's configuration has no use for."""


def lay_out_scan(source: Path, root: Path) -> None:
    """Lay out one real scan as a sequence to learn from and as the one to be judged on."""
    for sequence in ("00", "08"):
        for folder, suffix in (("velodyne", "bin"), ("labels", "label")):
            (root / "sequences" / sequence / folder).mkdir(parents=True)
            shutil.copy(source / "sequence-00" / f"000000.{suffix}", root / "sequences" / sequence / folder)


@pytest.mark.skipif(
    "CLIP2SCENE_REHEARSAL" not in os.environ, reason="takes ten minutes or more: `make rehearsal`"
)
def test_every_stage_of_the_papers_configuration_at_full_width(shared_data, tmp_path):
    write_keyframe(shared_data / "nuscenes_scene-0061", tmp_path / "nuscenes", "v1.0-keyframe")
    lay_out_scan(shared_data / "semantickitti", tmp_path / "semantickitti")
    here = {
        "experiments": str(ROWS),
        "results": str(tmp_path / "results"),
        "device": "cpu",
        "precision": "32-true",  # a CPU without bf16 instructions emulates them
        "threads": os.cpu_count(),
        "workers": 0,
        "datasets": {
            "nuscenes": {"root": str(tmp_path / "nuscenes"), "version": "v1.0-keyframe"},
            "semantickitti": {"root": str(tmp_path / "semantickitti")},
        },
    }
    config = parse_config(merged(merged(load_yaml(PAPER), here), SMALL), str(PAPER))
    costs = run_pilot(config, 1, os.cpu_count() or 1, lambda line: print(line, flush=True))
    for kind in costs.kinds.values():
        seconds, cpu_seconds = (
            clock.total(kind.measured, start=True) for clock in (kind.seconds, kind.cpu_seconds)
        )
        print(
            f"{seconds:7.1f} s, {cpu_seconds:7.1f} s of CPU, {kind.memory_mib / 1024:5.1f} GiB  "
            f"{kind.stage}: {kind.title} ({kind.measured} x {kind.seconds.unit:.1f} s)"
        )
    assert {kind.stage for kind in costs.kinds.values()} == {*stage_names()} - SYNTHETIC_ONLY
    assert costs.runs.keys() == Study(config).runs.keys()
    for kind in costs.kinds.values():
        assert kind.measured or not kind.unit, kind.title
        assert kind.seconds.unit > 0 or not kind.unit, kind.title
    assert any("scannet" in line for line in costs.stand_ins)
    assert not any("kitti" in line or "nuscenes" in line for line in costs.stand_ins)
