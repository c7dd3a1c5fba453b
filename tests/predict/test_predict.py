"""`clip2scene predict`: labels, free text and files, of a network whose answers are known."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from clip2scene.cli import main
from clip2scene.cli import networks as commands
from clip2scene.datasets.index import build, load_frame
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.ply import read_vertices
from clip2scene.datasets.semantickitti import ID_TO_CLASS, SemanticKITTI
from clip2scene.errors import InputError
from clip2scene.predict.label import relevancy, top_points
from clip2scene.predict.network import without_article
from clip2scene.predict.outputs import RAW_IDS, write_label
from clip2scene.reporting.palettes import palette_of


@pytest.fixture
def scan(tmp_path, cloud):
    points, intensity = cloud
    path = tmp_path / "000007.pcd.bin"
    np.column_stack([points, intensity, np.zeros(60)]).astype(np.float32).tofile(path)
    return path


@pytest.fixture
def invoke(monkeypatch):
    def run(network, *words, fails=False):
        monkeypatch.setattr(commands, "_network", lambda path, name: network)
        result = CliRunner().invoke(main, ["predict", *map(str, words), "--run", "x"])
        assert result.exit_code == (2 if fails else 0), result.output or result.exception
        return result.stdout if not fails else result.output

    return run


def test_every_point_gets_the_class_that_the_network_gives_its_voxel(network, invoke, scan, cloud, tmp_path):
    points, intensity = cloud
    out = tmp_path / "out"
    said = invoke(network, scan, "--out", out, "--as", "npy", "--as", "ply", "--as", "png")
    expected = (intensity / 10).astype(int)
    np.testing.assert_array_equal(np.load(out / "000007.npy"), expected)
    vertices = read_vertices(out / "000007.ply", "red", "green", "blue", "label")
    np.testing.assert_array_equal(vertices["label"], expected)
    np.testing.assert_array_equal(np.stack([vertices[axis] for axis in "xyz"], 1), points)
    colours = np.stack([vertices[name] for name in ("red", "green", "blue")], 1)
    np.testing.assert_array_equal(colours, NuScenes.colours[expected - 1])
    classes = json.loads((out / "classes.json").read_text())["classes"]
    assert [classes[str(number)]["name"] for number in range(1, 17)] == list(NuScenes.classes)
    with Image.open(out / "000007.png") as picture:
        assert "made up" in picture.info["Description"]
    assert "60 points; intensity of 0 to 255, on nuScenes' scale" in said


def test_json_says_what_was_found_and_written(network, invoke, scan, tmp_path):
    (item,) = json.loads(invoke(network, scan, "--out", tmp_path / "out", "--json"))
    assert item["points"] == sum(item["classes"].values()) == 60
    assert item["classes"]["barrier"] == 4
    assert item["written"] == {"npy": str(tmp_path / "out/000007.npy")}


def test_a_colour_blind_reader_gets_other_colours(network, invoke, scan, tmp_path):
    invoke(network, scan, "--out", tmp_path, "--as", "ply", "--palette", "colour-blind")
    vertices = read_vertices(tmp_path / "000007.ply", "red", "green", "blue", "label")
    colours = palette_of(NuScenes.colours, "colour-blind")
    np.testing.assert_array_equal(vertices["red"], colours[vertices["label"], 0])


def test_semantickittis_ids_are_those_of_its_benchmark(tmp_path):
    """Read back by its own loader, every class is itself; ids of the official inverse map are kept."""
    assert (ID_TO_CLASS[RAW_IDS] == np.arange(20)).all()
    assert RAW_IDS.tolist()[1:8] == [10, 11, 15, 18, 20, 30, 31]
    write_label(tmp_path / "a.label", np.arange(20))
    np.testing.assert_array_equal(SemanticKITTI().read_labels(tmp_path / "a.label"), np.arange(20))


REFUSALS = [
    (("--as", "label"), "--as: found label, for made up, whose classes are nuscenes; expected npy or ply"),
    (("--words", "car"), "--words: made up: has a classifier and no text; expected a run of the stages"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), REFUSALS)
def test_what_a_network_cannot_do_is_said_in_one_line(network, invoke, scan, tmp_path, words, message):
    said = invoke(network, scan, "--out", tmp_path / "out", *words, fails=True)
    assert said.splitlines()[-1].startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_name_are_refused_before_anything_is_written(network, invoke, scan, tmp_path):
    (tmp_path / "b").mkdir()
    other = tmp_path / "b/000007.npy"
    np.save(other, np.zeros((2, 4)))
    said = invoke(network, scan, other, "--out", tmp_path / "out", fails=True)
    assert "would both be written as 000007; expected files of different names" in said
    assert not (tmp_path / "out").exists()


def test_words_find_the_points_of_their_class(aligned, tiny_root, invoke, tmp_path):
    """A keyframe of the embedded data, whose points have the feature of their class."""
    index = build(_section(tiny_root), tmp_path / "index.parquet").split("val")
    frame = load_frame(NuScenes(), index.root, index.frames.iloc[0])
    kept = frame.labels > 0
    coded = np.column_stack([frame.points, 10.0 * frame.labels, np.zeros(len(kept))])[kept]
    coded.astype(np.float32).tofile(tmp_path / "scan.bin")
    labels, out = frame.labels[kept], tmp_path / "out"
    words = ("a car", "the driveable surface", "vegetation")
    (item,) = json.loads(
        invoke(aligned, tmp_path / "scan.bin", "--out", out, "--json", "--top", "7", "--words", *words)
    )
    similar, relevant = (np.load(out / f"scan.{name}.npy") for name in ("similarity", "relevancy"))
    found = np.load(out / "scan.npy")
    assert similar.shape == (len(labels), 3)
    for number, word in enumerate(words):
        wanted = 1 + NuScenes.prompts.index(without_article(word))
        assert [labels[point["point"]] for point in item["top"][word]] == [wanted] * 7
        assert {point["similarity"] for point in item["top"][word]} == {1.0}
        assert (found[labels == wanted] == number + 1).all()
        np.testing.assert_allclose(similar[labels == wanted, number], 1, atol=1e-5)
        assert np.nanmax(relevant[labels != wanted, number]) < relevant[labels == wanted, number].min()
    with Image.open(out / "scan.relevancy.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5


def test_relevancy_ranks_a_point_that_fits_everything_below_one_that_fits_the_word_alone():
    """By hand. Point 0 is similar to all texts, point 1 to the word only; "car" is itself no rival."""
    words, prompts = torch.tensor([[0.9], [0.8]]), torch.tensor([[0.9, 0.9, 0.9], [0.8, 0.3, 0.3]])
    rivals = np.array([[False, True, True]])
    found = relevancy(words, prompts, rivals)
    np.testing.assert_allclose(found[:, 0], [1 / 3, 1 / (1 + 2 * np.exp(-5))], rtol=1e-5)
    assert top_points(words.numpy(), 2).tolist() == [[0, 1]]
    assert top_points(found, 2).tolist() == [[1, 0]]


def test_a_word_competes_with_all_prompts_but_its_own(aligned):
    network = aligned.with_words(("a car", "the Driveable  surface", "traffic cone", "a red car"))
    own = [[prompt for prompt, rival in zip(network.prompts, row, strict=True) if not rival]
           for row in network.rivals]  # fmt: skip
    assert own == [["car"], ["driveable surface"], ["traffic_cone"], []]


def test_words_after_files_may_stand_before_other_options(aligned, invoke, scan, tmp_path):
    said = invoke(aligned, scan, "--words", "car", "a bus", "--top", "1", "--out", tmp_path)
    assert "\n  car: " in said
    assert "\n  a bus: " in said


@pytest.mark.parametrize("words", [["car", "car"], [""], [" "]])
def test_words_that_name_nothing_are_refused(aligned, words):
    with pytest.raises(InputError, match="expected different texts"):
        aligned.with_words(words)


def test_an_article_is_left_to_the_templates():
    assert [without_article(text) for text in ("a red car", "The road", "an", "anvil", " a  bus ")] == [
        "red car", "road", "an", "anvil", "bus"
    ]  # fmt: skip


def _section(root):
    from clip2scene.config import DatasetConfig

    return DatasetConfig(root=root, version="v1.0-tiny", sweeps=0)
