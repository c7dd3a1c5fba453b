"""`clip2scene check-data` sees what training would see, and its report is right for what is partly there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from clip2scene.cli import main
from clip2scene.datasets.index import read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.scannet import ScanNet

HEADER = "protocol\tmethod\trecipe\tbackbone\tpretrain\ttarget\tpercent\trule\tpretrain_seeds\tseeds"
SCRATCH = "finetune\trandom\t\tspvcnn\t\tnuscenes\t100\t\t\t0"
ROWS = (
    "annotation_free\tmaskclip_projection\t\t\t\tnuscenes\t\t\t\t",
    "annotation_free\tclip2scene\tfixed\tspvcnn\tnuscenes\tnuscenes\t\t\t0\t",
    SCRATCH,
    "finetune\tppkt\t\tspvcnn\tnuscenes\tnuscenes\t100\t\t0\t0",
)


@pytest.fixture
def data(tiny_root, tmp_path):
    """A copy of the tiny data set that a test may damage, without the marker of synthetic data."""
    root = Path(shutil.copytree(tiny_root, tmp_path / "data"))
    (root / "synthetic.json").unlink(missing_ok=True)
    return root


@pytest.fixture
def check(data, tmp_path):
    """Runs the command; returns its report and its exit code."""

    def run(*arguments, rows=ROWS, header=HEADER, datasets=None, **settings):
        streets = {"root": str(data), "version": "v1.0-tiny", "pretrain_split": "train", "sweeps": 4}
        values = {
            "experiments": str(tmp_path / "experiments.tsv"),
            "results": str(tmp_path / "results"),
            "teacher": {"pretrained": "openai"},
            "image_encoder": {"pretrained": "a1_in1k"},
            "datasets": datasets or {"nuscenes": streets},
        }
        (tmp_path / "experiments.tsv").write_text("\n".join([header, *rows]) + "\n")
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values | settings))
        command = ["--config", str(tmp_path / "config.yaml"), "check-data", *arguments]
        result = CliRunner().invoke(main, command)
        assert result.exit_code in (0, 1), result.output
        return result.stdout, result.exit_code

    return run


@pytest.fixture(scope="module")
def frames(tiny_index, tiny_root):
    return read_index(tiny_index, tiny_root).split("train").frames


def test_a_good_data_set_is_whole_and_plausible(check):
    for arguments in ((), ("--thorough",), ("--thorough", "--processes", "2")):
        report, code = check(*arguments)
        assert code == 0
        assert "odd" not in report
        assert "train: 7" in report
        assert "of the points of 3 keyframes find a pixel" in report
        assert "depth" not in report


def test_missing_keyframes_are_counted_one_by_one(check, monkeypatch):
    monkeypatch.setattr(NuScenes, "keyframes", {"v1.0-tiny": {"train": 28130, "val": 6019}})
    report, code = check()
    assert "keyframes missing or unreadable: 34,143" in report
    assert "split train: 4 keyframes, expected 28130" in report
    assert code == 1


def test_images_that_no_row_needs_are_told_and_do_not_count(check, data):
    shutil.rmtree(data / "samples" / "CAM_FRONT")
    report, code = check(rows=[SCRATCH])
    assert "images missing or unreadable: 6" in report
    assert "nuscenes: no row needs its images" in report
    assert "finetune: 1 of 1 rows" in report
    assert code == 0
    assert check()[1] == 1


def test_a_row_whose_other_data_set_was_not_looked_at_is_not_said_to_run(check, data, tiny_kitti):
    kitti = {"format": "semantickitti", "root": str(tiny_kitti.root), "pretrain_split": "train"}
    streets = {"root": str(data), "version": "v1.0-tiny", "pretrain_split": "train", "sweeps": 4}
    row = "finetune\tppkt\t\tspvcnn\tnuscenes\tkitti\t100\t\t0\t0"
    both = {"nuscenes": streets, "kitti": kitti}
    report, _ = check("nuscenes", rows=[SCRATCH, row], datasets=both)
    assert "not line 3: lacks kitti, which was not looked at" in report
    assert "finetune: 1 of 2 rows" in report


def test_an_index_that_cannot_be_built_is_told_with_all_its_faults(check, data):
    path = data / "v1.0-tiny" / "sample.json"
    records = json.loads(path.read_text())
    for record in records:
        record["timestamp"] = "x"
    path.write_text(json.dumps(records))
    report, code = check()
    assert report.count("sample.json: record") == 3
    assert "lacks the index of nuscenes" in report
    assert code == 1


def test_the_next_data_set_is_looked_at_after_one_with_faults(check, data, tiny_kitti):
    kitti = {"format": "semantickitti", "root": str(tiny_kitti.root), "pretrain_split": "train"}
    report, code = check(datasets={"nuscenes": {"root": str(data / "gone")}, "kitti": kitti}, rows=[SCRATCH])
    assert "gone: no such folder" in report
    assert "kitti: semantickitti" in report
    assert "08" not in report
    assert code == 1


@pytest.mark.parametrize("kind", ["link to nowhere", "folder", "loop"])
def test_what_is_no_file_is_missing(check, data, frames, kind):
    path = data / frames["points"].iloc[0]
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else data / "gone")
    report, code = check()
    assert f"{path}: no such file" in report
    assert "points missing or unreadable: 1" in report
    assert code == 1


def test_every_file_is_read_after_the_first_fault(check, data, frames):
    images = [data / path for path in frames["camera_images"].iloc[0]]
    images[0].write_text("<html>")
    images[1].write_bytes(images[1].read_bytes()[:200])
    with Image.open(images[2]) as image:
        image.resize((160, 96)).save(images[2])
    values = np.fromfile(cloud := data / frames["points"].iloc[1], np.float32)
    values[:] = 0
    values.tofile(cloud)
    report, code = check("--thorough")
    assert "images missing or unreadable: 3" in report
    assert f"{images[2].name}: image of 96 x 160 pixels; expected 48 x 80" in report
    assert "points missing or unreadable: 1" in report
    assert code == 1


def test_splits_of_variants_are_counted(check, data, frames):
    """A split that only the row of a variant reads lacks a label: that row, in line 3, cannot run."""
    first, second = frames["scene"].unique()
    splits = data / "v1.0-tiny" / "splits.json"
    splits.write_text(json.dumps(json.loads(splits.read_text()) | {"train": [first], "few": [second]}))
    (data / frames.loc[frames["scene"] == second, "labels"].iloc[0]).unlink()
    variants = {"v": {"datasets": {"nuscenes": {"train_split": "few"}}}}
    report, code = check(rows=(SCRATCH, f"{SCRATCH}\tv"), header=f"{HEADER}\tvariant", variants=variants)
    assert "finetune: 1 of 2 rows" in report
    assert "not line 3: lacks the labels of nuscenes few" in report
    assert code == 1


def test_what_the_machine_lacks_is_told(check, tmp_path):
    report, _ = check(
        device="cuda",
        teacher={"pretrained": str(tmp_path / "clip.pt")},
        image_encoder={"pretrained": "weights/moco.pth.tar"},
    )
    for text in (
        "a GPU (key device)",
        f"the file {tmp_path / 'clip.pt'} (key teacher.pretrained)",
        "the file weights/moco.pth.tar (key image_encoder.pretrained)",
    ):
        assert text in report


def test_a_checkpoint_that_is_not_there_is_told(check, tmp_path):
    row = "finetune\tslidr\tpublished\tspvcnn\tnuscenes\tnuscenes\t100\t\t\t0"
    report, _ = check(rows=[row], checkpoints={"published": str(tmp_path / "slidr.pt")})
    assert f"not line 2: lacks the file {tmp_path / 'slidr.pt'} (key checkpoints.published)" in report


def test_odd_data_are_told_and_do_not_count(check, data):
    splits = json.loads((data / "v1.0-tiny" / "splits.json").read_text())
    names = {name: scenes[:1] for name, scenes in splits.items()}
    (data / "v1.0-tiny" / "splits.json").write_text(json.dumps(names))
    report, code = check()
    assert "odd: " in report
    assert "are in no split" in report
    assert code == 0


@pytest.fixture
def rooms(tiny_rooms, tmp_path):
    """The section of a copy of tiny rooms that a test may damage, as if it was downloaded."""
    root = shutil.copytree(tiny_rooms.root, tmp_path / "rooms")
    (root / "synthetic.json").unlink()
    section = tiny_rooms.model_dump(mode="json", exclude={"synthetic"})
    return {"rooms": section | {"root": str(root)}}


ROOMS = (
    "finetune\trandom\t\tspvcnn\t\trooms\t100\t\t\t0",
    "annotation_free\tclip2scene\tfixed\tspvcnn\trooms\trooms\t\t\t0\t",
)


def test_lists_of_ones_own_are_what_must_be_there(check, rooms):
    report, code = check(datasets=rooms, rows=ROOMS)
    assert "finetune: 1 of 1 rows" in report
    assert "missing" not in report
    assert "agree with its depth" in report
    assert code == 0
    root = Path(rooms["rooms"]["root"])
    assert ScanNet().complete(root, "scans") == {}
    (root / "scannetv2_train.txt").unlink()
    assert ScanNet().complete(root, "scans") == {"train": 1201}


def test_depth_images_are_looked_up_and_read(check, rooms):
    folder = Path(rooms["rooms"]["root"]) / "scannet_frames_25k"
    paths = sorted(folder.glob("scene9000_00/depth/*.png"))
    paths[1].unlink()
    report, code = check(datasets=rooms, rows=ROOMS)
    assert f"{paths[1]}: no such file" in report
    assert "depth missing or unreadable: 1" in report
    assert "lacks the depth of rooms train" in report
    assert "finetune: 1 of 1 rows" in report
    assert code == 1
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(paths[1])
    report, code = check("--thorough", datasets=rooms, rows=ROOMS)
    assert "depth of 9 x 9 pixels; expected 36 x 48" in report
    assert code == 1


def test_scans_without_any_depth_are_told(check, rooms):
    folder = Path(rooms["rooms"]["root"]) / "scannet_frames_25k"
    for scan, expected in (("scene9000_00", 0), ("scene9001_00", 1)):
        for path in folder.glob(f"{scan}/depth/*.png"):
            Image.fromarray(np.zeros((36, 48), np.uint16)).save(path)
        report, code = check(datasets=rooms, rows=ROOMS)
        assert "no depth image of" in report
        assert ("lacks the depth of rooms train" in report) == bool(expected)
        assert code == expected


def test_a_missing_image_of_one_scan_leaves_the_others(check, rooms):
    image = min((Path(rooms["rooms"]["root"]) / "scannet_frames_25k" / "scene9000_00" / "color").iterdir())
    image.unlink()
    report, code = check(datasets=rooms, rows=ROOMS)
    assert f"{image}: no such file" in report
    assert "images missing or unreadable: 1" in report
    assert code == 1
