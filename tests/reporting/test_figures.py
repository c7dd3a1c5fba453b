"""Figures of finished runs."""

import numpy as np
import pytest
from PIL import Image

from clip2scene import layout
from clip2scene.compute import compute
from clip2scene.config import DatasetConfig
from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.semantickitti import SemanticKITTI
from clip2scene.evaluation.kept import Scan, write_scan
from clip2scene.reporting.figures import draw_figures, draw_scans, synthetic_note
from clip2scene.reporting.palettes import palette_of
from clip2scene.reporting.pictures import SYNTHETIC_DATA, class_legend, class_panel, draw_cameras

CAR, ROAD = (1 + NuScenes.classes.index(name) for name in ("car", "driveable_surface"))

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


def scan_of(frame, prediction=None):
    prediction = frame.labels if prediction is None else prediction
    return Scan(frame.id, frame.points, frame.labels, prediction)


@pytest.fixture(scope="module")
def index(tiny_root, tmp_path_factory):
    section = DatasetConfig(root=tiny_root, version="v1.0-tiny", sweeps=2)
    return build(section, tmp_path_factory.mktemp("index") / "index.parquet").split("val")


@pytest.fixture(scope="module")
def frame(index):
    return load_frame(NuScenes(), index.root, index.frames.iloc[0])


def count(picture, colour):
    return (np.abs(picture - colour).max(2) <= 2).sum()


def test_errors_are_shown_where_they_are(frame, tmp_path):
    """Ground truth on the left, prediction in the middle; red on the right is what is wrong."""
    wrong = frame.labels.copy()
    wrong[frame.labels == ROAD] = CAR
    reds = []
    for name, prediction in (("right", frame.labels), ("wrong", wrong)):
        path = draw_scans([scan_of(frame, prediction)], NuScenes(), "title", tmp_path / f"{name}.png")
        picture = pixels(path)
        third = picture.shape[1] // 3
        road = [count(part, NuScenes.colours[ROAD - 1]) for part in (picture[:, :third], picture[:, third:])]
        reds.append(count(picture[:-100], (200, 0, 40)))
        assert road[0] > 200
    assert road[1] < road[0] / 4  # the middle has none left but in its legend
    assert reds[0] < 50 < 500 < reds[1]


def test_every_picture_says_what_it_is_and_that_data_are_synthetic(frame, tmp_path):
    path = draw_scans([scan_of(frame)], NuScenes(), f"a title, {SYNTHETIC_DATA}", tmp_path / "a.png")
    with Image.open(path) as picture:
        assert picture.info["Description"] == "a title, synthetic data"


def test_a_legend_names_every_class_that_is_drawn(frame):
    colours = palette_of(NuScenes.colours)
    legend = class_legend(NuScenes.classes, colours, frame.labels)
    named = {NuScenes.classes[number - 1] for number in np.unique(frame.labels) if number}
    assert set(legend) - {"no class"} == named
    assert legend["car"].tolist() == NuScenes.colours[CAR - 1].tolist()


def test_points_lie_on_what_a_camera_sees(tiny_kitti, tmp_path):
    index = build(tiny_kitti, tmp_path / "index.parquet").split("val")
    frame = load_frame(SemanticKITTI(), index.root, index.frames.iloc[0])
    colours = palette_of(SemanticKITTI.colours)
    road = 1 + SemanticKITTI.classes.index("road")
    shown = [np.where(frame.labels == road, road, 0), np.zeros_like(frame.labels)]
    panels = [class_panel(name, labels, colours) for name, labels in zip("ab", shown, strict=True)]
    path = draw_cameras(frame.points, frame.cameras, panels, {}, "title", tmp_path / "cameras.png")
    picture = pixels(path)
    half = picture.shape[1] // 2
    left, right = (
        count(part, SemanticKITTI.colours[road - 1]) for part in (picture[:, :half], picture[:, half:])
    )
    assert left > 200
    assert right == 0


