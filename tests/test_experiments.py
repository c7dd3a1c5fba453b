"""The table of experiments: which runs it asks for, and what their keys depend on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines import specs as baselines
from clip2scene.config import Config, load_config, parse_config
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.errors import InputError
from clip2scene.experiment_table import load_experiments
from clip2scene.experiments import Experiment
from clip2scene.method import specs
from clip2scene.runs import Product, Run
from clip2scene.study import Study

HEADER = list(Experiment.model_fields)
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0 1",
}  # fmt: skip
TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1 2",
}  # fmt: skip
RANDOM = TUNED | {"method": "random", "pretrain": "", "pretrain_seeds": ""}
TEACHER = {"protocol": "annotation_free", "method": "maskclip_projection", "target": "nuscenes"}
TRAINED = {"teacher", "encoder", "text", "pretrain", "annotation_free", "finetune", "predict"}
"""Stages of FREE and TUNED whose results depend on a random choice."""


def write(path: Path, *rows: dict[str, str], header: list[str] = HEADER) -> Path:
    lines = ["\t".join(header), *("\t".join(row.get(name, "") for name in header) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def config(tmp_path: Path, *rows: dict[str, str], **settings) -> Config:
    path = write(tmp_path / "experiments.tsv", *rows)
    values = {"datasets": {"nuscenes": {"root": "data", "synthetic": {}}}, **settings}
    return parse_config({"experiments": str(path)} | values, "f.yaml")


def study(tmp_path: Path, *rows: dict[str, str], **settings) -> Study:
    return Study(config(tmp_path, *rows, **settings))


def keys(study: Study) -> dict[str, set[str]]:
    """Return the keys of a study's runs by stage."""
    found: dict[str, set[str]] = {}
    for run in study.runs.values():
        found.setdefault(run.kind, set()).add(run.key)
    return found


def changed(before: Study, after: Study) -> set[str]:
    """Return the stages of whose runs not one has the same key; the others have kept all of them."""
    old, new = keys(before), keys(after)
    assert old.keys() == new.keys()
    for kind in old:
        assert old[kind] == new[kind] or not old[kind] & new[kind], kind
    return {kind for kind in old if old[kind] != new[kind]}


def cells(study: Study) -> list[list[Run]]:
    return [study.cell(experiment) for experiment in study.experiments]


def above(study: Study, run: Run) -> list[Run]:
    """Return all that a run reads from, directly or not."""
    return study.with_parents([run])[:-1]


def test_runs_follow_those_they_start_from(tmp_path):
    asked = study(tmp_path, FREE, TUNED)
    kinds = [run.kind for run in asked.runs.values()]
    assert sorted(kinds) == sorted(
        ["synthetic", "index", "teacher", "text", "encoder", "superpixels", "subset"]
        + ["pretrain"] * 3
        + ["annotation_free"] * 2
        + ["finetune", "predict"] * 3
    )
    order = list(asked.runs)
    for run in asked.runs.values():
        for parent in asked.parents(run).values():
            assert order.index(parent.key) < order.index(run.key)


def test_runs_of_an_experiment_are_its_seeds(tmp_path):
    asked = study(tmp_path, TUNED)
    (runs,) = cells(asked)
    assert [(run.kind, run.protocol, run.seed) for run in runs] == [
        ("predict", "finetune", 0), ("predict", "finetune", 1), ("predict", "finetune", 2)
    ]  # fmt: skip
    tuned = [asked.parents(run)["network"] for run in runs]
    assert [(run.kind, run.seed) for run in tuned] == [("finetune", 0), ("finetune", 1), ("finetune", 2)]
    assert len({asked.parents(run)["network"] for run in tuned}) == 1  # one pre-training, tuned three times


def test_every_seed_of_pre_training_is_combined_with_every_seed_of_fine_tuning(tmp_path):
    (runs,) = cells(study(tmp_path, TUNED | {"pretrain_seeds": "3 4", "seeds": "0 1"}))
    assert [(run.pretrain_seed, run.seed) for run in runs] == [(3, 0), (3, 1), (4, 0), (4, 1)]


