"""`clip2scene explain`: where a run comes from; and of two runs, what differs, the most important first."""

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from clip2scene import layout
from clip2scene.cli import main
from clip2scene.errors import InputError
from clip2scene.explain import compare, differences, provenance
from clip2scene.reporting.attribution import by_class, by_unit
from clip2scene.reporting.statistics import scores

TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0",
}  # fmt: skip
VARIANTS = {
    "longer": {"finetune": {"epochs": 7}},
    "wide": {"backbones": {"spvcnn": {"width": 0.5}}},
    "coarse": {"datasets": {"nuscenes": {"voxel_size": 0.4}}},
    "other_split": {"datasets": {"nuscenes": {"val_split": "verifying"}}},
    "pretrained_longer": {"pretrain": {"epochs": 9}},
    "wide_longer": {"finetune": {"epochs": 7}, "backbones": {"spvcnn": {"width": 0.5}}},
}  # fmt: skip


@pytest.fixture
def pair(tmp_path, make_study, finish):
    """Returns a finished study of two rows and the runs that fill them."""

    def make(change, base=TUNED):
        study = make_study(tmp_path, base, base | change | {"tables": "cross_domain"}, variants=VARIANTS)
        finish(study)
        return study, *(study.cell(e)[0] for e in study.experiments)

    return make


def kinds(found):
    return [(difference.kind, difference.name) for difference in found]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rule": "scene_skip"}, [("rule", "rule", "frame_skip", "scene_skip")]),
        ({"percent": "10"}, [("rule", "percent", 1.0, 10.0)]),
        ({"seeds": "3"}, [("seed", "seed", 0, 3)]),
        ({"variant": "longer"}, [("settings", "tuning.epochs", None, 7)]),
        ({"variant": "wide"}, [("backbone", "network.width", None, 0.5)]),
        ({"variant": "coarse"}, [("backbone", "voxel_size", None, 0.4)]),
        ({"variant": "other_split"}, [("split", "split", "val", "verifying")]),
        ({"variant": "pretrained_longer"}, [("settings", "training.epochs", None, 9)]),
    ],
)
def test_one_planted_difference_stands_alone(pair, change, expected):
    """In whichever run of the chain it is; what follows from it is not listed."""
    found = differences(*pair(change))
    assert kinds(found) == [each[:2] for each in expected]
    for difference, (_, _, first, second) in zip(found, expected, strict=True):
        assert difference.second == second
        assert first is None or difference.first == first


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rule": "scene_skip", "seeds": "3"}, ["rule", "seed"]),
        ({"variant": "wide_longer"}, ["backbone", "settings"]),
        ({"rule": "scene_skip", "variant": "wide"}, ["rule", "backbone"]),
        ({"variant": "other_split", "percent": "10"}, ["split", "rule"]),
        ({"variant": "longer", "pretrain_seeds": "5"}, ["settings", "seed"]),
    ],
)
def test_two_planted_differences_stand_first_in_the_order_in_which_they_matter(pair, change, expected):
    found = list(dict.fromkeys(kind for kind, _ in kinds(differences(*pair(change)))))
    assert found == expected


def test_changed_data_and_code_are_seen_in_the_records(pair, write_run, scored):
    """The labels of a data set, two runs back, and the code that computed one run; data stand before code."""
    study, first, second = pair({"variant": "longer"})
    assert kinds(differences(study, first, second)) == [("settings", "tuning.epochs")]
    write_run(study, second, {"all": scored(50)}, code="changed")
    (_, code) = differences(study, first, second)
    assert (code.kind, code.first, code.second, code.stages) == ("code", "c0de", "changed", ("predict",))


def test_another_method_is_said_once_whatever_follows_from_it(pair):
    found = differences(*pair({"method": "random", "pretrain": "", "pretrain_seeds": ""}))
    assert ("method", "method") in kinds(found)
    absent = [difference for difference in found if difference.second is None and difference.kind == "method"]
    assert "reads network" in [difference.name for difference in absent]
    assert found[0].kind in ("data", "method")  # the data set of pre-training is gone too


def test_the_same_run_twice_differs_in_nothing(pair):
    study, first, _ = pair({"seeds": "1"})
    assert differences(study, first, first) == []
    assert "nothing differs" in list(compare(study, first, first))


