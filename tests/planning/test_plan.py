"""Rows that a budget buys, on studies small enough to solve by hand or by trying everything."""

import json
from itertools import combinations

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import FREE, RANDOM, TEACHER, TUNED, study, write

from clip2scene.cli import main
from clip2scene.cli.planning import seconds_of
from clip2scene.config import load_config
from clip2scene.errors import InputError
from clip2scene.experiment_table import load_experiments
from clip2scene.experiments import Experiment
from clip2scene.planning.costs import Costs, RunCost, Time
from clip2scene.planning.plan import Row, choose, in_order, rows_of, total, write_rows
from clip2scene.study import Study

E = Experiment(protocol="annotation_free", method="maskclip_projection", target="nuscenes")


def row(runs: str, cells: int = 1, chain: float = 0) -> Row:
    return Row(E, frozenset(runs.split()), cells, chain)


def test_a_run_costs_its_start_its_fixed_part_and_its_units():
    time = Time(start=4, fixed=10, unit=0.5)
    assert time.total(100) == 4 + 10 + 50
    assert time.total(100, start=False) == 10 + 50


def test_a_shared_pretraining_is_paid_for_once():
    """By hand: 10 h of pre-training and 1 h for each of its three cells, or 4 h for a cell without it."""
    seconds = {"pretrain": 10, "a": 1, "b": 1, "c": 1, "alone": 4}
    rows = [row("pretrain a"), row("pretrain b"), row("pretrain c"), row("alone")]
    assert choose(rows, seconds, 3) == []
    assert choose(rows, seconds, 4) == [rows[3]]
    assert choose(rows, seconds, 11) == [rows[0]]  # a cell either way: the row that comes first
    assert choose(rows, seconds, 12) == rows[:2]
    assert choose(rows, seconds, 13) == rows[:3]
    assert choose(rows, seconds, 16) == rows[:3]
    assert choose(rows, seconds, 17) == rows


def test_a_row_of_two_tables_is_worth_two_cells():
    seconds = {"a": 2, "b": 2}
    rows = [row("a"), row("b", cells=2)]
    assert choose(rows, seconds, 2) == [rows[1]]


def test_rows_come_in_the_order_that_fills_most_cells_for_the_time():
    """By hand: 1/4 cells an hour; three for 10 + 3 h; two for 12 + 2 h, of which the cheaper comes first."""
    seconds = {"p": 10, "a": 1, "b": 1, "c": 1, "q": 12, "d": 1.5, "e": 0.5, "alone": 4}
    rows = [row("q d"), row("q e"), row("p a"), row("p b"), row("p c"), row("alone")]
    order = list(in_order(rows, seconds))
    assert [rows.index(each) for each, _ in order] == [5, 2, 3, 4, 1, 0]
    assert [added for _, added in order] == [4, 11, 1, 1, 12.5, 1.5]


def test_two_machines_do_nearly_twice_as_much_but_no_chain_faster():
    """Graham's bound by hand: four runs of 2 h end within 8/2 + 2/2 = 5 h on two machines."""
    seconds = {"a": 2, "b": 2, "c": 2, "d": 2}
    rows = [row(name, chain=2) for name in seconds]
    assert len(choose(rows, seconds, 5, machines=2)) == 4
    assert len(choose(rows, seconds, 4.9, machines=2)) == 3
    assert choose([row("a", chain=2)], seconds, 1.9, machines=8) == []


NAMES = "abcdef"
RUNS = st.sets(st.sampled_from(NAMES), min_size=1).map(" ".join)
ROWS = st.lists(st.builds(row, RUNS, st.integers(1, 3)), min_size=1, max_size=6)
SECONDS = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})


@settings(max_examples=60, deadline=None)
@given(ROWS, SECONDS, st.lists(st.integers(1, 40), min_size=2, max_size=3, unique=True))
def test_no_plan_exceeds_its_budget_and_a_larger_budget_never_buys_fewer_cells(rows, seconds, budgets):
    bought = []
    for budget in sorted(budgets):
        chosen = choose(rows, seconds, budget)
        assert total(chosen, seconds) <= budget
        bought.append(sum(each.cells for each in chosen))
        subsets = (each for size in range(len(rows) + 1) for each in combinations(rows, size))
        possible = (sum(r.cells for r in each) for each in subsets if total(each, seconds) <= budget)
        assert bought[-1] == max(possible)
    assert bought == sorted(bought)


