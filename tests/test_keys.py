"""Keys of runs: what changes them, and what leaves them as they are."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rows import FREE, RANDOM, STREETS_AND_ROOMS, TEACHER, TUNED, above, cells, changed, keys, study, write

from baselines import specs as baselines
from clip2scene.config import load_config
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.method import specs
from clip2scene.runs import Run
from clip2scene.study import Study

TRAINED = {"teacher", "encoder", "text", "pretrain", "annotation_free", "finetune", "predict"}
"""Stages of FREE and TUNED whose results depend on a random choice."""


def test_keys_are_stable(tmp_path):
    asked = study(tmp_path, FREE, TUNED)
    assert keys(asked) == keys(study(tmp_path, TUNED, FREE))
    assert Run("finetune").key == ""
    for run in asked.runs.values():
        assert asked.keyed(replace(run, key="")) == run


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"finetune": {"epochs": 77}}, {"finetune", "predict"}),
        ({"pretrain": {"epochs": 77}}, {"pretrain", "annotation_free", "finetune", "predict"}),
        (
            {"image_encoder": {"architecture": "resnet18"}},
            {"encoder"},  # and what SLidR trains with it, see below
        ),
        ({"seed": 1}, TRAINED | {"synthetic", "index", "subset", "superpixels"}),
        ({"threads": 2}, set()),  # portable arithmetic gives the same digits for any number
        ({"arithmetic": "native"}, TRAINED),
        ({"backbones": {"spvcnn": {"width": 0.25}}}, TRAINED - {"teacher", "encoder", "text"}),
        ({"workers": 4}, set()),
        ({"device": "cpu"}, set()),
        ({"share_process": False}, set()),
        ({"tracking": {"experiment": "other"}}, set()),
        ({"results": "elsewhere"}, set()),
        ({"checkpoints": {"theirs": "a.pt"}}, set()),
        ({"methods": {"ppkt": {"pairs": 7}}}, set()),  # no row is PPKT's
        ({"datasets": {"nuscenes": {"root": "elsewhere", "synthetic": {}}}}, {"index"}),
        ({"datasets": {"nuscenes": {"root": "data", "sweeps": 4, "synthetic": {}}}}, {"index"}),
    ],
)
def test_a_setting_changes_the_keys_it_bears_on(tmp_path, settings, expected):
    """Only the key of an index names a place: with another data root it is built again, and nothing else."""
    before, after = study(tmp_path, FREE, TUNED), study(tmp_path, FREE, TUNED, **settings)
    if "image_encoder" in settings:
        kept = {key for key, run in before.runs.items() if run.method == "clip2scene"}
        assert kept <= after.runs.keys()
        lost = {before.runs[key].kind for key in before.runs.keys() - after.runs.keys()}
        assert lost == {"encoder", "pretrain", "finetune", "predict"}
    else:
        assert changed(before, after) == expected


def test_the_root_of_a_download_is_in_the_key_of_the_index_alone(tmp_path):
    """A copy of the data set on another machine leaves all trained networks as they are."""
    rows = FREE, TUNED, RANDOM, TEACHER
    settings = {"teacher": {"pretrained": "openai"}}
    first, second = (
        study(tmp_path, *rows, datasets={"nuscenes": {"root": root}}, **settings) for root in ("a", "b")
    )
    assert changed(first, second) == {"index"}


def test_keys_hold_neither_places_nor_what_concerns_speed_alone(tmp_path):
    """Give places and speed values that stand out, and look for them in all that is hashed into keys."""
    root, weights = tmp_path / "some-root", tmp_path / "weights.pt"
    weights.write_text("weights")
    speed = {
        "workers": 987,
        "device": "cpu",
        "share_process": False,
        "results": str(tmp_path / "my-results"),
    }
    data = {"root": str(root), "pretrain_split": "train"}
    asked = study(
        tmp_path, FREE, TUNED, RANDOM, TEACHER, FREE | {"recipe": "theirs", "pretrain_seeds": ""},
        datasets={"nuscenes": data | {"synthetic": {}}},
        checkpoints={"theirs": str(weights)},
        image_encoder={"pretrained": str(weights)},
        **speed,
    )  # fmt: skip
    for run in asked.runs.values():
        hashed = json.dumps([run.fields(), asked.settings(run)], default=str)
        assert "my-results" not in hashed
        assert "987" not in hashed
        assert str(weights) not in hashed
        assert (str(tmp_path) in hashed) == (run.kind == "index")


def test_a_run_s_fields_are_those_that_are_used():
    """Neither key nor variant is one of them, nor the path of a list of ids."""
    run = Run(
        "finetune", "0123", method="slidr", percent=5, rule="file:a/b.txt", pretrain_seed=0, variant="v"
    )
    assert run.fields() == {
        "kind": "finetune", "method": "slidr", "percent": 5, "rule": "file", "pretrain_seed": 0, "seed": 0
    }  # fmt: skip
    assert "pretrain_seed" not in replace(run, pretrain_seed=None).fields()


def test_settings_of_one_method_leave_the_others(tmp_path):
    before = study(tmp_path, FREE, TUNED)
    for settings in (
        {"pretrain": {"by_method": {"slidr": {"epochs": 77}}}},
        {"methods": {"slidr": {"superpixels": {"segments": 20}}}},
    ):
        after = study(tmp_path, FREE, TUNED, **settings)
        assert keys(before)["annotation_free"] == keys(after)["annotation_free"]
        assert not keys(before)["finetune"] & keys(after)["finetune"]


def test_superpixels_of_equal_parameters_are_shared_by_methods(tmp_path, monkeypatch):
    """Their key holds SLIC's parameters, not the method that gives them."""
    monkeypatch.setattr(baselines, "PPKT", replace(baselines.PPKT, settings=baselines.SLidRSettings))
    finer = {"methods": {"ppkt": {"superpixels": {"segments": 300}}}}
    slidr, ppkt = (Run("superpixels", method=method, target="nuscenes") for method in ("slidr", "ppkt"))
    asked = study(tmp_path, TUNED)
    assert {asked.keyed(slidr).key} == {asked.keyed(ppkt).key} == keys(asked)["superpixels"]
    other = study(tmp_path, TUNED, **finer)
    assert other.keyed(slidr).key == asked.keyed(slidr).key != other.keyed(ppkt).key


