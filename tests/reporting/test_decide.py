"""`clip2scene decide`: seeds are added one by one, by what computes every run, until a claim is decided."""

import pytest
import yaml
from click.testing import CliRunner

from clip2scene import decide as module
from clip2scene import layout
from clip2scene.cli import main
from clip2scene.decide import decide_claim, with_seeds
from clip2scene.errors import InputError
from clip2scene.run_files import finished

SLIDR = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0 1 2", "seeds": "0 1",
}  # fmt: skip
PPKT = SLIDR | {"method": "ppkt"}
TEACHER = {"protocol": "annotation_free", "method": "maskclip_projection", "target": "nuscenes"}
CLAIM = {
    "claim": "better", "left": "method=slidr", "right": "method=ppkt",
    "where": "protocol=finetune percent=1 rule=frame_skip", "seeds": "6",
}  # fmt: skip
ROWS = (SLIDR | {"pretrain_seeds": "4", "seeds": "0"}, PPKT | {"pretrain_seeds": "0 7", "seeds": "0"})


def write_claims(folder, claim):
    path = folder / "claims.tsv"
    path.write_text("\t".join(claim) + "\n" + "\t".join(claim.values()) + "\n")
    return path


@pytest.fixture
def deciding(tmp_path, make_study, write_run, scored, monkeypatch):
    """Decides a claim of a study in which nothing is computed yet; returns lines and the runs computed."""

    def make(percent, *arguments, rows=ROWS, claim=CLAIM, **options):
        study = make_study(tmp_path, *rows, claims=str(write_claims(tmp_path, claim)))
        computed = []

        def compute(study, run, processes=1):
            if not finished(layout.run_folder(study.config, run)):
                predicts = run.kind in ("predict", "projection", "annotation_free")
                write_run(study, run, {"all": scored(percent(run))} if predicts else {})
                computed.append(run)

        monkeypatch.setattr(module, "compute", compute)
        return list(decide_claim(study, "better", *arguments, **options)), computed

    return make


def clear(run):
    """SLidR is better by about ten: 40 against 30, with a spread of about one."""
    return (40 if run.method == "slidr" else 30) + (run.pretrain_seed * 7 % 5) / 2


def test_seeds_are_added_until_the_claim_is_decided(deciding):
    lines, computed = deciding(clear)
    assert lines[0] == "better: slidr (spvcnn) better than ppkt (spvcnn) by at least 0"
    assert lines[1].startswith("holds at 3 seeds: difference +")
    assert lines[2:] == [line for line in lines if line.startswith("to keep it: pretrain_seeds ")]
    assert "pretrain_seeds 4 0 1 in" in lines[2]  # its own seeds first, then the smallest that are unused
    assert "pretrain_seeds 0 7 1 in" in lines[3]
    starts = [(run.method, run.pretrain_seed) for run in computed if run.kind == "predict"]
    assert starts == [
        ("slidr", 4), ("ppkt", 0), ("slidr", 0), ("ppkt", 7), ("slidr", 1), ("ppkt", 1),
    ]  # fmt: skip


def test_a_claim_that_is_false_fails(deciding):
    lines, _ = deciding(clear, claim=CLAIM | {"left": "method=ppkt", "right": "method=slidr"})
    assert lines[1].startswith("fails at 3 seeds: difference -")


def wild(run):
    """No difference, and a large spread."""
    swing = run.pretrain_seed * 13 % 7
    return 30 + swing if run.method == "slidr" else 31 - swing


def test_it_ends_where_the_plan_ends(deciding):
    lines, computed = deciding(wild)
    assert [line.split()[0] for line in lines[1:5]] == ["open"] * 4  # looks at 3, 4, 5 and 6 seeds
    assert lines[5] == "open: 6 seeds are used up, all that were planned"
    assert len([run for run in computed if run.kind == "predict"]) == 12


def test_a_budget_of_seeds_ends_it_earlier(deciding):
    lines, computed = deciding(wild, seeds=3)
    assert lines[2] == "open: 3 seeds are used up, the budget"
    assert len([run for run in computed if run.kind == "predict"]) == 6


def test_a_budget_of_time_ends_it(deciding):
    lines, computed = deciding(wild, minutes=0)
    assert lines[1:] == ["open: 0 minutes are spent"]
    assert computed == []


@pytest.mark.parametrize("seeds", [2, 7])
def test_a_budget_beyond_the_plan_is_refused(deciding, seeds):
    """A test that goes on beyond its plan errs more often."""
    with pytest.raises(InputError, match=rf"--seeds: found {seeds}; expected 3 to 6, the number"):
        deciding(clear, seeds=seeds)


def test_a_claim_whose_rows_are_not_there_is_refused(deciding):
    with pytest.raises(InputError, match=r"claim better: cannot be tested here. The study has no row with"):
        deciding(clear, rows=(SLIDR, TEACHER))


def test_a_row_keeps_its_fine_tunings_and_one_without_seeds_gets_none(tmp_path, make_study):
    slidr, teacher = make_study(tmp_path, SLIDR, TEACHER).experiments
    more = with_seeds(slidr, 5)
    assert (more.pretrain_seeds, more.seeds) == ((0, 1, 2, 3, 4), (0, 1))
    assert with_seeds(slidr, 2).pretrain_seeds == (0, 1)
    assert with_seeds(teacher, 5) == teacher


def test_a_claim_that_does_not_exist_is_named_by_the_command(tmp_path, make_study):
    study = make_study(tmp_path, *ROWS, claims=str(write_claims(tmp_path, CLAIM)))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(study.config.model_dump(mode="json")))
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "config.yaml"), "decide", "beter"])
    assert result.exit_code == 2
    assert "claims.tsv: claim: 'beter' is not known, did you mean 'better'?" in result.output