def test_runs_of_a_table_are_its_rows_and_what_they_read(tmp_path):
    asked = study(tmp_path, FREE, TUNED | {"tables": "cross_domain"})
    kinds = {run.kind for run in asked.runs_of("cross_domain").values()}
    expected = {"synthetic", "index", "subset", "encoder", "superpixels", "pretrain", "finetune", "predict"}
    assert kinds == expected
    assert asked.runs_of("cross_domain").keys() | asked.runs_of("main").keys() == asked.runs.keys()


@pytest.mark.parametrize(("source", "target"), [("nuscenes", "semantickitti"), ("semantickitti", "nuscenes")])
def test_a_network_is_judged_on_another_data_set(tmp_path, source, target):
    """It learns from the source alone, and meets the target's files and prompts when it is evaluated."""
    data = {"root": "kitti", "format": "semantickitti", "synthetic": {}}
    datasets = {"nuscenes": {"root": "data", "synthetic": {}}, "semantickitti": data}
    domains = {"pretrain": source, "target": target}
    asked = study(tmp_path, FREE | domains, TUNED | domains, datasets=datasets)
    expected = {
        "encoder": set(asked.config.image_encoder.datasets), "superpixels": {source}, "pretrain": {source},
        "annotation_free": {target}, "finetune": {target}, "predict": {target}, "subset": {target},
    }  # fmt: skip
    for run in asked.runs.values():
        read = asked.parents(run).values()
        if run.kind in expected:
            assert {parent.target for parent in read if parent.kind == "index"} == expected.pop(run.kind)
            expected[run.kind] = {parent.target for parent in read if parent.kind == "index"}
        prompts = {parent.target for parent in read if parent.kind == "text"}
        match run.kind:
            case "pretrain":
                assert prompts == ({source} if run.method == "clip2scene" else set())
            case "annotation_free":
                assert prompts == {target}
                assert {parent.kind for parent in read} == {"index", "text", "pretrain"}
            case "finetune":
                assert {parent.kind for parent in read} == {"index", "subset", "pretrain"}


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
        ({"threads": 2}, TRAINED),
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


def test_a_row_that_starts_from_a_checkpoint_pre_trains_nothing(tmp_path):
    """Its key holds the checkpoint's name; the file's content is in the fingerprint."""
    rows = [row | {"recipe": "theirs", "pretrain_seeds": ""} for row in (FREE, TUNED)]
    asked = study(tmp_path, *rows, checkpoints={"theirs": "a.pt"})
    # the teacher is asked for, as the text embeddings are its own
    assert [run.kind for run in asked.runs.values()] == [
        "synthetic", "index", "teacher", "text", "annotation_free", "subset", *["finetune", "predict"] * 3
    ]  # fmt: skip
    starts = [
        source for run in asked.runs.values() if isinstance(source := asked.reads(run).get("network"), Path)
    ]
    assert starts == [Path("a.pt")] * 4
    assert keys(study(tmp_path, *rows, checkpoints={"theirs": "b.pt"})) == keys(asked)
    other = [row | {"recipe": "others"} for row in rows]
    renamed = study(tmp_path, *other, checkpoints={"others": "a.pt"})
    assert changed(asked, renamed) == {"annotation_free", "finetune", "predict"}


def test_a_checkpoint_does_not_take_a_recipe_s_name(tmp_path):
    with pytest.raises(InputError, match="checkpoints: fixed: a recipe of clip2scene has this name"):
        load_experiments(config(tmp_path, FREE, checkpoints={"fixed": "a.pt"}))


STREETS_AND_ROOMS = {
    "nuscenes": {"root": "streets", "synthetic": {}},
    "scannet": {"format": "scannet", "root": "rooms", "version": "scans", "synthetic": {}},
}


def test_a_network_for_intensity_is_refused_on_colours(tmp_path):
    with pytest.raises(InputError, match="nuscenes have 1 features, those of scannet have 3"):
        load_experiments(config(tmp_path, FREE | {"target": "scannet"}, datasets=STREETS_AND_ROOMS))