@pytest.mark.parametrize(("owner", "name", "row"), [(specs, "CLIP2SCENE", FREE), (baselines, "SLIDR", TUNED)])
def test_the_values_of_a_recipe_are_in_the_key(tmp_path, monkeypatch, owner, name, row):
    """A recipe that is edited is another recipe, whatever it is called."""
    before = study(tmp_path, FREE, TUNED)
    recipe, spec = row.get("recipe", ""), getattr(owner, name)
    edited = dict(spec.recipes) | {recipe: {**(spec.recipes[recipe] or {}), "temperature": 0.123}}
    monkeypatch.setattr(owner, name, replace(spec, recipes=edited))
    after = study(tmp_path, FREE, TUNED)
    lost = {before.runs[key] for key in before.runs.keys() - after.runs.keys()}
    assert {run.method for run in lost} == {row["method"]}
    assert {run.kind for run in lost} == {"pretrain"} | (
        {"annotation_free"} if row is FREE else {"finetune", "predict"}
    )


def test_another_recipe_that_no_row_names_changes_nothing(tmp_path, monkeypatch):
    before = keys(study(tmp_path, FREE, TUNED))
    recipes = dict(specs.CLIP2SCENE.recipes)
    recipes["paper"] = recipes["paper"] | {"temperature": 0.123}
    monkeypatch.setattr(specs, "CLIP2SCENE", replace(specs.CLIP2SCENE, recipes=recipes))
    assert keys(study(tmp_path, FREE, TUNED)) == before


def test_prompts_are_in_the_keys_of_what_is_aligned_with_them(tmp_path, monkeypatch):
    """Text embeddings, CLIP2Scene's pre-training and its judgement; neither SLidR's runs nor any data."""
    before = study(tmp_path, FREE, TUNED)
    monkeypatch.setattr(NuScenes, "prompts", ("fence", *NuScenes.prompts[1:]))
    after = study(tmp_path, FREE, TUNED)
    lost = {before.runs[key] for key in before.runs.keys() - after.runs.keys()}
    assert {run.kind for run in lost} == {"text", "pretrain", "annotation_free"}
    assert {run.method for run in lost} == {"", "clip2scene"}
    kept = {before.runs[key].kind for key in before.runs.keys() & after.runs.keys()}
    assert kept == {
        "synthetic", "index", "subset", "superpixels", "teacher", "encoder", "pretrain", "finetune", "predict"
    }  # fmt: skip


def test_local_weights_are_known_by_their_content(tmp_path):
    """The path is in no key; the content is in the fingerprint."""
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_text("weights")
    first, second = (
        study(tmp_path, TUNED, image_encoder={"pretrained": str(tmp_path / name)})
        for name in ("a.pt", "b.pt")
    )
    assert first.runs.keys() == second.runs.keys()
    (key,) = keys(first)["encoder"]
    prints = [asked.identity(asked.runs[key]).fingerprint for asked in (first, second)]
    assert prints[0] == prints[1]
    (tmp_path / "b.pt").write_text("other weights")
    assert second.identity(second.runs[key]).fingerprint != prints[0]


def test_settings_of_one_data_set_leave_the_others(tmp_path):
    rows = FREE, FREE | {"pretrain": "scannet", "target": "scannet"}
    before = keys(study(tmp_path, *rows, datasets=STREETS_AND_ROOMS))
    own = {**STREETS_AND_ROOMS, "scannet": {**STREETS_AND_ROOMS["scannet"], "pretrain": {"epochs": 77}}}
    after = keys(study(tmp_path, *rows, datasets=own))
    assert len(before["pretrain"]) == 4
    assert len(before["pretrain"] & after["pretrain"]) == 2
    assert before["teacher"] == after["teacher"]


