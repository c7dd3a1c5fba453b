"""Resources of a cluster's jobs, by hand from what the pilot measured."""

from types import SimpleNamespace

import pytest
from rows import FREE, TUNED, config

from clip2scene.planning.costs import Costs, Kind, RunCost, Time
from clip2scene.planning.resources import planned
from clip2scene.workflow import Workflow

NOTHING = Time(start=0, fixed=0, unit=0)


@pytest.fixture
def study(tmp_path) -> Workflow:
    settings = {"backbones": {"spvcnn": {}}, "share_process": False, "results": str(tmp_path)}
    return Workflow(config(tmp_path, FREE, TUNED, **settings))


def costs_of(study: Workflow, seconds: float, memory_mib: float) -> Costs:
    """Every run takes the same; two processes train."""
    kind = Kind(
        stage="any", title="", unit="", measured=1, seconds=NOTHING, cpu_seconds=NOTHING, waiting=0,
        memory_mib=memory_mib, gpu_memory_mib=0, batch_mib=0, open_files=0, bytes=0, unit_bytes=0,
    )  # fmt: skip
    run = RunCost(kind="any", units=1, validated=0, seconds=seconds, cpu_seconds=0, bytes=0)
    runs = dict.fromkeys(study.runs, run)
    return Costs(machine="", made="", processes=2, stand_ins=[], kinds={"any": kind}, runs=runs, needs=[])


def test_time_and_memory_are_the_pilot_s_with_room(study, tmp_path):
    costs_of(study, seconds=7200, memory_mib=4000).write(tmp_path / "plan.json")
    asked, job = planned(study), SimpleNamespace(job=next(iter(study.jobs)))
    assert asked["runtime"](job) == 180 + 15  # two hours and a half more
    assert asked["mem_mb"](job, attempt=1) == 10_000 + 1000  # a quarter more of two processes'
    assert asked["mem_mb"](job, attempt=2) == 2 * 11_000
    part = SimpleNamespace(job=job.job, scatteritem="7-of-100")
    assert asked["runtime"](part) == 2 + 15  # 1.8 minutes, rounded up


def test_without_a_plan_a_profile_s_defaults_hold(study):
    assert planned(study) == {}


def test_a_plan_of_another_study_is_left_aside_and_said_so(study, tmp_path, capsys):
    costs = costs_of(study, 1, 1)
    key = sorted(costs.runs)[0]
    costs.model_copy(update={"runs": {k: c for k, c in costs.runs.items() if k != key}}).write(
        tmp_path / "plan.json"
    )
    assert planned(study) == {}
    assert f"does not know 1 of {len(study.runs)} runs, {key} first" in capsys.readouterr().err


def test_a_damaged_plan_ends_in_one_line(study, tmp_path, capsys):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        planned(study)
    assert capsys.readouterr().err.startswith("error: ")
