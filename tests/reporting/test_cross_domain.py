"""The cross-domain table: every run in its cell."""

import pandas as pd
import pytest

from clip2scene.errors import InputError
from clip2scene.reporting.verify import write_table

FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0", "tables": "main cross_domain",
}  # fmt: skip
TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "other",
    "target": "other", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1",
    "tables": "cross_domain",
}  # fmt: skip
ROWS = (
    FREE,
    FREE | {"target": "other", "tables": "cross_domain"},
    TUNED | {"method": "random", "pretrain": "", "pretrain_seeds": ""},
    TUNED,
    TUNED | {"target": "nuscenes", "seeds": "0", "tables": "main"},
)


@pytest.fixture
def study(tmp_path, make_study, finish):
    """Finished studies: the n-th run of the cross-domain table scored n percent."""

    def make(*rows):
        data = {"root": str(tmp_path / "data"), "synthetic": {}}
        datasets = {"nuscenes": data, "other": {"root": str(tmp_path / "other")}}
        made = make_study(tmp_path, *rows, datasets=datasets)
        runs = [run for e in made.experiments if "cross_domain" in e.tables for run in made.cell(e)]
        numbers = {run.key: number for number, run in enumerate(runs, start=1)}
        finish(made, lambda run: numbers.get(run.key, 99))
        return made

    return make


def test_a_matrix_of_sources_and_targets(study):
    made = study(*ROWS)
    write_table(made, "cross_domain")
    results = made.config.results
    table = pd.read_csv(results / "table_cross_domain.csv", keep_default_na=False)
    assert table["source"].tolist() == ["nuscenes", "none", "other"]
    assert table["nuscenes"].tolist() == ["1.00", "", ""]
    assert table["other"].tolist() == [2.0, 3.5, 5.5]  # means over seeds
    assert [len(keys.split()) for keys in table["run_keys"]] == [2, 2, 2]
    assert set(table["study"]) == {made.name}
    text = (results / "table_cross_domain.md").read_text()
    assert "**Synthetic data.**" in text
    assert "| slidr (spvcnn) | other |  | 5.5 [5.5, 5.5] |" in text
    assert table["other_low"].tolist() == [2.0, 3.5, 5.5] == table["other_high"].tolist()  # frames are alike
    assert (results / "table_cross_domain.png").stat().st_size > 1000


def test_variants_have_rows_of_their_own(tmp_path, make_study, finish):
    variants = {"one": {"pretrain": {"sweeps": 1}}}
    study = make_study(tmp_path, FREE, FREE | {"variant": "one"}, variants=variants)
    finish(study)
    write_table(study, "cross_domain")
    table = pd.read_csv(study.config.results / "table_cross_domain.csv", keep_default_na=False)
    assert table["variant"].tolist() == ["", "one"]
    text = (study.config.results / "table_cross_domain.md").read_text()
    assert "| clip2scene fixed one (spvcnn) | nuscenes | 30.0 [30.0, 30.0] |" in text


def test_two_rows_of_one_cell_are_refused(study):
    """At once, before anything is computed."""
    with pytest.raises(InputError, match=r"line 7: fills the same cell of table cross_domain as line 3"):
        study(*ROWS, ROWS[1])
