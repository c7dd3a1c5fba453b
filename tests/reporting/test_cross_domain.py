"""The cross-domain table: every run in its cell."""

import json

import pandas as pd
import pytest

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.experiments import load_experiments, runs_of
from clip2scene.reporting.cross_domain import write_cross_domain

COLUMNS = (
    *("protocol", "method", "recipe", "backbone", "pretrain", "target", "percent", "rule"),
    *("pretrain_seeds", "seeds", "tables"),
)
ROWS = """\
annotation_free	clip2scene	fixed	spvcnn	nuscenes	nuscenes			0		main cross_domain
annotation_free	clip2scene	fixed	spvcnn	nuscenes	other			0		cross_domain
finetune	random		spvcnn		other	1	frame_skip		0 1	cross_domain
finetune	slidr		spvcnn	other	other	1	frame_skip	0	0 1	cross_domain
finetune	slidr		spvcnn	other	nuscenes	1	frame_skip	0	0	main
"""


def configuration(folder, rows=ROWS):
    (folder / "experiments.tsv").write_text("\t".join(COLUMNS) + "\n" + rows)
    data = {"root": "data", "synthetic": {}}
    return Config(
        experiments=folder / "experiments.tsv",
        results=folder,
        datasets={"nuscenes": data, "other": {"root": "data"}},
    )


def finish(config):
    """Make every run's file: run number n scored n per cent."""
    runs = [run for e in load_experiments(config, "cross_domain") for run in runs_of(config, e)]
    for number, run in enumerate(runs, start=1):
        path = layout.metrics(config, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"scores": {"miou": number / 100}}))


def test_a_matrix_of_sources_and_targets(tmp_path):
    finish(config := configuration(tmp_path))
    write_cross_domain(config, "0123456789ab")
    table = pd.read_csv(tmp_path / "table_cross_domain.csv", keep_default_na=False)
    assert table["source"].tolist() == ["nuscenes", "none", "other"]
    assert table["nuscenes"].tolist() == ["1.00", "", ""]
    assert table["other"].tolist() == [2.0, 3.5, 5.5]  # means over seeds
    assert [len(keys.split()) for keys in table["run_keys"]] == [2, 2, 2]
    text = (tmp_path / "table_cross_domain.md").read_text()
    assert "**Synthetic data.**" in text
    assert "| slidr (spvcnn) | other |  | 5.5 |" in text
    assert (tmp_path / "table_cross_domain.png").stat().st_size > 1000


def test_two_rows_of_one_cell_are_refused(tmp_path):
    finish(config := configuration(tmp_path, ROWS + ROWS.splitlines(keepends=True)[1]))
    with pytest.raises(InputError, match=r"two rows .* clip2scene from nuscenes on other"):
        write_cross_domain(config, "")
