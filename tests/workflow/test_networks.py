"""Finished networks in use: the smallest study's runs label scans, are published, and come back."""

import json

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from clip2scene.models.weights import read_checkpoint
from clip2scene.predict.network import TUNED

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def scan(finished):
    """The first validation scan of nuScenes, as a file."""
    (kept, *_) = sorted(finished.results.glob(f"runs/{key(finished, 'annotation_free')}/scan-*.npz"))
    with np.load(kept) as values:
        points = values["points"]
    files = list((finished.folder / "data").glob("nuscenes/*/samples/LIDAR_TOP/*.bin"))
    (path,) = (
        file for file in files if np.array_equal(np.fromfile(file, np.float32).reshape(-1, 5)[:, :3], points)
    )
    return path


def key(site, kind, **fields):
    return site.made(kind, **fields)[0]["key"]


def kept(site, run):
    (path, *_) = sorted(site.results.glob(f"runs/{run}/scan-*.npz"))
    with np.load(path) as values:
        return values["prediction"]


@pytest.mark.parametrize("kind", ["annotation_free", "predict"])
def test_a_file_gets_the_labels_that_its_run_gave_it(finished, scan, tmp_path, kind):
    """By the path without labels and images, of the same scan, bit for bit."""
    run = key(finished, kind, target="nuscenes")
    said = finished.clip2scene("predict", str(scan), "--run", run, "--out", str(tmp_path), "--as", "npy")
    name = scan.stem.removesuffix(".pcd")
    np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), kept(finished, run))
    assert "on nuScenes' scale of 0 to 255" in said


def test_a_scan_of_another_sensor_is_labelled_in_its_own_format(finished, tmp_path):
    run = key(finished, "finetune", target="kitti")
    (scan, *_) = sorted((finished.folder / "data/kitti").glob("sequences/08/velodyne/*.bin"))
    finished.clip2scene("predict", str(scan), "--run", run, "--out", str(tmp_path), "--as", "label")
    written = np.fromfile(tmp_path / f"{scan.stem}.label", np.uint32)
    tuned = key(finished, "predict", target="kitti")
    from clip2scene.predict.outputs import RAW_IDS

    np.testing.assert_array_equal(written, RAW_IDS[kept(finished, tuned)])


def test_free_text_is_compared_with_a_pretrained_network(finished, scan, tmp_path):
    run = key(finished, "pretrain", method="clip2scene")
    words = ("--words", "a red car", "road")
    said = finished.clip2scene("predict", str(scan), "--run", run, "--out", str(tmp_path), *words)
    name = scan.stem.removesuffix(".pcd")
    similar = np.load(tmp_path / f"{name}.similarity.npy")
    np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), 1 + similar.argmax(1))
    assert "a red car: " in said
    assert (tmp_path / f"{name}.relevancy.png").exists()
    tuned = key(finished, "finetune", target="nuscenes")
    said = finished.clip2scene("predict", str(scan), "--run", tuned, *words, fails=True)
    assert "has a classifier and no text" in said.splitlines()[-1]


def test_a_published_network_labels_as_its_run_does(finished, scan, tmp_path):
    """And its card has the score of the table, with its interval, in the hub's form."""
    run = key(finished, "finetune", target="nuscenes", method="random")
    folder, name = tmp_path / "published", scan.stem.removesuffix(".pcd")
    finished.clip2scene("publish", run, str(folder))
    for out, source in (("a", run), ("b", str(folder))):
        finished.clip2scene("predict", str(scan), "--run", source, "--out", str(tmp_path / out))
    np.testing.assert_array_equal(np.load(tmp_path / f"a/{name}.npy"), np.load(tmp_path / f"b/{name}.npy"))
    card = ModelCard.load(folder / "README.md")
    (result,) = card.data.eval_results
    low, high = result.metric_args["interval_95"]
    assert low <= result.metric_value <= high
    assert card.data.license == "apache-2.0"
    subset = json.loads((folder / "subset.json").read_text())
    assert subset["ids"]
    finished.run("sh", "-c", f"cd '{folder}' && sha256sum --check --quiet SHA256SUMS")
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert yaml.safe_load((folder / "configuration.yaml").read_text())["datasets"]


def test_a_pretraining_comes_back_as_it_was(finished, tmp_path):
    run = key(finished, "pretrain", method="clip2scene")
    folder, out = tmp_path / "published", tmp_path / "checkpoint.pt"
    finished.clip2scene("publish", run, str(folder))
    finished.clip2scene("import-published", str(folder), str(out))
    before, after = (read_checkpoint(path) for path in (finished.results / f"runs/{run}/checkpoint.pt", out))
    assert before["meta"] == after["meta"]
    for part in ("backbone", "method"):
        assert list(before[part]) == list(after[part])
        assert all((before[part][name] == after[part][name]).all() for name in before[part])
    assert "text" in load_file(folder / "model.safetensors")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said = finished.clip2scene("import-published", str(folder), str(out), fails=True)
    assert "its SHA-256 is not the one in SHA256SUMS" in said.splitlines()[-1]


def test_label_ids_are_published_with_a_card(finished, tmp_path):
    run = key(finished, "subset")
    finished.clip2scene("publish", run, str(tmp_path / "ids"))
    ids = (tmp_path / "ids/ids.txt").read_text().split()
    there = json.loads((finished.results / f"runs/{run}/subset.json").read_text())["ids"]
    assert ids == there
    assert "Ids alone: the data are to be had from their owners." in (tmp_path / "ids/README.md").read_text()


def test_a_table_is_archived_as_a_crate(finished, tmp_path):
    pytest.importorskip("rocrate", reason="rocrate is not installed")
    from rocrate.rocrate import ROCrate

    finished.clip2scene("publish", "main", str(tmp_path / "crate"))
    crate = ROCrate(tmp_path / "crate")
    (whole,) = (entity for entity in crate.root_dataset["mentions"] if entity.id.startswith("#workflow"))
    assert whole["instrument"] == crate.mainEntity
    assert "table_main.csv" in {entity.id for entity in whole["result"]}
    actions = [entity for entity in crate.root_dataset["mentions"] if entity.id.startswith("#run-")]
    assert {action.id.removeprefix("#run-") for action in actions} <= finished.runs().keys()
    for entity in crate.data_entities:
        assert (tmp_path / "crate" / entity.id).exists(), entity.id


def test_a_run_without_a_network_is_refused(finished, scan, tmp_path):
    run = key(finished, "teacher")
    said = finished.clip2scene("predict", str(scan), "--run", run, fails=True)
    assert f"labels no points; expected a run of the stages {', '.join(TUNED)}" in said.splitlines()[-1]
    said = finished.clip2scene("publish", run, str(tmp_path / "p"), fails=True)
    assert "trained no 3D network" in said.splitlines()[-1]
