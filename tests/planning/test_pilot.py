"""A pilot counts what runs will do, measures it on a few units, and leaves results alone."""

import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from studies import config_of, of_kind

from clip2scene import layout
from clip2scene.compute import compute
from clip2scene.config import load_config
from clip2scene.datasets.index import read_index
from clip2scene.planning import stand_ins
from clip2scene.planning.costs import Time
from clip2scene.planning.measure import Moment, _own_memory, new_processes, rate
from clip2scene.planning.pilot import run_pilot
from clip2scene.planning.shorten import short_config, short_index, steps
from clip2scene.run_files import read_metrics
from clip2scene.runs import Run
from clip2scene.study import Study

PAPER = Path(__file__).parents[2] / "config/paper.yaml"
PRETRAIN = Run("pretrain", method="clip2scene", recipe="fixed", backbone="spvcnn", pretrain="nuscenes")
KITTI = Run("finetune", method="random", backbone="spvcnn", target="semantickitti", percent=100)


def test_a_pilot_knows_every_run_and_touches_none(download, tmp_path):
    """Its counts against those of the runs themselves, which are computed here."""
    config = config_of(tmp_path, download)
    told: list[str] = []
    for folder in ("pilot", ".pilot-killed"):  # somebody's own, and one that a killed pilot left
        (config.results / folder).mkdir(parents=True)
        (config.results / folder / "file").touch()
    costs = run_pilot(config, 3, 1, told.append, jobs=2)
    study = Study(config)
    assert list(costs.runs) == list(study.runs)
    assert [line.partition(":")[0] for line in told] == ["index", "subset", "finetune", "predict"]
    assert not costs.stand_ins
    left = {path.name for path in config.results.rglob("*") if path.is_file()}
    assert left == {"file", "pilot.lock"}
    assert not list(config.results.glob(".pilot-*"))
    for run in study.runs.values():
        compute(study, run)
    tuned, predicted = of_kind(study, "finetune"), of_kind(study, "predict")
    folder = layout.run_folder(config, tuned)
    assert costs.runs[tuned.key].units == read_metrics(folder)["cost"]["steps"]
    assert costs.runs[predicted.key].units == read_metrics(layout.run_folder(config, predicted))["frames"]
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert costs.runs[tuned.key].bytes == pytest.approx(size, rel=0.05)
    kind = costs.kinds[costs.runs[tuned.key].kind]
    assert (kind.stage, kind.unit, kind.measured) == ("finetune", "step", 4)  # 2 epochs of 2 steps
    assert kind.seconds.unit > 0
    assert 0 < kind.waiting < 1
    assert kind.memory_mib > 100
    run = costs.runs[tuned.key]
    assert run.seconds == pytest.approx(kind.seconds.total(run.units))


def test_a_measured_run_starts_its_loaders_as_the_run_itself_does():
    with new_processes(1) as pool:
        found = pool.submit(eval, "__import__('multiprocessing').get_start_method()").result()
    assert found == multiprocessing.get_start_method()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process shares")
def test_memory_that_a_loader_shares_with_its_run_counts_once():
    """A forked process reads 64 MiB of its parent's and writes 32 MiB of its own."""
    shared = np.ones(64 << 20, np.uint8)
    ready, leave = multiprocessing.Pipe()

    def load() -> None:
        assert shared.sum() == 64 << 20
        own = np.ones(32 << 20, np.uint8)
        ready.send(len(own))
        ready.recv()

    process = multiprocessing.get_context("fork").Process(target=load)
    process.start()
    assert leave.recv() == 32 << 20
    own = _own_memory(process.pid)
    leave.send("end")
    process.join()
    assert 32 <= own < 64
    assert _own_memory(process.pid) == 0
    assert _own_memory(os.getpid()) > 32


def test_the_time_of_a_unit_leaves_out_the_first_ones():
    """By hand: 4 units take 10 s, the next 6 take 3 s, of which 1.5 s are spent in waiting."""
    moments = [Moment(0, 0, 0, 0), Moment(4, 10, 9, 2), Moment(10, 13, 11, 3.5)]
    assert rate(moments) == (0.5, pytest.approx(1 / 3), 0.5, 10)


def test_the_time_of_units_that_end_together_is_that_since_the_bar_opened():
    assert rate([Moment(0, 1, 0, 0), Moment(2, 5, 2, 1)]) == (2.0, 1.0, 0.25, 2)
    assert rate([Moment(0, 1, 0, 0)]) == (0, 0, 0, 0)
    assert rate([]) == (0, 0, 0, 0)


def test_a_run_without_units_is_measured_whole():
    """A synthetic data set of 4 scenes: 1 s to start, 2 s, and 3 s a scene."""
    time = Time(start=1, fixed=2, unit=3).whole(4)
    assert time.total(0) == time.total(7) == 15
    assert time.total(0, start=False) == 14


def test_a_shortened_run_keeps_all_that_decides_what_a_step_costs():
    config = load_config(PAPER)
    whole = config.pretraining("nuscenes", "clip2scene", "fixed")
    short, frames = short_config(config, PRETRAIN, 8)
    shortened = short.pretraining("nuscenes", "clip2scene", "fixed")
    assert shortened == whole.model_copy(update={"epochs": 4})
    assert frames == 2 * whole.batch_size  # 4 epochs of 2 steps
    assert steps(short, PRETRAIN, frames) == 8
    short, frames = short_config(config, KITTI, 2)
    assert steps(short, KITTI, frames) == 2
    assert short.finetuning("semantickitti").batch_size == 10


def test_keyframes_come_again_where_there_are_too_few(tiny_index, tiny_root):
    index = read_index(tiny_index, tiny_root)
    frames = len(index.split("train"))
    few = short_index(index, "train", 2)
    assert len(few) == 2
    assert {*few.ids} < {*short_index(index, "train", 3).ids}
    many = short_index(index, "train", 2 * frames + 1)
    assert len(set(many.ids)) == 2 * frames + 1
    assert many.frames["points"].tolist() == 2 * index.split("train").frames["points"].tolist() + [
        index.split("train").frames["points"].iloc[0]
    ]


def test_the_papers_lengths():
    """SLidR's 2,000 steps on 1 % of SemanticKITTI; 25 epochs of its 19,130 scans at 10 a step."""
    config = load_config(PAPER)
    frames = stand_ins.PUBLISHED["semantickitti", "train"]
    assert steps(config, KITTI, 192) == 2000
    assert steps(config, KITTI, frames) == 25 * 1913
    assert steps(config, PRETRAIN, stand_ins.PUBLISHED["nuscenes", "parametrize"]) == 20 * 6028


@pytest.mark.parametrize(
    ("format_", "written"),
    [("nuscenes", "nuscenes"), ("semantickitti_released", "semantickitti"), ("mine", None)],
)
def test_what_can_stand_in_for_a_data_set(format_, written):
    assert stand_ins.family(format_) == written
