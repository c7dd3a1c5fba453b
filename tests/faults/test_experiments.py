"""Bad tables of experiments, and bad published numbers, end in one line that names file, line and column."""

from pathlib import Path

import pytest

from clip2scene.config import parse_config
from clip2scene.errors import InputError
from clip2scene.experiment_table import load_experiments
from clip2scene.experiments import Experiment
from clip2scene.reporting.published import read_published

PUBLISHED = Path(__file__).parents[2] / "results/published/published.csv"
HEADER = "protocol method recipe backbone pretrain target percent rule pretrain_seeds seeds tables".replace(
    " ", "\t"
)
TEACHER = "annotation_free\tmaskclip_projection\t\t\t\tstreets\t\t\t\t\tmain"
FREE = "annotation_free\tclip2scene\tfixed\tspvcnn\tstreets\tstreets\t\t\t0\t\tmain cross_domain"
TUNED = "finetune\tslidr\t\tspvcnn\tstreets\tstreets\t1\tframe_skip\t0\t0 1\tmain"
RANDOM = "finetune\trandom\t\tspvcnn\t\tstreets\t100\t\t\t0\tmain"
GOOD = "\n".join(["# our cells", HEADER, TEACHER, "", FREE, TUNED, RANDOM, ""])
LINES = {TEACHER: 3, FREE: 5, TUNED: 6, RANDOM: 7}

# The row that is changed, what is given instead of a part of it, and what must be said after file and line.
ROWS = [
    (TUNED, "slidr", "slidrr", "method, entry point group clip2scene.methods: 'slidrr' is not known, did yo"),
    (TUNED, "finetune", "finetun", "protocol: 'finetun' is not known, did you mean 'finetune'?"),
    (TUNED, "spvcnn", "spvcn", "backbone: 'spvcn' is not known, did you mean 'spvcnn'?"),
    (TUNED, "streets\t1", "street\t1", "target: 'street' is not known, did you mean 'streets'?"),
    (TUNED, "streets\t1", "\t1", "target: is empty; expected a name"),
    (TUNED, "main", "mian", "tables: 'mian' is not known, did you mean 'main'?"),
    (TUNED, "main", "main main", "tables: 'main' is given twice; expected each once"),
    (TUNED, "0 1", "0 0", "seeds: 0 is given twice; expected each once"),
    (TUNED, "0 1", "0 00", "seeds: 0 is given twice; expected each once"),
    (TUNED, "0 1", "0 -1", "seeds: Input should be greater than or equal to 0, found '-1'"),
    (TUNED, "0 1", "0,1", "seeds: Input should be a valid integer"),
    (TUNED, "0 1", "0 1.5", "seeds: Input should be a valid integer"),
    (TUNED, "0 1", "99999999999", "seeds: Input should be less than 4294967296, found '99999999999'"),
    (FREE, "\t0\t", "\t-1\t", "pretrain_seeds: Input should be greater than or equal to 0, found '-1'"),
    (FREE, "\t0\t", "\t0 0\t", "pretrain_seeds: 0 is given twice; expected each once"),
    (TUNED, "\t1\t", "\t1%\t", "percent: Input should be a valid number"),
    (TUNED, "\t1\t", "\tnan\t", "percent: Input should be"),
    (TUNED, "\t1\t", "\tinf\t", "percent: Input should be"),
    (TUNED, "\t1\t", "\t-1\t", "percent: Input should be greater than or equal to 0, found '-1'"),
    (TUNED, "\t1\t", "\t1e-30\t", "percent: found 1e-30, expected 0.001 to 100"),
    (TUNED, "\t1\t", "\t75\t", "frame_skip cannot draw 75 % of the labels, as it takes every n-th; the near"),
    (TUNED, "frame_skip", "frame-skip", "rule 'frame-skip' is not known, expected frame_skip, scene_skip or"),
    (TUNED, "frame_skip", "file:absent.txt", "rule: absent.txt: no such file; expected a text file with a k"),
    (TUNED, "frame_skip", "file:.", "rule: .: is a folder; expected a text file with a keyframe id a line"),
    (TUNED, "main", "main\tmore", "found 12 cells; expected 11, one a column"),
    (TUNED, "slidr", '"slidr', "'\"slidr' is not known, did you mean 'slidr'?"),
    (TUNED, "slidr", 'sl"idr', "'sl\"idr' is not known, did you mean 'slidr'?"),
    (TEACHER, "annotation_free", "finetune", "protocol: found 'finetune' for maskclip_projection; expected"),
    (TEACHER, "n\t\t", "n\tfixed\t", "recipe: found 'fixed' for maskclip_projection; expected an empty cell"),
    (TEACHER, "n\t\t\t", "n\t\tspvcnn\t", "backbone: found 'spvcnn' for maskclip_projection; expected an em"),
    (TEACHER, "\tstreets\t\t", "streets\tstreets\t\t", "pretrain: found 'streets' for maskclip_projection;"),
    (TEACHER, "streets\t\t\t", "streets\t50\tframe_skip\t", "percent: found 50.0 for maskclip_projection; e"),
    (TEACHER, "streets\t\t\t", "streets\t\tframe_skip\t", "rule: found 'frame_skip' for maskclip_projection"),
    (TEACHER, "\t\tmain", "\t0 1\tmain", "seeds: found '0 1' for maskclip_projection; expected an empty cel"),
    (TEACHER, "\t\t\tmain", "\t0\t\tmain", "pretrain_seeds: found '0' for maskclip_projection; expected an"),
    (FREE, "clip2scene\tfixed", "slidr\t", "method slidr does not align points with text"),
    (FREE, "clip2scene\tfixed\tspvcnn\tstreets\tstreets\t\t\t0", "random\t\tspvcnn\t\tstreets\t\t\t",
     "method random does not align points with text"),
    (FREE, "fixed", "fixd", "recipe: 'fixd' is not known, did you mean 'fixed'?"),
    (FREE, FREE, TEACHER, "fills the same cell of table main as line 3; expected one row with all its seeds"),
    (RANDOM, RANDOM, TUNED.replace("0 1", "7"), "fills the same cell of table main as line 6; expected one"),
    (TUNED, TUNED, FREE.replace("main cross_domain", "cross_domain"), "fills the same cell of table cross_d"),
]  # fmt: skip

