"""The table of experiments: which runs it asks for, and which rows are refused."""

from pathlib import Path

import pytest
from rows import (
    FREE,
    HEADER,
    RANDOM,
    STREETS_AND_ROOMS,
    TEACHER,
    TUNED,
    cells,
    changed,
    config,
    keys,
    study,
    write,
)  # fmt: skip

from clip2scene.errors import InputError
from clip2scene.experiment_table import load_experiments
from clip2scene.runs import Product


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
    (tmp_path / "ids.txt").write_text("one\ntwo\n")
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