def variant_study(tmp_path: Path, *rows: dict[str, str], **changes: Any) -> Study:
    """Return a study of rows and the same rows under the variant ``v``."""
    both = [*rows, *(row | {"variant": "v"} for row in rows)]
    return study(tmp_path, *both, variants={"v": changes})


def test_a_variant_shares_all_runs_that_it_does_not_bear_on(tmp_path):
    """One sweep a sample: pre-training differs, and what starts from it; data, teacher and text do not."""
    plain = study(tmp_path, FREE, TUNED)
    both = variant_study(tmp_path, FREE, TUNED, pretrain={"sweeps": 1})
    assert plain.runs.keys() < both.runs.keys()
    more = {key: run for key, run in both.runs.items() if key not in plain.runs}
    assert {run.kind for run in more.values()} == {"pretrain", "annotation_free", "finetune", "predict"}
    assert len(more) == 3 + 2 + 3 + 3
    assert {run.variant for run in more.values()} == {"v"}
    free, tuned, free_v, tuned_v = cells(both)
    assert {run.key for run in free}.isdisjoint(run.key for run in free_v)
    shared = {"synthetic", "index", "teacher", "text"}
    for run, other in zip(free, free_v, strict=True):
        mine, theirs = above(both, run), above(both, other)
        assert {r.key for r in mine if r.kind in shared} == {r.key for r in theirs if r.kind in shared}
    subsets = {r.key for run in tuned + tuned_v for r in above(both, run) if r.kind == "subset"}
    assert len(subsets) == 1


def test_a_variant_without_effect_shares_every_run(tmp_path):
    """Random initialisation does not see the number of sweeps: both rows rest on the same runs."""
    both = variant_study(tmp_path, RANDOM, pretrain={"sweeps": 1})
    assert both.runs.keys() == study(tmp_path, RANDOM).runs.keys()
    first, second = cells(both)
    assert [run.key for run in first] == [run.key for run in second]


def test_a_variant_may_change_the_synthetic_data(tmp_path):
    """The variant's data set lies beside the other, never in its place."""
    both = variant_study(
        tmp_path, RANDOM, datasets={"nuscenes": {"synthetic": {"beams": 16}}}, finetune={"epochs": 1}
    )
    assert len(keys(both)["synthetic"]) == 2
    roots = [both.configuration(variant).datasets["nuscenes"].root for variant in ("", "v")]
    assert roots[0] != roots[1]
    assert [root.parent for root in roots] == [Path("data")] * 2


def test_a_list_of_ids_is_known_by_its_content(tmp_path):
    """The same list in another file draws the same subset; another list draws another."""
    files = {name: tmp_path / name for name in ("a.txt", "b.txt", "c.txt")}
    for name, path in files.items():
        path.write_text("three\n" if name == "c.txt" else "one\ntwo\n")
    a, b, c = (study(tmp_path, RANDOM | {"rule": f"file:{path}", "percent": "5"}) for path in files.values())
    assert a.runs.keys() == b.runs.keys()
    assert changed(a, c) == {"subset", "finetune", "predict"}
    assert {run.fields()["rule"] for run in a.runs.values() if run.rule} == {"file"}
    before = a.runs.keys()
    files["a.txt"].write_text("three\n")
    edited = study(tmp_path, RANDOM | {"rule": f"file:{files['a.txt']}", "percent": "5"})
    assert edited.runs.keys() == c.runs.keys() != before


def test_a_study_is_named_after_what_it_computes(tmp_path):
    """Not after places or speed, so that two machines name it alike."""
    name = study(tmp_path, FREE, TUNED).name
    places = {
        "results": "elsewhere", "workers": 3, "device": "cpu", "tracking": {"uri": "sqlite:///other.db"},
        "datasets": {"nuscenes": {"root": "elsewhere", "synthetic": {}}},
    }  # fmt: skip
    assert study(tmp_path, FREE, TUNED, **places).name == name
    assert study(tmp_path, FREE, TUNED, finetune={"epochs": 77}).name != name
    assert study(tmp_path, FREE).name != name


def test_jobs_read_a_copy_of_the_configuration_and_the_table(tmp_path):
    """A job that starts late computes what the first one did, whatever was edited meanwhile."""
    asked = study(tmp_path, FREE, TUNED, results=str(tmp_path / "results"), finetune={"epochs": 7})
    file = asked.file
    write(tmp_path / "experiments.tsv", FREE | {"pretrain_seeds": "9"})
    copy = Study(load_config(file))
    assert (copy.name, copy.runs) == (asked.name, asked.runs)
