"""Runs are computed once, recognised and never deleted."""

import shutil

import pytest
from studies import config_of, description, of_kind, written

from clip2scene import layout
from clip2scene.compute import compute, write_receipt
from clip2scene.config import Config
from clip2scene.datasets.fractions import read_subset
from clip2scene.datasets.index import read_index
from clip2scene.errors import InputError
from clip2scene.files import read_json, sha256
from clip2scene.run_files import finished, read_description
from clip2scene.runs import Run
from clip2scene.study import Study


@pytest.fixture
def config(download, tmp_path) -> Config:
    return config_of(tmp_path, download)


def test_runs_are_computed_after_those_they_read_from(config):
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    compute(study, index)
    compute(study, subset)
    folder = layout.run_folder(config, subset)
    assert folder == config.results / "runs" / subset.key
    assert len(read_subset(folder / "subset.json")) == 2  # of the training split's four keyframes
    reads = read_description(folder)["reads"]
    products = description(config, index)["products"]
    assert reads == {f"index: train/{kind}": products[f"train/{kind}"] for kind in ("points", "labels")}


def test_a_finished_run_is_recognised(config):
    study = Study(config)
    for kind in ("index", "subset"):
        run = of_kind(study, kind)
        assert not study.finished(run)
        compute(study, run)
        before = written(layout.run_folder(config, run))
        for again in (study, Study(config)):  # in this process, and in one that starts afresh
            assert again.finished(run)
            compute(again, run)
        assert written(layout.run_folder(config, run)) == before


def test_a_run_that_lost_a_file_is_computed_again(config):
    study = Study(config)
    index = of_kind(study, "index")
    compute(study, index)
    path = layout.run_folder(config, index) / "index.parquet"
    before = sha256(path)
    path.unlink()
    assert not Study(config).finished(index)
    compute(Study(config), index)
    assert sha256(path) == before


def test_a_missing_parent_is_one_clear_error(config):
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    with pytest.raises(InputError) as error:
        compute(study, subset)
    message = str(error.value)
    assert message.startswith(f"run {subset.key} (subset: nuscenes, 50 % frame_skip, seed 0) reads the index")
    assert f"of run {index.key} (index: nuscenes, seed 0), which is not there" in message
    assert f"`clip2scene why {index.key}`" in message
    assert len(message.splitlines()) == 1
    assert not layout.run_folder(config, subset).exists()


def test_a_reader_takes_the_index_that_is_there_and_is_unfinished_without_it(config, download):
    """Only the job of the index looks at the download; others would take seconds each to do so."""
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    compute(study, index)
    (download / "samples" / "new.bin").write_bytes(b"")
    assert not Study(config).finished(index)
    compute(Study(config), subset)
    assert Study(config).finished(subset)
    shutil.rmtree(layout.run_folder(config, index))
    assert not Study(config).finished(subset)


def test_what_is_read_decides_whether_a_run_is_finished(config, download):
    """New labels of a keyframe that the subset was drawn from supersede the subset; new images do not."""
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    for run in (index, subset):
        compute(study, run)
    frames = read_index(layout.run_folder(config, index) / "index.parquet", download).split("train").frames
    for column, same in (("camera_images", True), ("labels", False)):
        value = frames[column].iloc[0]
        with (download / (value if isinstance(value, str) else value[0])).open("ab") as file:
            file.write(b"\0")
        compute(Study(config), index)
        assert Study(config).finished(index)
        assert Study(config).finished(subset) == same


def test_superseded_results_are_kept_and_come_back(config, download):
    index = of_kind(Study(config), "index")
    folder, kept = layout.run_folder(config, index), config.results / "superseded" / index.key
    compute(Study(config), index)
    first, files = read_description(folder), written(folder)
    assert not kept.exists()

    (download / "samples" / "new.bin").write_bytes(b"")  # the download is more complete than it was
    assert not Study(config).finished(index)
    compute(Study(config), index)
    second = read_description(folder)
    assert second["fingerprint"] != first["fingerprint"]
    assert [path.name for path in kept.iterdir()] == [first["fingerprint"][:12]]
    assert written(kept / first["fingerprint"][:12]) == files

    (download / "samples" / "new.bin").unlink()
    compute(Study(config), index)
    assert read_description(folder) == first
    assert written(folder) == files  # moved back, not computed
    assert [path.name for path in kept.iterdir()] == [second["fingerprint"][:12]]
    assert Study(config).finished(index)


