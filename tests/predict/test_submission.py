"""Archives for benchmark servers, judged by the devkit's own tool where it ships one."""

import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from nuscenes.eval.lidarseg import utils, validate_submission

from clip2scene.datasets.nuscenes import official_splits
from clip2scene.datasets.semantickitti import SemanticKITTI
from clip2scene.errors import InputError
from clip2scene.predict.submission import submit
from clip2scene.runs import Run

TUNED = Run("finetune", method="clip2scene", backbone="spvcnn", pretrain="nuscenes", target="nuscenes")


@pytest.fixture
def lidarseg_test(tiny_root, tmp_path, monkeypatch):
    """The tiny data set as nuScenes' test version: official scenes, and a table of labels without records."""
    root, version = tmp_path / "nuscenes", "v1.0-test"
    shutil.copytree(tiny_root, root)
    (root / "v1.0-tiny").rename(root / version)
    (root / version / "splits.json").unlink()
    shutil.rmtree(root / "lidarseg/v1.0-tiny")
    (root / "lidarseg" / version).mkdir()
    (root / version / "lidarseg.json").write_text("[]")
    table = root / version / "scene.json"
    records = json.loads(table.read_text())
    names = official_splits()["test"][: len(records)]
    for record, name in zip(records, names, strict=True):
        record["name"] = name
    table.write_text(json.dumps(records))
    monkeypatch.setattr(utils, "create_splits_scenes", lambda verbose: {"test": names})
    return {"root": str(root), "version": version}


def test_a_lidarseg_archive_passes_the_devkits_own_tool(network, study_at, bar, lidarseg_test, tmp_path):
    from nuscenes import NuScenes as Devkit

    study, out = study_at(tmp_path, nuscenes_test=lidarseg_test), tmp_path / "out.zip"
    report = submit(study, TUNED, network, "nuscenes_test", "test", out, bar)
    assert report["scans"] == 6
    assert report["meta"] == {
        "use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": True
    }  # fmt: skip
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "unpacked")
    devkit = Devkit(lidarseg_test["version"], lidarseg_test["root"], verbose=False)
    validate_submission.validate_submission(devkit, str(tmp_path / "unpacked"), "test")
    # the devkit's tool is no formality: one label of class 0 fails it
    first = next((tmp_path / "unpacked/lidarseg/test").iterdir())
    values = np.fromfile(first, np.uint8)
    (values * (np.arange(len(values)) > 0)).astype(np.uint8).tofile(first)
    with pytest.raises(AssertionError, match="must be between 1 and 16"):
        validate_submission.validate_submission(devkit, str(tmp_path / "unpacked"), "test")


def test_equal_predictions_make_equal_archives(network, study_at, bar, lidarseg_test, tmp_path):
    study = study_at(tmp_path, nuscenes_test=lidarseg_test)
    archives = []
    for name in ("a.zip", "b.zip"):
        submit(study, TUNED, network, "nuscenes_test", "test", tmp_path / name, bar)
        archives.append((tmp_path / name).read_bytes())
    assert archives[0] == archives[1]


def test_what_the_server_would_refuse_is_not_written(network, study_at, bar, lidarseg_test, tmp_path):
    import torch

    zero = replace(
        network, score=lambda batch: torch.zeros(len(batch.features), 20).index_fill(1, torch.tensor(19), 1)
    )
    study, out = study_at(tmp_path, nuscenes_test=lidarseg_test), tmp_path / "out.zip"
    with pytest.raises(InputError, match=r"out.zip: lidarseg/test/.*: labels 20 to 20; expected 1 to 16$"):
        submit(study, TUNED, zero, "nuscenes_test", "test", out, bar)
    assert not out.exists()


@pytest.fixture
def kitti_test(tiny_kitti, tmp_path):
    """The tiny data set as SemanticKITTI's test sequences, which have no labels."""
    root = tmp_path / "kitti"
    for number in range(11, 22):
        (root / f"sequences/{number}").mkdir(parents=True)
        shutil.copytree(tiny_kitti.root / "sequences/08/velodyne", root / f"sequences/{number}/velodyne")
    return {"root": str(root), "format": "semantickitti", "sweeps": 0}


def kitti(network):
    return replace(
        network, reader=SemanticKITTI(), labels=SemanticKITTI(), classes=SemanticKITTI.classes,
        colours=SemanticKITTI.colours,
    )  # fmt: skip


def test_an_archive_for_semantickitti_holds_labels_of_every_scan(
    network, study_at, bar, kitti_test, tmp_path
):
    """By the rules of semantic-kitti-api's tool: folders, a file a scan, four bytes a point."""
    study, out = study_at(tmp_path, kitti=kitti_test), tmp_path / "out.zip"
    run = replace(TUNED, method="random", target="kitti")
    report = submit(study, run, kitti(network), "kitti", "test", out, bar)
    assert report["scans"] == 33
    assert not report["meta"]["use_external"]
    with zipfile.ZipFile(out) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        content = archive.read("sequences/13/predictions/000001.label")
    folders = {f"sequences/{number}/predictions/" for number in range(11, 22)}
    assert {"sequences/"} | folders <= sizes.keys()
    for path in (tmp_path / "kitti").glob("sequences/*/velodyne/*.bin"):
        name = f"sequences/{path.parents[1].name}/predictions/{path.stem}.label"
        assert sizes[name] == path.stat().st_size // 4
    (tmp_path / "a.label").write_bytes(content)
    assert SemanticKITTI().read_labels(tmp_path / "a.label").min() > 0


def test_missing_sequences_are_named(network, study_at, bar, kitti_test, tmp_path):
    shutil.rmtree(tmp_path / "kitti/sequences/17")
    study, out = study_at(tmp_path, kitti=kitti_test), tmp_path / "out.zip"
    with pytest.raises(InputError, match="has no scan of the sequences 17; expected 11 to 21"):
        submit(study, replace(TUNED, target="kitti"), kitti(network), "kitti", "test", out, bar)
    assert not out.exists()


def test_classes_and_data_set_must_be_the_servers(network, study_at, bar, kitti_test, tmp_path):
    study = study_at(tmp_path, kitti=kitti_test, rooms={"root": str(tmp_path), "format": "scannet"})
    with pytest.raises(
        InputError, match="made up: its classes are nuscenes; expected those of semantickitti"
    ):
        submit(study, TUNED, network, "kitti", "test", tmp_path / "out.zip", bar)
    with pytest.raises(
        InputError, match="rooms: no server takes scannet; expected nuScenes or SemanticKITTI"
    ):
        submit(study, TUNED, network, "rooms", "test", tmp_path / "out.zip", bar)