START = TUNED.replace("slidr\t\t", "slidr\tmine\t").replace("0\t0 1", "\t0 1")
"""A row that starts from a checkpoint."""


@pytest.mark.parametrize(
    ("row", "recipe", "said"),
    [
        (START, "fixd", "checkpoints.mine.recipe: 'fixd' is not known"),
        (FREE.replace("fixed", "mine").replace("\t0\t", "\t\t"), "fixd", "did you mean 'fixed'?"),
        (FREE.replace("fixed", "mine").replace("\t0\t", "\t\t"), "fixed", None),
        (START, "", None),
    ],
)
def test_the_recipe_of_a_checkpoint_is_one_of_its_row_s_method(tmp_path, row, recipe, said):
    path = tmp_path / "f.tsv"
    path.write_text(f"{HEADER}\n{row}\n")
    values = {
        "experiments": str(path),
        "datasets": {"streets": {"root": "data", "synthetic": {}}},
        "checkpoints": {"mine": {"file": "mine.pt", "recipe": recipe}},
    }
    config = parse_config(values, "f.yaml")
    if said is None:
        assert load_experiments(config)[0].recipe == "mine"
        return
    with pytest.raises(InputError) as error:
        load_experiments(config)
    assert str(error.value).startswith(f"{path}: line 2: checkpoints.mine.recipe: 'fixd' is not known")
    assert said in str(error.value)


WHOLE = {
    "empty": (b"", "holds no experiment; expected a row a cell"),
    "comments alone": (b"# a\n#b\n", "holds no experiment; expected a row a cell"),
    "columns alone": (HEADER.encode(), "holds no experiment; expected a row a cell"),
    "UTF-16": (GOOD.encode("utf-16"), "expected a table of experiments (tab-separated text in UTF-8), found"),
    "latin-1": (GOOD.replace("our", "größer").encode("latin-1"), "expected a table of experiments (tab-sepa"),
    "commas": (GOOD.replace("\t", ",").encode(), "line 2: column: 'protocol,method,recipe,backbone,pretrain"),
    "a column twice": (GOOD.replace("recipe", "method", 1).encode(), "line 2: column 'method' is there twic"),
    "a column missing": (
        b"protocol\tmethod\nannotation_free\tmaskclip_projection\n", "line 1: column 'target' is miss"
    ),
    "a column misspelt": (
        GOOD.replace("recipe", "recipes", 1).encode(), "line 2: column: 'recipes' is not known, did you mean"
    ),
    "no columns": (GOOD.replace(HEADER, "").encode(), "line 3: column: 'annotation_free' is not known, expe"),
}  # fmt: skip


