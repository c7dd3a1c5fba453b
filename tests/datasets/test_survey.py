"""The digest of a download: names and sizes count, and what small texts hold; times and places do not."""

import os
import shutil

import pytest

from clip2scene.datasets.survey import survey


@pytest.fixture
def root(tmp_path):
    """Return a data root with files in nested folders."""
    root = tmp_path / "data"
    for path, size in (("samples/LIDAR/a.bin", 20), ("samples/LIDAR/b.bin", 30), ("maps/c.png", 5)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(bytes(size))
    return root


def test_a_copy_a_link_and_another_time_change_nothing(root, tmp_path):
    before = survey(root)
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert survey(tmp_path / "copy") == before
    (tmp_path / "link").symlink_to(root)
    assert survey(tmp_path / "link") == before
    os.utime(root / "maps" / "c.png", (1, 1))
    assert survey(root) == before
    root.rename(tmp_path / "moved")
    assert survey(tmp_path / "moved") == before


def test_a_folder_or_file_that_is_a_link_counts_as_what_it_leads_to(root, tmp_path):
    before = survey(root)
    (root / "samples").rename(tmp_path / "elsewhere")
    (root / "samples").symlink_to(tmp_path / "elsewhere")
    (root / "maps" / "c.png").rename(tmp_path / "c.png")
    (root / "maps" / "c.png").symlink_to(tmp_path / "c.png")
    assert survey(root) == before


def test_names_and_sizes_count(root):
    seen = {survey(root)}
    (root / "maps" / "c.png").write_bytes(bytes(6))
    seen.add(survey(root))
    (root / "maps" / "c.png").rename(root / "maps" / "d.png")
    seen.add(survey(root))
    (root / "maps" / "d.png").rename(root / "samples" / "d.png")
    seen.add(survey(root))
    assert len(seen) == 4
    before = survey(root)
    (root / "samples" / "d.png").write_bytes(b"123456")  # of equal size
    assert survey(root) == before


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("scannetv2_train.txt", True),
        ("v1.0-mini/splits.json", True),
        ("sequences/00/calib.txt", True),
        ("scannet_frames_25k/scene0000_00/pose/000000.txt", False),  # ScanNet has a million of them
        ("samples/LIDAR/c.bin", False),
    ],
)
def test_an_edit_that_leaves_the_size_is_seen_in_small_texts(root, path, seen):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("scene0001_00")
    before = survey(root)
    (root / path).write_text("scene0002_00")
    assert (survey(root) != before) == seen


def test_added_and_removed_files_are_seen(root):
    before = survey(root)
    (root / "samples" / "LIDAR" / "new.bin").write_bytes(b"")
    assert survey(root) != before
    (root / "samples" / "LIDAR" / "new.bin").unlink()
    assert survey(root) == before


def test_hidden_files_do_not_count(root):
    before = survey(root)
    (root / ".cache").mkdir()
    (root / ".cache" / "a").write_text("a")
    (root / "maps" / ".c.png.download").write_text("half")
    assert survey(root) == before


def test_only_the_named_folders_are_looked_at(root):
    before = survey(root, ["samples"])
    assert before != survey(root)
    (root / "maps" / "new.png").write_bytes(b"")
    assert survey(root, ["samples"]) == before
    (root / "samples" / "new.bin").write_bytes(b"")
    assert survey(root, ["samples"]) != before
    survey(root, ["samples", "not-downloaded"])  # whoever reads the data set says what is missing


def test_a_link_loop_ends(root, tmp_path):
    before = survey(root)
    (root / "samples" / "LIDAR" / "up").symlink_to(root)
    assert survey(root) == before
    (tmp_path / "link").symlink_to(root)
    (root / "samples" / "up").symlink_to(tmp_path / "link")
    assert survey(root) == before
    (root / "itself").symlink_to(root / "itself")
    assert survey(root) == before


def test_two_folders_that_link_to_each_other_end(root, tmp_path):
    (root / "samples" / "maps").symlink_to(root / "maps")
    (root / "maps" / "samples").symlink_to(root / "samples")
    found = survey(root)
    (root / "maps" / "c.png").write_bytes(bytes(6))
    assert survey(root) != found


def test_a_link_to_nowhere_is_no_file(root):
    before = survey(root)
    (root / "maps" / "gone.png").symlink_to(root / "gone.png")
    assert survey(root) == before
