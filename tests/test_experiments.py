"""The table of experiments: which runs it asks for, and what their keys depend on."""

from pathlib import Path

import pytest

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.experiments import Experiment, Run, all_runs, load_experiments, runs_of
from clip2scene.workflow import Workflow

HEADER = list(Experiment.model_fields)
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0 1",
}  # fmt: skip
TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1 2",
}  # fmt: skip


def write(path: Path, *rows: dict[str, str], header: list[str] = HEADER) -> Path:
    lines = ["\t".join(header), *("\t".join(row.get(name, "") for name in header) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def config(tmp_path: Path, *rows: dict[str, str], **settings) -> Config:
    path = write(tmp_path / "experiments.tsv", *rows)
    return Config(
        experiments=path, **{"datasets": {"nuscenes": {"root": "data", "synthetic": {}}}, **settings}
    )


def keys(configuration: Config) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for run in all_runs(configuration).values():
        found.setdefault(run.kind, set()).add(run.key)
    return found


def test_runs_follow_those_they_start_from(tmp_path):
    runs = all_runs(config(tmp_path, FREE, TUNED))
    kinds = [run.kind for run in runs.values()]
    assert sorted(kinds) == sorted(
        ["teacher", "encoder", *["pretrain"] * 3, *["annotation_free"] * 2, *["finetune"] * 3]
    )
    order = list(runs)
    for run in runs.values():
        assert all(order.index(parent) < order.index(run.key) for parent in run.parent.split())


def test_runs_of_an_experiment_are_its_seeds(tmp_path):
    configuration = config(tmp_path, TUNED)
    (experiment,) = load_experiments(configuration)
    runs = runs_of(configuration, experiment)
    assert [run.seed for run in runs] == [0, 1, 2]
    assert len({run.parent for run in runs}) == 1  # one pre-training, fine-tuned three times


@pytest.mark.parametrize(("source", "target"), [("nuscenes", "semantickitti"), ("semantickitti", "nuscenes")])
def test_a_network_is_judged_on_another_data_set(tmp_path, source, target):
    """It learns from the source alone, and meets the target's files and prompts when it is evaluated."""
    data = {"root": "data", "format": "semantickitti", "synthetic": {}}
    datasets = {"nuscenes": {"root": "data", "synthetic": {}}, "semantickitti": data}
    domains = {"pretrain": source, "target": target}
    experiment = Workflow(config(tmp_path, FREE | domains, TUNED | domains, datasets=datasets))
    folders = {name: layout.prepared(experiment.config, name) for name in datasets}
    for run in experiment.runs.values():
        inputs = experiment.inputs(run.key)
        prepared = {
            name for name, folder in folders.items() if folder in {p for i in inputs for p in i.parents}
        }
        match run.kind:
            case "encoder":
                assert prepared == set(experiment.config.image_encoder.datasets)
            case "pretrain":
                assert prepared == {source}
            case "annotation_free":
                assert prepared == {target}
                assert layout.text(experiment.config, target) in inputs
            case "finetune":
                assert prepared == {target}
                assert layout.checkpoint(experiment.config, run.parent) in inputs


def test_keys_are_stable(tmp_path):
    assert Run("finetune").key == ""
    assert keys(config(tmp_path, FREE, TUNED)) == keys(config(tmp_path, TUNED, FREE))


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"finetune": {"epochs": 77}}, {"finetune"}),
        ({"pretrain": {"epochs": 77}}, {"pretrain", "annotation_free", "finetune"}),
        ({"image_encoder": {"architecture": "resnet18"}}, {"encoder", "pretrain", "finetune"}),
        ({"seed": 1}, {"teacher", "encoder", "pretrain", "annotation_free", "finetune"}),
        ({"workers": 4}, set()),
        ({"device": "cpu"}, set()),
        ({"datasets": {"nuscenes": {"root": "elsewhere", "synthetic": {}}}}, set()),
    ],
)
def test_a_setting_changes_the_keys_it_bears_on(tmp_path, settings, changed):
    before, after = keys(config(tmp_path, FREE, TUNED)), keys(config(tmp_path, FREE, TUNED, **settings))
    assert {kind for kind in before if before[kind] != after[kind]} == changed


def test_settings_of_one_method_leave_the_others(tmp_path):
    before = keys(config(tmp_path, FREE, TUNED))
    after = keys(config(tmp_path, FREE, TUNED, pretrain={"by_method": {"slidr": {"epochs": 77}}}))
    assert before["annotation_free"] == after["annotation_free"]
    assert not before["finetune"] & after["finetune"]