def load(folder: Path, content: bytes) -> list[Experiment]:
    path = folder / "f.tsv"
    path.write_bytes(content)
    datasets = {"streets": {"root": "data", "synthetic": {}}}
    return load_experiments(parse_config({"experiments": str(path), "datasets": datasets}, "f.yaml"))


def refused(folder: Path, content: bytes) -> str:
    with pytest.raises(InputError) as error:
        load(folder, content)
    message = str(error.value)
    assert "\n" not in message
    assert "Value error" not in message
    return message.removeprefix(f"{folder / 'f.tsv'}: ")


@pytest.mark.parametrize(("row", "old", "new", "said"), ROWS, ids=[said for *_, said in ROWS])
def test_a_wrong_row_is_named_with_the_editor_s_line(tmp_path, row, old, new, said):
    assert old in row
    message = refused(tmp_path, GOOD.replace(row, row.replace(old, new, 1)).encode())
    assert message.startswith(f"line {LINES[row]}: ")
    assert said in message


@pytest.mark.parametrize("case", WHOLE)
def test_a_file_that_is_no_table_of_experiments_is_refused(tmp_path, case):
    content, said = WHOLE[case]
    assert refused(tmp_path, content).startswith(said)


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    values = {"experiments": str(tmp_path), "datasets": {"streets": {"root": "data"}}}
    with pytest.raises(InputError, match=f"{tmp_path}: is a folder; expected a table of experiments"):
        load_experiments(parse_config(values, "f.yaml"))


GOOD_TABLES = {
    "as it is": GOOD.encode(),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD.removeprefix("# our cells\n").encode(),
    "Windows line ends": GOOD.replace("\n", "\r\n").encode(),
    "Mac line ends": GOOD.replace("\n", "\r").encode(),
    "comments after rows": GOOD.replace("cross_domain\n", "cross_domain # größer\n").encode(),
    "cells left out at the end": GOOD.replace("\t\t\t\t\tmain", "").encode(),
    "empty cells too many": GOOD.replace("\tmain\n", "\tmain\t\t\n").encode(),
    "cells in quotes": GOOD.replace("slidr", '"slidr"').encode(),
    "spaces around cells": GOOD.replace("slidr\t", " slidr \t").encode(),
    "a power of ten": GOOD.replace("\t100\t", "\t1e2\t").encode(),
    "no line end": GOOD.rstrip("\n").encode(),
}


@pytest.mark.parametrize("case", GOOD_TABLES)
def test_what_is_odd_but_good_is_read_as_meant(tmp_path, case):
    assert load(tmp_path, GOOD_TABLES[case]) == load(tmp_path, GOOD.encode())


def test_one_cell_in_two_tables_may_have_other_seeds(tmp_path):
    more = TUNED.replace("0 1\tmain", "0\tcross_domain")
    assert len(load(tmp_path, (GOOD + more).encode())) == 5


def test_a_list_of_keyframes_may_have_any_path(tmp_path):
    ids = tmp_path / "my ids#1 é.txt"
    ids.write_text("a\n")
    rows = load(tmp_path, GOOD.replace("frame_skip", f"file:{ids}").encode())
    assert rows[2].rule == f"file:{ids}"


