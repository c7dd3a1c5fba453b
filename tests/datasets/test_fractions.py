from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from clip2scene.datasets.fractions import frame_skip, read_subset, scene_skip, select, write_subset
from clip2scene.datasets.index import Index
from clip2scene.errors import InputError


def full_size_train():
    """Return ids and scenes like nuScenes' train split: 700 scenes of 40 or 41 keyframes, 28,130 in all."""
    lengths = [41] * 130 + [40] * 570
    scenes = [f"scene-{number:04d}" for number, length in enumerate(lengths) for _ in range(length)]
    return [f"frame-{i}" for i in range(len(scenes))], scenes


@pytest.mark.parametrize(("percent", "frames"), [(1, 282), (5, 1407), (10, 2813), (25, 7033), (100, 28130)])
def test_frame_skip_gives_the_counts_of_clip2scene(percent, frames):
    ids, _ = full_size_train()
    assert len(frame_skip(ids, round(100 / percent))) == frames


@pytest.mark.parametrize(("skip", "count"), [(100, 7), (20, 35), (10, 70), (4, 175), (1, 700)])
def test_scene_skip_takes_whole_scenes_at_multiples_of_the_skip(skip, count):
    ids, scenes = full_size_train()
    scene_of, lengths = dict(zip(ids, scenes, strict=True)), Counter(scenes)
    kept = Counter(scene_of[frame] for frame in scene_skip(ids, scenes, skip))
    assert list(kept) == [f"scene-{number * skip - 1:04d}" for number in range(1, count + 1)]
    assert all(kept[scene] == lengths[scene] for scene in kept)


def small_index(scenes=7, keyframes=3):
    frames = [(f"{s}-{k}", f"scene-{s}") for s in range(scenes) for k in range(keyframes)]
    return Index("nuscenes", Path("data"), pd.DataFrame(frames, columns=["id", "scene"]))


def test_more_skip_than_scenes_is_refused_rather_than_empty():
    """Check one scene in 100 of v1.0-mini, which leaves nothing to train on (SLidR issue 19)."""
    with pytest.raises(InputError, match="scene_skip at 1 %.* 7 scenes"):
        select(small_index(), "scene_skip", 1)
    assert select(small_index(), "frame_skip", 1) == ["0-0"]


def test_an_unknown_rule_and_unknown_ids_are_named(tmp_path):
    with pytest.raises(InputError, match="random"):
        select(small_index(), "random", 10)
    own = tmp_path / "own.txt"
    own.write_text("2-1\n0-0\n")
    assert select(small_index(), f"file:{own}", 10) == ["0-0", "2-1"]
    own.write_text("2-1\nnone-such\n")
    with pytest.raises(InputError, match="none-such"):
        select(small_index(), f"file:{own}", 10)


def test_a_subset_survives_the_file_and_a_changed_one_is_refused(tmp_path):
    path = tmp_path / "subset.json"
    write_subset(path, ["b", "a"], split="train", rule="frame_skip", percent=50)
    assert read_subset(path) == ["b", "a"]
    path.write_text(path.read_text().replace('"b"', '"c"'))
    with pytest.raises(InputError, match=r"subset\.json.*SHA-256"):
        read_subset(path)