def test_a_row_that_starts_from_a_checkpoint_pre_trains_nothing(tmp_path):
    rows = [row | {"recipe": "theirs", "pretrain_seeds": ""} for row in (FREE, TUNED)]
    configuration = config(tmp_path, *rows, checkpoints={"theirs": "a.pt"})
    runs = all_runs(configuration).values()
    # the teacher is asked for, as the text embeddings are its own
    assert [run.kind for run in runs] == ["teacher", "annotation_free", *["finetune"] * 3]
    files = {layout.pretrained(configuration, run) for run in runs if run.kind != "teacher"}
    assert files == {Path("a.pt")}
    other = config(tmp_path, *rows, checkpoints={"theirs": "b.pt"})
    assert keys(other)["teacher"] == keys(configuration)["teacher"]
    for kind in ("annotation_free", "finetune"):
        assert not keys(other)[kind] & keys(configuration)[kind]


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
    workflow = Workflow(config(tmp_path, FREE, **both))
    (key,) = keys(workflow.config)["teacher"]
    assert [path.parent.name for path in workflow.inputs(key)] == ["v1.0-trainval", "scans"]
    assert keys(config(tmp_path, FREE))["teacher"] != {key}
    with pytest.raises(
        InputError, match="teacher.datasets: .* 'scanet' is not known, did you mean 'scannet'?"
    ):
        all_runs(config(tmp_path, FREE, **both | {"teacher": {"datasets": ["scanet"]}}))


def test_an_image_encoder_learns_from_the_data_sets_that_it_names(tmp_path):
    both = {"datasets": STREETS_AND_ROOMS, "image_encoder": {"datasets": ["nuscenes", "scannet"]}}
    workflow = Workflow(config(tmp_path, TUNED, **both))
    (key,) = keys(workflow.config)["encoder"]
    assert workflow.inputs(key) == [layout.index(workflow.config, name) for name in STREETS_AND_ROOMS]
    with pytest.raises(
        InputError, match="image_encoder.datasets: .* 'scanet' is not known, did you mean 'scannet'?"
    ):
        all_runs(config(tmp_path, TUNED, **both | {"image_encoder": {"datasets": ["scanet"]}}))


def test_settings_of_one_data_set_leave_the_others(tmp_path):
    rows = FREE, FREE | {"pretrain": "scannet", "target": "scannet"}
    before = keys(config(tmp_path, *rows, datasets=STREETS_AND_ROOMS))
    changed = {**STREETS_AND_ROOMS, "scannet": {**STREETS_AND_ROOMS["scannet"], "pretrain": {"epochs": 77}}}
    after = keys(config(tmp_path, *rows, datasets=changed))
    assert len(before["pretrain"]) == 4
    assert len(before["pretrain"] & after["pretrain"]) == 2
    assert before["teacher"] == after["teacher"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (FREE | {"target": "nuscene"}, "row 1: target: 'nuscene' is not known, did you mean 'nuscenes'?"),
        (FREE | {"method": "clip2scenes"}, "did you mean 'clip2scene'?"),
        (FREE | {"recipe": "papers"}, "did you mean 'paper'?"),
        (FREE | {"backbone": "spvnn"}, "did you mean 'spvcnn'?"),
        (FREE | {"percent": "1"}, "percent and seeds are for fine-tuning"),
        (TUNED | {"rule": ""}, "a rule is needed"),
        (TUNED | {"method": "random"}, "pretrain names a data set where the method pre-trains"),
        (TUNED | {"pretrain_seeds": ""}, "row 1: pretrain_seeds are given where a network is pre-trained"),
        (TUNED | {"recipe": "theirs"}, "row 1: pretrain_seeds are given where a network is pre-trained"),
        (TUNED | {"recipe": "their"}, "row 1: recipe: 'their' is not known, did you mean 'theirs'?"),
        (
            TUNED | {"method": "random", "recipe": "theirs", "pretrain": "", "pretrain_seeds": ""},
            "row 1: recipe: 'theirs' is not known, expected one of ''",
        ),
        (TUNED | {"percent": "101"}, "row 1: percent: Input should be less than or equal to 100"),
    ],
)
def test_wrong_row_is_named(tmp_path, row, message):
    with pytest.raises(InputError) as error:
        load_experiments(config(tmp_path, row, checkpoints={"theirs": "a.pt"}))
    assert message in str(error.value)


def test_wrong_column_is_named(tmp_path):
    configuration = config(tmp_path)
    write(tmp_path / "experiments.tsv", {"protocl": "finetune"}, header=["protocl", *HEADER[1:]])
    with pytest.raises(InputError, match="column: 'protocl' is not known, did you mean 'protocol'?"):
        load_experiments(configuration)
