"""The long table: every number of every table once, and comparisons of rows, corrected for their number."""

import numpy as np
import pandas as pd
import pytest

from clip2scene.reporting.ablation import ABLATION
from clip2scene.reporting.answers import CLAIMS
from clip2scene.reporting.columns import MEANING
from clip2scene.reporting.label_fraction import LABEL_FRACTION
from clip2scene.reporting.main import MAIN
from clip2scene.reporting.numbers import NUMBERS
from clip2scene.reporting.results import COMPARISONS
from clip2scene.reporting.statistics import intervals, paired_p
from clip2scene.reporting.verify import verify, write_table

SLIDR = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1",
}  # fmt: skip
PPKT = SLIDR | {"method": "ppkt"}
RANDOM = SLIDR | {"method": "random", "pretrain": "", "pretrain_seeds": ""}
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0",
}  # fmt: skip
TEACHER = {"protocol": "annotation_free", "method": "maskclip_projection", "target": "nuscenes"}
SCENES = 12
GAIN = {"random": 0.0, "ppkt": 0.1, "slidr": 0.25, "clip2scene": 0.3, "maskclip_projection": 0.0}


def scenes(run):
    """Return matrices [24, 17, 17], two keyframes a scene: scenes differ, and methods by `GAIN`."""
    rng = np.random.default_rng(7)  # the same scenes for every run
    hard = rng.uniform(0.2, 0.5, (SCENES, 1)).repeat(2, axis=0)
    noise = np.random.default_rng(run.seed + 10 * len(run.method)).normal(0, 0.02, (2 * SCENES, 16))
    counts = np.zeros((2 * SCENES, 17, 17), np.int64)
    classes = np.arange(1, 17)
    hits = np.round(1000 * np.clip(hard + GAIN[run.method] + noise, 0, 1)).astype(int)
    counts[:, classes, classes], counts[:, classes, 0] = hits, 1000 - hits
    return counts


@pytest.fixture
def write(tmp_path, make_study, finish, write_run):
    """Writes the long table of some rows; returns it with the study."""

    def made(*rows, **settings):
        study = make_study(tmp_path, *rows, **settings)
        finish(study)
        for run in study.runs.values():
            if run.kind in ("predict", "annotation_free", "projection"):
                counts = {"visible" if run.kind == "projection" else "all": scenes(run)}
                if run.kind == "annotation_free":
                    counts["visible"] = scenes(run) // 2
                write_run(study, run, counts)
        write_table(study, "results")
        return study, pd.read_csv(study.config.results / "results.csv", keep_default_na=False)

    return made


def test_one_number_a_row_with_the_same_columns(write):
    study, table = write(SLIDR, FREE, TEACHER)
    assert tuple(table.columns) == NUMBERS
    assert set(table["study"]) == {study.name}
    key = ["protocol", "method", "metric", "class", "points", "against"]
    assert not table.duplicated(key).any()
    kinds = table.groupby(["method", "points"])["metric"].value_counts()
    for method, points in (
        ("slidr", "all"), ("clip2scene", "all"), ("clip2scene", "visible"), 
        ("maskclip_projection", "visible"),
    ):  # fmt: skip
        counts = kinds[method, points].to_dict()
        assert counts == {"iou": 16, "miou": 1, "classes_present": 1, "miou_released_convention": 1}
    first = table[(table["method"] == "slidr") & (table["metric"] == "miou")].iloc[0]
    assert (first["unit"], first["units"]) == ("scene", str(SCENES))
    assert float(first["low"]) < float(first["value"]) < float(first["high"])
    assert (first["pretrain_seeds"], first["finetune_seeds"]) == ("1", "2")


def test_each_table_shows_the_long_table_s_numbers(write):
    study, table = write(SLIDR, PPKT, FREE)
    write_table(study, "main")
    main = pd.read_csv(study.config.results / "table_main.csv", keep_default_na=False)
    long = table[(table["metric"] == "miou") & (table["points"] == "all")].reset_index()
    for name, other in (("miou_mean", "value"), ("low", "low"), ("high", "high"), ("verdict", "verdict")):
        assert main[name].astype(str).tolist() == long[other].astype(str).tolist()