def test_runs_of_two_stages_are_not_compared(pair):
    study, first, _ = pair({"seeds": "1"})
    (index, *_) = (run for run in study.runs.values() if run.kind == "index")
    with pytest.raises(InputError, match=r"of the stage index, run .* of predict; expected two runs"):
        list(compare(study, first, index))


def matrices(car, bus, scenes=10):
    """Return [20, 17, 17]: IoU of class 4 and 3 in each of ten scenes of two keyframes."""
    counts = np.zeros((2 * scenes, 17, 17), np.int64)
    for number, ious in ((4, car), (3, bus)):
        hits = np.repeat(ious, 2)
        counts[:, number, number], counts[:, number, 0] = hits, 100 - hits
    return counts


def test_the_classes_and_scenes_that_a_difference_comes_from(pair, write_run):
    """Cars are 20 better in scene 3 alone, buses 5 worse everywhere: (2 - 5) / 2 = -1.5 in the mean."""
    study, first, second = pair({"seeds": "1"})
    car, bus = np.full(10, 50), np.full(10, 40)
    better = car.copy()
    better[3] += 20
    write_run(study, first, {"all": matrices(car, bus)})
    write_run(study, second, {"all": matrices(better, bus - 5)})
    lines = list(compare(study, first, second))
    assert lines[3] == "seed: seed: 0 → 1 (predict, finetune)"
    assert lines[5].startswith("mIoU 45.00 → 43.50, difference -1.5 [")
    assert "over 10 scenes, p " in lines[5]
    assert lines[6] == "classes: bus -2.50, car +1.00"
    assert lines[7].startswith("scenes (what goes if one is left out): 3 +1.00")


def test_shares_of_classes_add_up_to_the_difference():
    """Also where a run lacks a class, whose mean then is over fewer."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(1, 50, (2, 6, 2, 4)).astype(float)
    first[:, 1], second[:, 1] = first[:, 0] + 10, second[:, 0] + 20
    second[:, :, 2] = 0
    difference = scores(second.sum(0)[None])[0] - scores(first.sum(0)[None])[0]
    assert by_class(first, second).sum() == pytest.approx(difference)


def test_a_scene_s_share_by_hand():
    """One class, 10 points a scene: 5 and 5 hits against 5 and 9; without the second nothing differs."""
    first = np.array([[[5.0], [10]], [[5], [10]]])
    second = np.array([[[5.0], [10]], [[9], [10]]])
    assert by_unit(first, second) == pytest.approx([20 - 40, 20 - 0])


def test_a_run_s_chain_and_the_commands_that_make_it_again(pair):
    study, run, _ = pair({"seeds": "1"})
    lines = list(provenance(study, run, "config/mine.yaml"))
    text = "\n".join(lines)
    assert lines[0] == f"run {run.key}  predict: {run.title}"
    assert "fills 1 row of" in lines[1]
    assert lines[1].endswith("tables main")
    assert "  network.width = " in text
    for parent in study.with_parents([run])[:-1]:
        assert f"  {parent.key}  finished" in text
    assert f"{layout.run_folder(study.config, run) / 'confusion.npz'}  sha256 " in text
    assert "network/network: pretrain: slidr" in text
    assert f"  clip2scene --config config/mine.yaml run --parents {run.key}" in lines
    assert "  clip2scene --config config/mine.yaml table main" in lines
    assert any(line.startswith("seed 0, commit ") for line in lines)


def test_a_run_that_was_never_computed_has_a_chain_too(tmp_path, make_study):
    study = make_study(tmp_path, TUNED)
    (run,) = study.cell(study.experiments[0])
    lines = list(provenance(study, run, "config.yaml"))
    assert "was never computed" in lines
    assert lines[-2] == f"  clip2scene --config config.yaml run --parents {run.key}"


def test_the_command_names_a_key_that_does_not_exist(pair, tmp_path):
    study, first, second = pair({"seeds": "1"})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(study.config.model_dump(mode="json")))

    def explain(*keys):
        return CliRunner().invoke(main, ["--config", str(tmp_path / "config.yaml"), "explain", *keys])

    assert explain(first.key, second.key).output.splitlines()[0].startswith(f"from  {first.key}")
    assert explain(first.key).exit_code == 0
    wrong = explain(first.key[:-1])
    assert wrong.exit_code == 2
    assert f"'{first.key[:-1]}' is not known, did you mean '{first.key}'?" in wrong.output
