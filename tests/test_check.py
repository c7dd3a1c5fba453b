"""`clip2scene check-data`, as a user runs it first."""

import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from clip2scene.check import EXAMPLES
from clip2scene.cli import main
from clip2scene.config import Synthetic, load_config
from clip2scene.datasets.index import read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.study import Study

TINY = Synthetic(train_scenes=2, val_scenes=1, keyframes=2)

EXPERIMENTS = (
    "protocol	method	recipe	backbone	pretrain	target	percent	rule	pretrain_seeds	seeds",
    "annotation_free	maskclip_projection				nuscenes				",
    "annotation_free	clip2scene	fixed	spvcnn	nuscenes	nuscenes			0	",
    "finetune	random		spvcnn		nuscenes	100			0",
    "finetune	ppkt		spvcnn	nuscenes	nuscenes	100		0	0",
)


@pytest.fixture
def data(tiny_root, tmp_path):
    """A copy of the tiny data set that a test may damage."""
    return Path(shutil.copytree(tiny_root, tmp_path / "data"))


@pytest.fixture
def check(data, tmp_path):
    """Runs the command on `data`; returns its lines and its exit code."""
    values = {
        "experiments": str(tmp_path / "experiments.tsv"),
        "results": str(tmp_path / "results"),
        "teacher": {"pretrained": "openai"},
        "datasets": {
            "nuscenes": {"root": str(data), "version": "v1.0-tiny", "pretrain_split": "train", "sweeps": 4}
        },
    }
    (tmp_path / "experiments.tsv").write_text("\n".join(EXPERIMENTS))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))

    def run(*arguments):
        result = CliRunner().invoke(
            main, ["--config", str(tmp_path / "config.yaml"), "check-data", *arguments]
        )
        return [line.strip() for line in result.stdout.splitlines()], result.exit_code

    return run


@pytest.fixture(scope="module")
def frames(tiny_index, tiny_root):
    return read_index(tiny_index, tiny_root).split("train").frames


def counts(lines, split):
    """Keyframes, points, labels, images and sweeps, as the table has them."""
    line = next(line for line in lines if line.startswith(f"{split} "))
    return [cell.strip() for cell in line.removeprefix(split).split("  ") if cell.strip()]


def test_all_there(check, frames):
    lines, code = check()
    sweeps = {path for paths in frames["sweep_points"] for path in paths}
    assert counts(lines, "train") == ["4", "4", "4", "24", str(len(sweeps))]
    assert "annotation_free: 2 of 2 rows" in "\n".join(lines)
    assert "finetune: 2 of 2 rows" in "\n".join(lines)
    assert not any("missing" in line or line.startswith("not line") for line in lines)
    assert code == 0


def test_missing_images_are_named_and_stop_what_reads_them(check, data, frames):
    """All front images: fine-tuning from scratch goes on."""
    shutil.rmtree(data / "samples" / "CAM_FRONT")
    lines, code = check("nuscenes")
    assert counts(lines, "train")[3] == "20 of 24"
    assert f"{data / frames['camera_images'].iloc[0][0]}: no such file" in lines
    assert f"and {6 - EXAMPLES} more" in lines  # of train and val
    assert "finetune: 1 of 2 rows" in "\n".join(lines)
    assert "not line 5: lacks the images of nuscenes train" in lines
    assert "not line 2: lacks the images of nuscenes val" in lines
    assert code == 1


def test_missing_sweeps_stop_the_method_that_needs_them(check, data):
    shutil.rmtree(data / "sweeps" / "LIDAR_TOP")
    lines, code = check()
    assert "not line 3: lacks the sweeps of nuscenes train" in lines
    assert sum(line.startswith("not line") for line in lines) == 1
    assert code == 1


def test_a_data_set_without_labels_is_good_for_pre_training_alone(check, data):
    (data / "v1.0-tiny" / "lidarseg.json").unlink()
    lines, code = check()
    assert counts(lines, "train")[2] == "0 of 4"
    assert "labels missing or unreadable: 6" in lines
    assert "not line 2-3: lacks the labels of nuscenes val" in lines
    assert code == 1


def test_damage_is_found_where_files_are_read(check, data, frames):
    points, labels = (data / frames[name].iloc[0] for name in ("points", "labels"))
    image = data / frames["camera_images"].iloc[1][2]
    for path, size in ((data / frames["points"].iloc[1], -4), (labels, -3), (image, -300)):
        path.write_bytes(path.read_bytes()[:size])
    assert check()[1] == 0
    lines, code = check("--thorough")
    report = "\n".join(lines)
    assert f"{labels.name}: {len(labels.read_bytes())} labels; expected" in report
    assert f"{image.name}: not a whole image" in report
    assert "expected 20 for each point" in report
    assert points.name not in report
    assert code == 1


def test_fewer_keyframes_than_the_data_set_must_hold(check, monkeypatch):
    monkeypatch.setattr(NuScenes, "keyframes", {"v1.0-tiny": {"train": 5, "val": 2, "test": 3}})
    lines, code = check()
    assert counts(lines, "train")[0] == "4 of 5"
    assert counts(lines, "test") == ["0 of 3", "0", "0", "0", "0"]
    assert "split test: 0 keyframes, expected 3" in lines
    assert "lacks the keyframes of nuscenes train" in "\n".join(lines)
    assert code == 1


def test_what_nuscenes_must_hold():
    assert NuScenes.keyframes["v1.0-trainval"] == {"train": 28130, "val": 6019}
    assert sum(NuScenes.keyframes["v1.0-mini"].values()) == 404
    assert NuScenes.unlabelled == {"test"}


def test_no_data_at_all(check, data):
    shutil.rmtree(data)
    lines, code = check()
    assert f"{data}: no such folder; expected the root of a nuscenes data set" in lines
    assert "annotation_free: 0 of 2 rows" in "\n".join(lines)
    assert code == 1


def test_a_data_set_that_is_not_configured(check):
    _, code = check("nuscene")
    assert code == 2


def test_a_synthetic_data_set_is_looked_for_where_the_workflow_makes_it(check, data, tmp_path):
    """In a folder of its own below the root, named after its fingerprint."""
    path = tmp_path / "config.yaml"
    values = yaml.safe_load(path.read_text())
    root, synthetic = tmp_path / "synthetic", TINY.model_dump(mode="json", exclude={"format"})
    values["datasets"]["nuscenes"] |= {"root": str(root), "synthetic": synthetic}
    path.write_text(yaml.safe_dump(values))
    made = Study(load_config(path)).configuration().datasets["nuscenes"].root
    assert made.parent == root
    lines, code = check()
    assert f"{made}: no such folder; expected the root of a nuscenes data set; the workflow makes it" in lines
    assert code == 1
    shutil.copytree(data, made)
    lines, code = check()
    assert counts(lines, "val")[0] == "2"
    assert code == 0
