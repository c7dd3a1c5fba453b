"""Figures of finished runs."""

import numpy as np
from PIL import Image

from clip2scene import layout
from clip2scene.compute import compute
from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.semantickitti import SemanticKITTI
from clip2scene.reporting.base import read_cells
from clip2scene.reporting.figures import draw_figures, draw_fractions, draw_pixels

TUNED = {
    "protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes",
    "percent": "50", "rule": "frame_skip", "seeds": "0 1",
}  # fmt: skip
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0",
}  # fmt: skip


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_points_are_drawn_on_the_image_in_the_colours_of_their_classes(tiny_kitti, tmp_path):
    index = build(tiny_kitti, tmp_path / "index.parquet").split("val")
    assert draw_pixels(index, tmp_path / "pixels.png") == tmp_path / "pixels.png"
    picture = pixels(tmp_path / "pixels.png")
    half = len(picture) // 2
    road = SemanticKITTI.colours[SemanticKITTI.classes.index("road")]
    above, below = ((np.abs(part - road).max(2) <= 2).sum() for part in (picture[:half], picture[half:]))
    assert above == 0
    assert below > 200


def test_nothing_is_drawn_without_images(tiny_kitti, tmp_path):
    index = build(tiny_kitti, tmp_path / "index.parquet")
    index.frames["camera_sizes"] = [[]] * len(index)
    assert draw_pixels(index, tmp_path / "pixels.png") is None
    assert not (tmp_path / "pixels.png").exists()


def test_every_figure_of_a_study_is_drawn_and_others_stay(tmp_path, tiny_root, make_study, finish):
    """A real index, and the files of the other runs as their stages leave them."""
    everything = {"percent": "100", "rule": ""}
    data = {"root": str(tiny_root), "version": "v1.0-tiny", "pretrain_split": "train", "sweeps": 4}
    study = make_study(tmp_path, FREE, TUNED, TUNED | everything, datasets={"nuscenes": data})
    (number,) = (run for run in study.runs.values() if run.kind == "index")
    compute(study, number)
    for run in study.runs.values():
        if run.kind != "index":
            finish(study, only=run.key)
    index = build(study.configuration().datasets["nuscenes"], tmp_path / "index.parquet").split("val")
    frame = load_frame(NuScenes(), index.root, index.frames.iloc[0])
    (free,) = study.cell(study.experiments[0])
    scan = {"points": frame.points, "labels": frame.labels, "prediction": np.roll(frame.labels, 1)}
    np.savez(layout.run_folder(study.config, free) / "predictions.npz", **scan)
    out = tmp_path / "figures"
    out.mkdir()
    (out / "theirs.png").write_text("theirs")
    drawn = draw_figures(study, out)
    (pretraining,) = (run for run in study.runs.values() if run.kind == "pretrain")
    names = [
        "pixels-nuscenes.png", f"{free.name}.png", f"{pretraining.name}.png",
        "label-fractions-nuscenes-frame_skip.png",
    ]  # fmt: skip
    assert sorted(path.name for path in drawn) == sorted(names)
    assert all(pixels(path).std() > 5 for path in drawn)
    assert (out / "theirs.png").read_text() == "theirs"


def test_a_line_of_label_fractions_ends_at_all_labels(tmp_path, make_study, finish):
    """A picture a rule; nothing is drawn where nothing was fine-tuned."""
    rules = [{"rule": "frame_skip"}, {"rule": "scene_skip"}, {"percent": "100", "rule": ""}]
    study = make_study(tmp_path, *(TUNED | rule for rule in rules), FREE)
    finish(study)
    drawn = draw_fractions(read_cells(study, "main"), tmp_path / "figures")
    assert [path.name for path in drawn] == [
        "label-fractions-nuscenes-frame_skip.png", "label-fractions-nuscenes-scene_skip.png"
    ]  # fmt: skip
    assert draw_fractions(read_cells(make_study(tmp_path, FREE), "main"), tmp_path / "figures") == []


def test_two_lists_of_ids_do_not_share_a_picture(tmp_path, make_study, finish):
    """The same number of labels, but other keyframes."""
    rows = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n")
        rows.append(TUNED | {"rule": f"file:{tmp_path / f'{name}.txt'}"})
    study = make_study(tmp_path, *rows)
    finish(study)
    drawn = draw_fractions(read_cells(study, "main"), tmp_path / "figures")
    assert [path.name for path in drawn] == [
        f"label-fractions-nuscenes-file-{name}.png" for name in ("a", "b")
    ]  # fmt: skip


def test_names_of_figures_say_what_they_show(tmp_path, make_study, finish):
    """Stage, method, recipe, variant and key."""
    study = make_study(
        tmp_path, FREE, FREE | {"variant": "one"}, variants={"one": {"pretrain": {"sweeps": 1}}}
    )
    first, second = (study.cell(experiment)[0] for experiment in study.experiments)
    assert first.name == f"annotation_free-clip2scene-fixed-{first.key}"
    assert second.name == f"annotation_free-clip2scene-fixed-one-{second.key}"