COLUMNS, FIRST, SECOND = PUBLISHED.read_text().splitlines()[:3]
NUMBERS = [
    ("42.2", "2080", "line 2: value: expected a number from 0 to 100, found '2080'"),
    ("42.2", "about 21", "line 2: value: expected a number from 0 to 100, found 'about 21'"),
    ("42.2", "", "line 2: value: expected a number from 0 to 100, found ''"),
    ("42.2", "nan", "line 2: value: expected a number from 0 to 100, found 'nan'"),
    (",1,", ",1%,", "line 2: label_percent: expected a number from 0 to 100, found '1%'"),
    (",1,", ",100,", "line 2: fraction_rule: found 'frame_skip' for 100 percent; expected none"),
    (",1,frame_skip", ",1,", "line 2: fraction_rule: found 'none' for 1 percent; expected one"),
    (",1,frame_skip", ",0,", "line 2: label_percent: found 0 for finetune; expected more than 0"),
    ("frame_skip", "frame_skp", "line 2: fraction_rule: 'frame_skp' is not known, did you mean 'frame_skip'"),
    ("primary", "primry", "line 2: confidence: 'primry' is not known, did you mean 'primary'?"),
    ("primary", "", "line 2: confidence: '' is not known, expected one of 'primary', 'secondary', 'ambiguou"),
    ("finetune", "finetun", "line 2: protocol: 'finetun' is not known, did you mean 'finetune'?"),
    ("mIoU", "mIoUs", "line 2: metric: 'mIoUs' is not known, did you mean 'mIoU'?"),
    (",random,", ",,", "line 2: method: is empty; expected a name"),
    (",random,", ",randm,", "line 2: method: 'randm' is not known, did you mean 'random'?"),
    ("main,yes,", "mian,yes,", "line 2: table: 'mian' is not known, did you mean 'main'?"),
    (",nuscenes,", ",nuscense,", "line 2: dataset: 'nuscense' is not known, did you mean 'nuscenes'? (if"),
    ("spvcnn,,,", "spvcnn,,nuscense,", "line 2: pretrain_dataset: 'nuscense' is not known, did you mean '"),
    ("main,yes,", "main,,", "line 2: implemented: '' is not known, expected one of 'yes', 'no'"),
    ("CLIP2Scene Table 1", "", "line 2: source: is empty; expected a name"),
    (",primary", "", "line 2: found 17 cells; expected 18"),
    (",primary", ",primary,x", "line 2: found 19 cells; expected 18"),
    (SECOND, FIRST, "line 3: repeats line 2; expected each number once"),
    (SECOND, FIRST.replace("42.2", "43"), "line 3: value: found 43, but line 2 has 42.2 for the same cell f"),
    (COLUMNS, "", "columns backbone, confidence, dataset, fraction_rule, implemented, label_percent, "),
    (COLUMNS, f"{COLUMNS},value", "line 1: column 'value' is there twice; expected it once"),
    ("CLIP2Scene Table 1", '"CLIP2Scene', "line 2: expected comma-separated cells (unexpected end of data)"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), NUMBERS)
def test_a_wrong_published_number_is_named_with_line_and_column(tmp_path, old, new, said):
    text = "\n".join([COLUMNS, FIRST, SECOND, ""])
    path = tmp_path / "published.csv"
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_published(path)
    assert str(error.value).startswith(f"{path}: {said}")
    assert "\n" not in str(error.value)


def test_a_published_number_may_be_of_a_data_set_of_the_configuration(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(f"{COLUMNS}\n{FIRST.replace(',nuscenes,', ',town,')}\n")
    config = parse_config({"datasets": {"town": {"root": "data"}}}, "f.yaml")
    assert read_published(path, config)["dataset"].tolist() == ["town"]
    with pytest.raises(InputError, match="line 2: dataset: 'town' is not known"):
        read_published(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected the columns"),
        (b"\n\n", "is empty; expected the columns"),
        (COLUMNS.encode(), "holds no number; expected a row a number"),
        (COLUMNS.encode("utf-16"), "expected a comma-separated table in UTF-8, found a damaged file"),
        (COLUMNS.replace(",", ";").encode(), "columns backbone, confidence, "),
    ],
)
def test_a_file_without_published_numbers_is_refused(tmp_path, content, said):
    path = tmp_path / "published.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_published(path)
    assert str(error.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_published_numbers_as_spreadsheets_save_them(tmp_path, change):
    path = tmp_path / "published.csv"
    path.write_bytes(change(PUBLISHED.read_text()).encode())
    assert read_published(path).equals(read_published(PUBLISHED))