@pytest.fixture
def _named_frames(monkeypatch):
    """Name the validation keyframes as `finish` names those that its runs predict."""
    original = NuScenes.build_index

    def renamed(self, root, version, sweeps):
        frames = original(self, root, version, sweeps)
        mine = frames["splits"].map(lambda splits: "val" in splits)
        frames.loc[mine, "id"] = [f"frame-{number}" for number in range(mine.sum())]
        return frames

    monkeypatch.setattr(NuScenes, "build_index", renamed)


@pytest.mark.usefixtures("_named_frames")
def test_every_figure_of_a_study_is_drawn_and_others_stay(tmp_path, tiny_root, make_study, finish):
    """A real index, and the files of the other runs as their stages leave them."""
    everything = {"percent": "100", "rule": ""}
    teacher = {"protocol": "annotation_free", "method": "maskclip_projection", "target": "nuscenes"}
    data = {"root": str(tiny_root), "version": "v1.0-tiny", "pretrain_split": "train", "sweeps": 4}
    study = make_study(tmp_path, FREE, TUNED, TUNED | everything, teacher, datasets={"nuscenes": data})
    (number,) = (run for run in study.runs.values() if run.kind == "index")
    compute(study, number)
    for run in study.runs.values():
        if run.kind != "index":
            finish(study, only=run.key)
    index = build(study.configuration().datasets["nuscenes"], tmp_path / "index.parquet").split("val")
    for run in study.runs.values():
        if run.kind in ("annotation_free", "predict", "projection"):
            for number in (0, 1):
                frame = load_frame(NuScenes(), index.root, index.frames.iloc[number])
                folder, rolled = layout.run_folder(study.config, run), np.roll(frame.labels, 1)
                write_scan(folder, frame.id, number, frame.points, frame.labels, rolled)
    (free,) = study.cell(study.experiments[0])
    out = tmp_path / "figures"
    out.mkdir()
    (out / "theirs.png").write_text("theirs")
    drawn = draw_figures(study, out)
    views = [f"scene-nuscenes-{n}-{view}.png" for n in (1, 2) for view in ("above", "3d", "cameras")]
    names = [*views, "scene-nuscenes-1-sweeps.png", f"{free.name}.png"]
    assert sorted(path.name for path in drawn) == sorted(names)
    assert all(pixels(path).std() > 5 for path in drawn)
    assert (out / "theirs.png").read_text() == "theirs"
    with Image.open(out / "scene-nuscenes-1-above.png") as picture:
        words = picture.info["Description"]
    tuned = next(run for run in study.cell(study.experiments[2]))
    assert f"annotation-free, clip2scene: {free.key}" in words
    assert f"fine-tuned, random, 100 % of labels: {tuned.key}" in words


def test_names_of_figures_say_what_they_show(tmp_path, make_study, finish):
    """Stage, method, recipe, variant and key."""
    study = make_study(
        tmp_path, FREE, FREE | {"variant": "one"}, variants={"one": {"pretrain": {"sweeps": 1}}}
    )
    first, second = (study.cell(experiment)[0] for experiment in study.experiments)
    assert first.name == f"annotation_free-clip2scene-fixed-{first.key}"
    assert second.name == f"annotation_free-clip2scene-fixed-one-{second.key}"


@pytest.mark.parametrize("made", [None, {}])
def test_a_run_over_two_data_sets_is_synthetic_if_one_of_them_is(make_study, tmp_path, made):
    roots = {
        "nuscenes": {"root": str(tmp_path / "streets"), "pretrain_split": "train"},
        "scannet": {"format": "scannet", "root": str(tmp_path / "rooms"), "pretrain_split": "train"},
    }
    roots["scannet"] |= {"version": "scans", "synthetic": made}
    row = TUNED | {"method": "slidr", "pretrain": "nuscenes", "pretrain_seeds": "0"}
    study = make_study(tmp_path, row, datasets=roots, image_encoder={"datasets": ["nuscenes", "scannet"]})
    (encoder,) = (run for run in study.runs.values() if run.kind == "encoder")
    assert encoder.pretrain == "nuscenes scannet"
    assert synthetic_note(study, encoder) == ("" if made is None else f", {SYNTHETIC_DATA}")