def test_an_unfinished_run_that_is_superseded_is_kept_too(config, download):
    """It holds the state from which it continues."""
    study = Study(config)
    index = of_kind(study, "index")
    compute(study, index)
    folder = layout.run_folder(config, index)
    values = read_json(folder / "run.json")
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"finished"', '"running"', 1))
    (folder / "resume.pt").write_text("state")
    assert not finished(folder)
    (download / "samples" / "new.bin").write_bytes(b"")
    compute(Study(config), index)
    kept = layout.superseded(config, index) / values["fingerprint"][:12]
    assert (kept / "resume.pt").read_text() == "state"
    assert not (folder / "resume.pt").exists()


def test_a_folder_that_is_no_run_is_left_alone(config):
    study = Study(config)
    index = of_kind(study, "index")
    folder = layout.run_folder(config, index)
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=rf"{index.key}: holds notes\.txt and no run\.json; expected a run"):
        compute(study, index)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("begun", [False, True])
def test_temporary_files_of_a_killed_process_are_gone(config, begun):
    """It was killed while it wrote its first file; or later, when its run.json was there."""
    study = Study(config)
    index = of_kind(study, "index")
    folder = layout.run_folder(config, index)
    if begun:
        compute(study, index)
        (folder / "index.parquet").unlink()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".index.parquet.x1y2z3_a.parquet").write_bytes(b"half")
    compute(Study(config), index)
    assert sorted(path.name for path in folder.iterdir()) == ["index.parquet", "run.json"]


def test_a_run_computed_in_parts_is_the_run_computed_whole(config, tmp_path):
    """Parts stay until the run is packed, and a part that is there is not computed again."""
    cut = Run("superpixels", method="slidr", target="nuscenes")
    whole = config.model_copy(update={"results": tmp_path / "whole"})
    for each in (config, whole):
        study = Study(each)
        compute(study, of_kind(study, "index"))
    compute(Study(whole), Study(whole).keyed(cut))
    run = Study(config).keyed(cut)
    parts = layout.run_folder(config, run) / "parts"
    for part in ("2-of-2", "1-of-2"):
        compute(Study(config), run, part=part)
    assert not Study(config).finished(run)
    before = written(parts)
    assert sorted(before) == ["1-of-2.arrow", "2-of-2.arrow"]
    compute(Study(config), run, part="1-of-2")
    assert written(parts) == before
    compute(Study(config), run)
    assert Study(config).finished(run)
    assert not any(parts.iterdir())
    first, second = (layout.run_folder(each, run) / "superpixels.arrow" for each in (config, whole))
    assert first.read_bytes() == second.read_bytes()


def test_a_receipt_lists_finished_runs_and_refuses_others(config, tmp_path):
    study = Study(config)
    index, subset = of_kind(study, "index"), of_kind(study, "subset")
    compute(study, index)
    write_receipt(study, (index.key,), tmp_path / "receipt.json")
    values = description(config, index)
    expected = {name: values[name] for name in ("kind", "fingerprint", "files")}
    assert read_json(tmp_path / "receipt.json") == {index.key: expected}
    with pytest.raises(InputError, match=f"{subset.key}: the run is not finished"):
        write_receipt(study, (index.key, subset.key), tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


def test_a_list_of_ids_that_is_missing_is_an_input_error(config):
    table = config.experiments.read_text()
    config.experiments.write_text(table.replace("frame_skip", "file:nowhere/ids.txt"))
    with pytest.raises(InputError, match=r"nowhere/ids\.txt: no such file"):
        Study(config)