def costs_of(study, seconds: dict[str, float]) -> Costs:
    runs = {
        key: RunCost(
            kind=run.kind, units=0, validated=0, seconds=seconds.get(run.kind, 1), cpu_seconds=0, bytes=0
        )
        for key, run in study.runs.items()
    }
    return Costs(machine="", made="", processes=1, stand_ins=[], kinds={}, runs=runs, needs=[])


def test_a_plan_of_a_study_is_a_table_that_it_takes(tmp_path):
    """By hand: 100 s each of two pre-trainings and the teacher, 1 s of each of the rest."""
    rows = [TEACHER, FREE, TUNED, RANDOM]
    settings = {"backbones": {"spvcnn": {}}}
    whole = study(tmp_path, *rows, **settings)
    found, seconds = rows_of(whole, costs_of(whole, {"pretrain": 100, "teacher": 100}))
    free = found[1]
    assert free.chain == 1 + 100 + 1 + 100 + 1  # data set, teacher, text, pre-training, prediction
    assert (
        len(free.runs) == 2 * 2 + 1 + 1 + 1 + 1
    )  # 2 pre-trainings and predictions; data, index, teacher, text
    chosen = choose(found, seconds, 30)
    assert [each.experiment.method for each in chosen] == ["random"]
    (tmp_path / "plan").mkdir()
    write_rows(tmp_path / "plan/plan.tsv", found, "all of it")
    again = load_experiments(whole.config.model_copy(update={"experiments": tmp_path / "plan/plan.tsv"}))
    assert again == whole.experiments


def test_a_run_that_the_pilot_did_not_know_asks_for_a_new_pilot(tmp_path):
    small = study(tmp_path, RANDOM, backbones={"spvcnn": {}})
    costs = costs_of(small, {})
    longer = study(tmp_path, RANDOM, backbones={"spvcnn": {}}, finetune={"epochs": 7})
    with pytest.raises(
        InputError, match=r"does not know run \w+ \(finetune: .*expected a new `clip2scene pilot`"
    ):
        rows_of(longer, costs)


@pytest.mark.parametrize(
    ("budget", "seconds"), [("90m", 5400), ("24h", 86_400), ("1.5d", 129_600), ("1w", 604_800)]
)
def test_a_budget_is_a_number_and_a_unit(budget, seconds):
    assert seconds_of(budget) == seconds


@pytest.mark.parametrize("budget", ["24", "h", "-3h", "0h", "24 hours"])
def test_another_budget_is_refused(budget):
    with pytest.raises(InputError, match=r"--budget: found .*; expected a time such as 90m"):
        seconds_of(budget)


def test_costs_are_read_as_they_were_written(tmp_path):
    costs = costs_of(study(tmp_path, RANDOM, backbones={"spvcnn": {}}), {})
    costs.write(tmp_path / "plan.json")
    assert Costs.read(tmp_path / "plan.json") == costs
    with pytest.raises(InputError, match="no such file; `clip2scene pilot` writes it"):
        Costs.read(tmp_path / "other.json")
    (tmp_path / "other.json").write_text('{"machine": ""}')
    with pytest.raises(InputError, match=r"other\.json: made: "):
        Costs.read(tmp_path / "other.json")


def test_the_command_lists_the_plan_and_writes_its_table(tmp_path):
    rows = write(tmp_path / "experiments.tsv", FREE, RANDOM)
    values = {
        "experiments": str(rows),
        "results": str(tmp_path / "results"),
        "datasets": {"nuscenes": {"root": str(tmp_path / "data"), "synthetic": {}}},
        "backbones": {"spvcnn": {}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    whole = Study(load_config(tmp_path / "study.yaml"))
    costs_of(whole, {"pretrain": 7200, "finetune": 600}).write(tmp_path / "results/plan.json")
    command = ["--config", str(tmp_path / "study.yaml"), "plan", "--budget", "1h"]
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 0, shown.output
    assert "finetune, random, spvcnn, nuscenes, 1 % frame_skip" in shown.output
    assert "1 cell of tables in 0.50 hours of computing (all: 2 in 4.50 hours)" in shown.output
    assert f"1 of the 2 rows of {rows} in 1h, 1 run at a time, in the order to take" in shown.output
    out = tmp_path / "results/plan.tsv"
    assert f"snakemake --cores all --config experiments={out}" in shown.output
    assert load_experiments(whole.config.model_copy(update={"experiments": out})) == [whole.experiments[1]]
    plan = json.loads(CliRunner().invoke(main, [*command, "--json"]).output)
    assert (plan["cells"], plan["rows_left_out"]) == (1, 1)
    assert plan["seconds"] == 3 * 600 + 3 + 3  # three fine-tunings and predictions; data, index and subset
