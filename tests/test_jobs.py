"""Jobs of a study: which runs share a process, and that no job holds more than its table needs."""

from graphlib import TopologicalSorter

import pytest

from clip2scene.config import Config, load_config
from clip2scene.workflow import Workflow


@pytest.fixture(params=["config/config.yaml", "config/paper.yaml"])
def config(request) -> Config:
    return load_config(request.param)


def job_of(study: Workflow) -> dict[str, str]:
    return {run.key: name for name, runs in study.jobs.items() for run in runs}


def test_every_run_is_computed_by_one_job_after_those_it_reads_from(config):
    study = Workflow(config)
    runs = [run.key for job in study.jobs.values() for run in job]
    assert sorted(runs) == sorted(study.runs)
    for job in study.jobs.values():
        for place, run in enumerate(job):
            later = {other.key for other in job[place:]}
            assert not later & {parent.key for parent in study.parents(run).values()}


@pytest.mark.parametrize("share", [True, False])
def test_jobs_never_wait_for_each_other(config, share):
    study = Workflow(config.model_copy(update={"share_process": share}))
    jobs = job_of(study)
    waits = {
        name: {jobs[parent.key] for run in runs for parent in study.parents(run).values()} - {name}
        for name, runs in study.jobs.items()
    }
    assert set(TopologicalSorter(waits).static_order()) == set(study.jobs)  # raises CycleError on a cycle


def test_the_first_tables_jobs_compute_nothing_that_it_does_not_need(config):
    study = Workflow(config.model_copy(update={"share_process": True}))
    jobs, needed = job_of(study), study.runs_of("main")
    asked = {run.key for name in {jobs[key] for key in needed} for run in study.jobs[name]}
    assert asked == set(needed)


def test_a_method_is_pre_trained_tuned_and_judged_in_one_process():
    study = Workflow(load_config("config/config.yaml"))
    main = study.runs_of("main")
    mine = (job for job in study.jobs.values() if job[0].method == "ppkt" and job[0].key in main)
    shared = [job for job in mine if len(job) > 1]
    assert len(shared) == 2  # on nuScenes and on ScanNet
    for job in shared:
        assert {run.kind for run in job} == {"pretrain", "finetune", "predict"}
        assert len({run.seed for run in job if run.kind == "pretrain"}) == 3


def test_a_job_holds_one_run_where_none_share():
    study = Workflow(load_config("config/config.yaml").model_copy(update={"share_process": False}))
    assert all(len(job) == 1 for job in study.jobs.values())
