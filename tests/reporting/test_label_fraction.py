"""Label fractions: both rules side by side, and what the rule alone is worth."""

import pandas as pd
import pytest

from clip2scene.errors import InputError
from clip2scene.reporting.verify import verify, write_table

SLIDR = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "10", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1",
    "tables": "label_fraction",
}  # fmt: skip
SCENES = SLIDR | {"rule": "scene_skip"}
ALL = SLIDR | {"percent": "100", "rule": ""}
PROBE = ALL | {"protocol": "linear_probe", "seeds": "0"}


def percent(run):
    """mIoU by rule and share: 40 by keyframes, 33 by scenes, 60 with all labels; 2 more with seed 1."""
    start = {"frame_skip": 40, "scene_skip": 33, "": 60}[run.rule]
    return start + 2 * run.seed - (run.protocol == "linear_probe")


@pytest.fixture
def write(tmp_path, make_study, finish):
    def made(*rows):
        study = make_study(tmp_path, *rows)
        finish(study, percent)
        write_table(study, "label_fraction")
        results = study.config.results
        table = pd.read_csv(results / "table_label_fraction.csv", keep_default_na=False)
        return study, table, (results / "table_label_fraction.md").read_text()

    return made


def test_a_row_a_share_with_both_rules(write):
    study, table, text = write(SLIDR, SCENES, ALL, PROBE, SLIDR | {"percent": "1"})
    assert table["label_percent"].tolist() == [10, 100, 100, 1]
    assert table["frame_skip"].tolist() == ["41.00", "", "", "41.00"]
    assert table["scene_skip"].tolist() == ["34.00", "", "", ""]
    assert table["all_labels"].tolist() == ["", "61.00", "59.00", ""]
    assert table["frame_skip_std"].tolist() == ["1.41", "", "", "1.41"]
    assert table["rule_difference"].tolist() == ["7.00", "", "", ""]
    assert float(table["rule_difference_low"][0]) == pytest.approx(7)  # all keyframes are alike
    assert table["p"].tolist() == ["0.5000", "", "", ""]  # two keyframes: both or none exchanged of four ways
    assert [len(keys.split()) for keys in table["scene_skip_keys"]] == [2, 0, 0, 0]
    lines = [line for line in text.splitlines() if line.startswith("| 1 %") or line.startswith("| 10 %")]
    assert lines[0].startswith("| 1 % | slidr (spvcnn) | 41.0 [41.0, 41.0] ± 1.4 |  |  |")  # sorted by share
    assert "| +7.0 [+7.0, +7.0] | 0.500 |" in lines[1]
    assert verify(study, "label_fraction") == []


def test_a_list_of_ids_is_no_rule_of_this_table(tmp_path, make_study, finish):
    ids = tmp_path / "ids.txt"
    ids.write_text("a\n")
    study = make_study(tmp_path, SLIDR | {"rule": f"file:{ids}"})
    finish(study, lambda run: 30)
    with pytest.raises(
        InputError, match=r"table label_fraction: found a row with the rule file:.*; expected"
    ):
        write_table(study, "label_fraction")
