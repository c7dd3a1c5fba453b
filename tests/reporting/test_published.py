"""Published numbers are read strictly: percentages, names that exist, each number once."""

from pathlib import Path

import pytest

from clip2scene.errors import InputError
from clip2scene.reporting.published import read_published

PUBLISHED = Path(__file__).parents[2] / "results/published/published.csv"


@pytest.fixture(scope="module")
def numbers():
    return read_published(PUBLISHED)


def test_published_numbers_have_a_source_and_a_rule(numbers):
    assert len(numbers) == 127
    assert (numbers["source"] != "").all()
    drawn = numbers["label_percent"].between(0, 100, inclusive="neither")
    assert ((numbers["fraction_rule"] != "") == drawn).all()


def test_our_methods_are_said_to_be_here(numbers):
    """Their names, recipes and networks are held against what is registered; a renamed one loses nothing."""
    here = set(numbers.loc[numbers["implemented"] == "yes", "method"])
    assert here == {"clip2scene", "pointcontrast", "ppkt", "random", "slidr"}
    assert not here & set(numbers.loc[numbers["implemented"] == "no", "method"])


HEADER = PUBLISHED.read_text().splitlines()[0]
ROW = (
    "main,{implemented},finetune,{method},{recipes},,{backbone},,{pretrain},,nuscenes,val,{percent},"
    "frame_skip,mIoU,{value},a paper,primary"
)
VALUES = {
    "implemented": "yes", "method": "random", "recipes": "", "backbone": "spvcnn", "pretrain": "",
    "percent": 1, "value": 42.2,
}  # fmt: skip


def table(folder, *rows, header=HEADER):
    lines = [header, *(ROW.format(**(VALUES | row)) for row in rows)]
    (folder / "published.csv").write_text("\n".join(lines) + "\n")
    return folder / "published.csv"


@pytest.mark.parametrize("value", ["2080", "100.1", "-1", "unknown", "", "4²", "nan"])
@pytest.mark.parametrize("column", ["value", "percent"])
def test_what_is_no_percentage_is_named_with_its_line(tmp_path, column, value):
    """As an editor counts lines: the header is the first."""
    path = table(tmp_path, {"value": 1}, {"percent": 5}, {column: value})
    name = {"value": "value", "percent": "label_percent"}[column]
    with pytest.raises(InputError, match=rf"published.csv: line 4: {name}: expected a number from 0 to 100"):
        read_published(path)


@pytest.mark.parametrize("value", ["0", "100", "20.8", "1e1"])
def test_percentages_are_read(tmp_path, value):
    assert read_published(table(tmp_path, {"value": value}))["value"].tolist() == [float(value)]


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.csv: no such file"):
        read_published(tmp_path / "absent.csv")
    header = HEADER.replace("recipes", "recipe").replace("variant", "variants")
    with pytest.raises(InputError, match=r"published.csv: columns recipes, variant are missing"):
        read_published(table(tmp_path, {}, header=header))


OURS = {"method": "clip2scene", "recipes": "paper fixed", "pretrain": "nuscenes"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "clip2scen"}, "method: 'clip2scen' is not known, did you mean 'clip2scene'?"),
        ({"recipes": "paper fixd"}, "recipes: 'fixd' is not known, did you mean 'fixed'?"),
        ({"recipes": ""}, "recipes: '' is not known"),
        ({"backbone": "spvcn"}, "'spvcn' is not known, did you mean 'spvcnn'?"),
        ({"implemented": "maybe"}, "implemented: 'maybe' is not known"),
        ({"implemented": ""}, "implemented: '' is not known"),
        ({"method": "slidr"}, "recipes: 'paper' is not known"),
    ],
)
def test_a_name_that_does_not_exist_is_named(tmp_path, change, message):
    with pytest.raises(InputError) as error:
        read_published(table(tmp_path, OURS, OURS | {"value": 1} | change))
    assert f"published.csv: line 3: {message}" in str(error.value) or message in str(error.value)
    assert "line 3" in str(error.value)


def test_a_method_of_others_is_said_to_be_so(tmp_path):
    theirs = {"implemented": "no", "method": "seal", "recipes": "", "pretrain": "nuscenes"}
    assert read_published(table(tmp_path, theirs))["method"].tolist() == ["seal"]
    with pytest.raises(InputError, match=r"line 2: method: 'seal' is not known.*say `no` in the column"):
        read_published(table(tmp_path, theirs | {"implemented": "yes"}))