def test_a_teacher_learns_from_the_data_sets_that_it_names(tmp_path):
    both = {"datasets": STREETS_AND_ROOMS, "teacher": {"datasets": ["nuscenes", "scannet"]}}
    asked = study(tmp_path, FREE, **both)
    (key,) = keys(asked)["teacher"]
    read = asked.inputs(asked.runs[key])
    assert list(read) == ["captions.nuscenes", "captions.scannet"]
    for name, path in zip(STREETS_AND_ROOMS, read.values(), strict=True):
        data = asked.configuration().datasets[name]
        assert path == data.root / data.version / "captions.parquet"
    assert keys(study(tmp_path, FREE))["teacher"] != {key}
    with pytest.raises(
        InputError, match=r"teacher.datasets: .* 'scanet' is not known, did you mean 'scannet'\?"
    ):
        study(tmp_path, FREE, **both | {"teacher": {"datasets": ["scanet"]}})


def test_an_image_encoder_learns_from_the_data_sets_that_it_names(tmp_path):
    both = {"datasets": STREETS_AND_ROOMS, "image_encoder": {"datasets": ["nuscenes", "scannet"]}}
    asked = study(tmp_path, TUNED, **both)
    (key,) = keys(asked)["encoder"]
    read = asked.inputs(asked.runs[key])
    assert read == {f"index.{name}": asked.index(name) for name in STREETS_AND_ROOMS}
    with pytest.raises(
        InputError, match=r"image_encoder.datasets: .* 'scanet' is not known, did you mean 'scannet'\?"
    ):
        study(tmp_path, TUNED, **both | {"image_encoder": {"datasets": ["scanet"]}})


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


IDS = "one\ntwo\n"


def test_a_list_of_ids_is_known_by_its_content(tmp_path):
    """The same list in another file draws the same subset; another list draws another."""
    files = {name: tmp_path / name for name in ("a.txt", "b.txt", "c.txt")}
    for name, path in files.items():
        path.write_text("three\n" if name == "c.txt" else IDS)
    a, b, c = (study(tmp_path, RANDOM | {"rule": f"file:{path}", "percent": "5"}) for path in files.values())
    assert a.runs.keys() == b.runs.keys()
    assert changed(a, c) == {"subset", "finetune", "predict"}
    assert {run.fields()["rule"] for run in a.runs.values() if run.rule} == {"file"}
    before = a.runs.keys()
    files["a.txt"].write_text("three\n")
    edited = study(tmp_path, RANDOM | {"rule": f"file:{files['a.txt']}", "percent": "5"})
    assert edited.runs.keys() == c.runs.keys() != before


def test_a_list_of_ids_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"absent.txt: no such file; expected a text file with a keyframe id"
    ):
        study(tmp_path, RANDOM | {"rule": f"file:{tmp_path / 'absent.txt'}", "percent": "5"})


