from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from clip2scene.config import Config
from clip2scene.datasets import fractions
from clip2scene.datasets.fractions import digest, frame_skip, read_subset, scene_skip, select, write_subset
from clip2scene.datasets.identity import split_digests
from clip2scene.datasets.index import Index, read_index
from clip2scene.datasets.rules import RULES, skip_of
from clip2scene.errors import InputError
from clip2scene.files import read_json
from clip2scene.runs import Run


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


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("percent", "skip"),
    [(0.5, 200), (1, 100), (5, 20), (10, 10), (25, 4), (33, 3), (33.33, 3), (34, 3), (50, 2), (100, 1)],
)
def test_a_share_is_drawn_as_one_in_so_many(rule, percent, skip):
    assert skip_of(percent, rule) == skip


@pytest.mark.parametrize(
    ("percent", "smaller", "larger"),
    [(75, "50", "100"), (66, "50", "100"), (40, "33.33", "50"), (30, "25", "33.33"), (95, "50", "100")],
)
@pytest.mark.parametrize("rule", RULES)
def test_a_share_that_a_rule_cannot_draw_is_refused_with_the_nearest_ones(rule, percent, smaller, larger):
    """Rounded to one in one or one in two, 75 % would be all of the labels, and 66 % a half."""
    message = f"{rule} cannot draw {percent} % of the labels, .* nearest shares are {smaller} and {larger} %"
    with pytest.raises(InputError, match=message):
        select(small_index(), rule, percent)


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_what_is_no_share_is_refused(percent):
    with pytest.raises(InputError, match=rf"percent: found {percent}, expected .* 100"):
        skip_of(percent, "frame_skip")


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
    with pytest.raises(InputError, match=r"own\.txt: frame id 'none-such': not in the index"):
        select(small_index(), f"file:{own}", 10)


def test_a_list_of_ids_is_taken_as_it_is_at_any_share(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("3-2  1-0\r\n\n1-0\n")
    assert select(small_index(), f"file:{own}", 75) == ["1-0", "3-2"]


def test_a_list_of_another_share_than_the_table_says_is_told(tmp_path, capsys):
    own = tmp_path / "own.txt"
    own.write_text("\n".join(small_index().ids))
    select(small_index(), f"file:{own}", 100)
    assert capsys.readouterr().err == ""
    select(small_index(), f"file:{own}", 10)
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {own}: lists ")
    assert told.endswith("keyframes, 100 %; asked for are 10 %\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe\x00", "is no text")],
)
def test_a_list_of_ids_that_is_none_is_named(tmp_path, content, message):
    own = tmp_path / "own.txt"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(InputError, match=rf"own\.txt: {message}"):
        select(small_index(), f"file:{own}", 10)


def test_a_subset_survives_the_file_and_a_changed_one_is_refused(tmp_path):
    path = tmp_path / "subset.json"
    write_subset(path, ["b", "a"], split="train", rule="frame_skip", percent=50)
    assert read_subset(path) == ["b", "a"]
    path.write_text(path.read_text().replace('"b"', '"c"'))
    with pytest.raises(InputError, match=r"subset\.json.*SHA-256"):
        read_subset(path)


@pytest.fixture
def draw(tiny_index, tiny_root, make_task, tmp_path):
    """Computes a run of the stage `subset` and returns its folder."""
    config = Config(datasets={"nuscenes": {"root": tiny_root, "version": "v1.0-tiny"}})

    def draw(rule, percent):
        run = Run("subset", target="nuscenes", rule=rule, percent=percent)
        task = make_task(config, run, tmp_path / f"{percent}", {"index": tiny_index})
        fractions.compute(task)
        return task.record.folder

    return draw


def test_a_run_writes_the_subset_of_the_training_split_and_its_digests(draw, tiny_index, tiny_root):
    train = read_index(tiny_index, tiny_root).split("train")
    folder = draw("frame_skip", 50)
    ids = read_subset(folder / "subset.json")
    assert ids == train.ids[::2]
    values = read_json(folder / "subset.json")
    assert (values["split"], values["rule"], values["percent"]) == ("train", "frame_skip", 50)
    assert (values["frames"], values["sha256"]) == (len(ids), digest(ids))
    products = read_json(folder / "run.json")["products"]
    digests = split_digests(train.subset(ids).frames["identity"])
    assert {name: products[name] for name in digests} == digests
    assert digests != split_digests(train.frames["identity"])


def test_all_labels_need_no_rule(draw, tiny_index, tiny_root):
    folder = draw("", 100)
    assert read_subset(folder / "subset.json") == read_index(tiny_index, tiny_root).split("train").ids
