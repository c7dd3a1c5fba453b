"""With `processes: 2`, rules start torchrun: two processes train each network, and everything else is one."""

import json

import pytest
from checkouts import since

pytestmark = pytest.mark.workflow


def test_two_processes_train_what_a_table_needs(site):
    before = site.history()
    site.configure(processes=2, pretrain={"batch_size": 2}, finetune={"batch_size": 2})
    site.snakemake("results/table_cross_domain.csv")
    made = [run for identity, run in site.history().items() if identity not in before]
    assert {run["kind"] for run in made} == {"pretrain", "finetune", "annotation_free", "predict"}
    trained = [run for run in made if run["kind"] in ("pretrain", "finetune")]
    assert {run["settings"]["processes"] for run in trained} == {2}
    assert {run["status"] for run in made} == {"finished"}
    assert "cross_domain: verified" in site.clip2scene("verify", "cross_domain")
    lines = (site.results / "runs" / trained[0]["key"] / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))  # one process logs
    assert since(before, site)