@pytest.mark.parametrize("row", [FREE, TUNED, RANDOM, TEACHER])
def test_what_a_run_reads_is_known_before_it_starts(tmp_path, row):
    asked = study(tmp_path, row)
    for run in asked.runs.values():
        for source in asked.reads(run).values():
            assert isinstance(source, Product)
        assert all(parent.key in asked.runs for parent in asked.parents(run).values())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (FREE | {"target": "nuscene"}, "line 2: target: 'nuscene' is not known, did you mean 'nuscenes'?"),
        (FREE | {"pretrain": "nuscene"}, "line 2: pretrain: 'nuscene' is not known, did you mean"),
        (FREE | {"method": "clip2scenes"}, "did you mean 'clip2scene'?"),
        (FREE | {"recipe": "papers"}, "did you mean 'paper'?"),
        (FREE | {"backbone": "spvnn"}, "did you mean 'spvcnn'?"),
        (FREE | {"variant": "one_sweeps"}, "variant: 'one_sweeps' is not known, did you mean 'one_sweep'?"),
        (FREE | {"tables": "main cross_domains"}, "did you mean 'cross_domain'?"),
        (TUNED | {"protocol": "finetunes"}, "protocol: 'finetunes' is not known, did you mean 'finetune'?"),
        (TUNED | {"protocol": "linear_prob"}, "did you mean 'linear_probe'?"),
        (TUNED | {"protocol": "pretrain"}, "line 2: protocol: 'pretrain' is not known"),
        (FREE | {"percent": "1", "rule": "frame_skip"}, "percent and seeds have no meaning"),
        (FREE | {"seeds": "0"}, "percent and seeds have no meaning"),
        (TUNED | {"seeds": ""}, "percent and seeds are needed for the protocol finetune"),
        (TUNED | {"rule": ""}, "a rule is needed"),
        (TUNED | {"rule": "frame_skp"}, "rule 'frame_skp' is not known, expected frame_skip, scene_skip"),
        (TUNED | {"percent": "100"}, "a rule is needed for a share between 0 and 100 percent"),
        (TUNED | {"method": "random"}, "pretrain names a data set where the method pre-trains"),
        (TUNED | {"pretrain_seeds": ""}, "line 2: pretrain_seeds are given where a network is pre-trained"),
        (RANDOM | {"pretrain_seeds": "0"}, "line 2: pretrain_seeds are given where a network is pre-trained"),
        (TUNED | {"recipe": "theirs"}, "line 2: pretrain_seeds are given where a network is pre-trained"),
        (TUNED | {"recipe": "their"}, "line 2: recipe: 'their' is not known, did you mean 'theirs'?"),
        (RANDOM | {"recipe": "theirs"}, "line 2: recipe: 'theirs' is not known, expected one of ''"),
        (TUNED | {"percent": "101"}, "line 2: percent: Input should be less than or equal to 100"),
    ],
)
def test_wrong_row_is_named(tmp_path, row, message):
    settings = {"checkpoints": {"theirs": "a.pt"}, "variants": {"one_sweep": {"pretrain": {"sweeps": 1}}}}
    with pytest.raises(InputError) as error:
        load_experiments(config(tmp_path, row, **settings))
    assert message in str(error.value)


@pytest.mark.parametrize("method", ["slidr", "ppkt", "random"])
def test_methods_without_text_are_not_judged_without_labels(tmp_path, method):
    """Said at once, not after hours of pre-training."""
    row = FREE | {"method": method, "recipe": ""}
    if method == "random":
        row |= {"pretrain": "", "pretrain_seeds": ""}
    with pytest.raises(InputError, match=f"line 2: method {method} does not align points with text"):
        load_experiments(config(tmp_path, row))


@pytest.mark.parametrize(
    ("percent", "nearest"),
    [("40", r"33\.33 and 50 %"), ("60", r"50 and 100 %"), ("15", r"14\.29 and 16\.67 %")],
)
@pytest.mark.parametrize("rule", ["frame_skip", "scene_skip"])
def test_a_share_that_a_rule_cannot_draw_is_refused(tmp_path, rule, percent, nearest):
    """By taking every n-th there are 100, 50, 33.3, 25, ... percent: other shares would silently be these."""
    with pytest.raises(InputError, match=rf"line 2: {rule} cannot draw {percent} % .* nearest .* {nearest}"):
        load_experiments(config(tmp_path, TUNED | {"percent": percent, "rule": rule}))


@pytest.mark.parametrize("percent", ["0.1", "1", "5", "10", "20", "25", "33", "33.3", "50"])
def test_usual_shares_can_be_drawn(tmp_path, percent):
    assert load_experiments(config(tmp_path, TUNED | {"percent": percent}))


def test_a_list_of_ids_may_be_any_share(tmp_path):
    (tmp_path / "ids.txt").write_text(IDS)
    assert load_experiments(config(tmp_path, TUNED | {"percent": "40", "rule": f"file:{tmp_path}/ids.txt"}))


def test_wrong_column_is_named(tmp_path):
    configuration = config(tmp_path)
    write(tmp_path / "experiments.tsv", {"protocl": "finetune"}, header=["protocl", *HEADER[1:]])
    with pytest.raises(InputError, match=r"column: 'protocl' is not known, did you mean 'protocol'\?"):
        load_experiments(configuration)


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"experiments.tsv: holds no experiment"):
        load_experiments(config(tmp_path))


def test_rows_of_one_table_can_be_read(tmp_path):
    asked = config(tmp_path, FREE | {"tables": "main cross_domain"}, TUNED)
    assert [e.method for e in load_experiments(asked, "cross_domain")] == ["clip2scene"]
    assert [e.method for e in load_experiments(asked, "main")] == ["clip2scene", "slidr"]


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