def test_every_two_methods_of_a_column_are_compared_and_corrected_together(write, tmp_path):
    """Three methods of one column make three comparisons; the row of another column makes none."""
    study, table = write(RANDOM, PPKT, SLIDR, FREE, SLIDR | {"rule": "scene_skip"})
    found = pd.read_csv(study.config.results / "comparisons.csv", keep_default_na=False)
    pairs = found[found["metric"] == "difference"]
    named = list(zip(pairs["method"], pairs["against"], strict=True))
    assert named == [("ppkt", "random (spvcnn)"), ("slidr", "random (spvcnn)"), ("slidr", "ppkt (spvcnn)")]
    assert set(pairs["comparisons"]) == {"3"} or set(pairs["comparisons"]) == {3}
    assert pairs["value"].astype(float).tolist() == pytest.approx([10, 25, 15], abs=1)
    assert (pairs["low"].astype(float) > 0).all()
    p, corrected = pairs["p"].astype(float), pairs["p_holm"].astype(float)
    assert (p == round(2 / 2**SCENES, 4)).all()  # every scene is won by one of the two
    assert corrected.to_numpy() == pytest.approx(3 * 2 / 2**SCENES, abs=1e-4)
    rows = table[table["metric"] == "difference"]
    assert rows["value"].tolist() == pairs["value"].tolist()  # the same numbers stand in the long table
    text = (study.config.results / "comparisons.md").read_text()
    assert "## Methods of one column: finetune, nuscenes, labels: 1 % frame_skip" in text
    assert "p, corrected for 3" in text


def test_the_numbers_of_a_comparison_are_those_of_its_cells(write):
    study, _ = write(RANDOM, SLIDR)
    found = pd.read_csv(study.config.results / "comparisons.csv")
    from clip2scene.reporting.base import read_cells

    random, slidr = (cell.totals() for cell in read_cells(study, "results"))
    interval = intervals([slidr, random])[0]
    row = found.iloc[0]
    assert (row["value"], row["low"], row["high"]) == pytest.approx(
        (interval.value, interval.low, interval.high), abs=0.005
    )
    assert row["p"] == pytest.approx(paired_p(slidr, random), abs=5e-5)


def test_a_rule_alone_has_a_row(write):
    _, table = write(SLIDR, SLIDR | {"rule": "scene_skip"})
    (row,) = table[table["metric"] == "rule_difference"].to_dict("records")
    assert row["against"] == "slidr (spvcnn) scene_skip"
    assert float(row["value"]) == 0  # our made-up runs do not depend on the rule
    assert float(row["p"]) == 1


def test_a_row_of_one_table_is_in_the_long_table_of_all(write):
    _, table = write(SLIDR, PPKT | {"tables": "label_fraction"}, FREE | {"tables": "cross_domain"})
    assert set(table["method"]) == {"slidr", "ppkt", "clip2scene"}
    assert set(table["tables"]) == {"main", "label_fraction", "cross_domain"}


def test_the_same_bytes_every_time_and_verified(write):
    study, _ = write(RANDOM, SLIDR, FREE)
    path = study.config.results / "results.csv"
    before = path.read_bytes()
    write_table(study, "results")
    assert path.read_bytes() == before
    assert verify(study, "results") == []


@pytest.mark.parametrize(("column", "changed"), [
    ("high", "99.99"), ("verdict", "reproduced"), ("p_holm", "0.0001"),
])  # fmt: skip
def test_intervals_verdicts_and_corrected_p_values_are_recomputed_by_verify(write, column, changed):
    study, _ = write(RANDOM, SLIDR)
    path = study.config.results / "results.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    (line,) = table.index[table["metric"] == "difference"][:1]
    line = line if column == "p_holm" else 0
    was = table.loc[line, column]
    table.loc[line, column] = changed
    table.to_csv(path, index=False)
    assert verify(study, "results") == [
        f"{path}: line {line + 2}: {column}: found {changed!r}, expected {was!r}"
    ]


def test_every_column_of_every_table_is_explained_once(write):
    study, _ = write(SLIDR, FREE)
    for columns in (NUMBERS, COMPARISONS, MAIN, LABEL_FRACTION, ABLATION, CLAIMS):
        assert len(set(columns)) == len(columns)
        assert set(columns) <= MEANING.keys()
    used = {*NUMBERS, *COMPARISONS, *MAIN, *LABEL_FRACTION, *ABLATION, *CLAIMS, "source"}
    assert MEANING.keys() == used
    write_table(study, "main")
    for file in ("results.md", "comparisons.md", "table_main.md"):
        text = (study.config.results / file).read_text()
        columns = pd.read_csv(study.config.results / file.replace(".md", ".csv")).columns
        assert [name for name in columns if f"\n| `{name}` | " not in text] == []
