"""Checkpoints of training runs: what is done to a good file, and what must come out."""

import copy
import json

import pytest
import torch
from torch import nn

from clip2scene.config import Checkpoint, Config
from clip2scene.errors import InputError
from clip2scene.evaluation.annotation_free import load_method, load_text
from clip2scene.files import sha256
from clip2scene.models.backbones import build_backbone
from clip2scene.models.published import Parts, to_published
from clip2scene.models.weights import write_checkpoint
from clip2scene.runs import Run
from clip2scene.training.checkpoint import describe, expected_start, load_backbone, read_pretrained, require
from clip2scene.training.finetune import build_segmenter, load_segmenter
from clip2scene.training.published import export_checkpoint, import_checkpoint
from clip2scene.training.state import State, read_state, write_state

WIDTH, JOINT = 0.05, 8
RUN = Run(
    "finetune", method="clip2scene", recipe="fixed", backbone="minkunet14a", pretrain="nuscenes",
    target="nuscenes", pretrain_seed=3,
)  # fmt: skip


@pytest.fixture
def config():
    return Config(
        device="cpu", datasets={"nuscenes": {"root": "data"}}, backbones={"minkunet14a": {"width": WIDTH}}
    )


def network():
    torch.manual_seed(0)
    return build_backbone("minkunet14a", 1, WIDTH)


@pytest.fixture
def good(config):
    """Return what a pre-training run writes."""
    backbone = network()
    heads = nn.ModuleDict(
        {name: nn.Linear(backbone.out_channels, JOINT) for name in ("semantic", "spatial_temporal")}
    )
    meta = describe(config, "clip2scene", "minkunet14a", "nuscenes") | {"recipe": "fixed", "seed": 3}
    return {"backbone": backbone.state_dict(), "method": heads.state_dict(), "meta": meta}


def text_file(folder, width=JOINT, classes=16):
    path = folder / "text.pt"
    write_checkpoint(path, {"prompts": ["a"] * classes, "embeddings": torch.eye(classes, width)})
    return path


def changed(part, **values):
    return lambda content: content | {part: content[part] | values}


def without(part, name):
    return lambda content: content | {part: {key: v for key, v in content[part].items() if key != name}}


def poisoned(part, name):
    def poison(content):
        content = copy.deepcopy(content)
        content[part][name].view(-1)[-1] = torch.nan
        return content

    return poison


STEM = "stem.0.kernel"
VARIANCE = "stem.1.bn.running_var"
PRETRAINED = [
    (lambda c: {}, "found no key; expected a pre-training run's backbone, method and meta"),
    (lambda c: c["backbone"], "found down.0.blocks.0.conv1.kernel"),
    (lambda c: c | {"backbone": list(c["backbone"])}, "found backbone as list; expected a pre-training"),
    (lambda c: c | {"method": None}, "found method as NoneType; expected a pre-training run's backbone"),
    (lambda c: c | {"meta": "spvcnn"}, "found meta as str; expected a pre-training run's"),
    (without("meta", "coordinates"), "meta.coordinates: found nothing; expected a string"),
    (without("meta", "voxel_size"), "meta.voxel_size: found nothing; expected a number"),
    (changed("meta", width="wide"), "meta.width: found 'wide'; expected a number"),
    (changed("meta", backbone=["spvcnn"]), "meta.backbone: found ['spvcnn']; expected a string"),
    (changed("meta", backbone="minkunet15"), "meta: backbone, entry point group clip2scene."),
    (changed("meta", method="clip3scene"), "'clip3scene' is not known, did you mean 'clip2scene'?"),
    (changed("meta", method="ppkt", recipe=""), "method is 'ppkt'; expected 'clip2scene'"),
    (changed("meta", recipe="paper"), "recipe is 'paper'; expected 'fixed'"),
    (changed("meta", seed=4), "seed is 4; expected 3"),
    (changed("meta", voxel_size=0.2), "voxel_size is 0.2; expected 0.1"),
    (changed("backbone", **{STEM: "text"}), f"{STEM} is of type str; expected a tensor with values"),
    (changed("backbone", **{STEM: None}), f"{STEM} is of type NoneType; expected a tensor"),
    (changed("backbone", **{STEM: torch.ones(2)}), f"{STEM} has the shape [2]; expected [27, 1, 4]"),
    (changed("backbone", **{"head.weight": torch.ones(2)}), "beside the model's tensors, head.weight"),
    (without("backbone", STEM), f"lacks {STEM}"),
    (without("backbone", "up.3.blocks.0.conv2.kernel"), "lacks up.3.blocks.0.conv2.kernel"),
    (poisoned("backbone", STEM), f"{STEM} holds values that are not finite"),
    (changed("backbone", **{VARIANCE: torch.full((4,), -1.0)}), f"{VARIANCE} holds values below 0"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), PRETRAINED)
def test_a_pre_training_checkpoint_that_does_not_fit_is_named(tmp_path, config, good, change, message):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, change(good))
    with pytest.raises(InputError) as error:
        start(path, config)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def start(path, config):
    require(path, expected_start(config, RUN))
    backbone = network()
    load_backbone(path, backbone)
    return backbone


def test_a_good_one_is_loaded_bit_for_bit(tmp_path, config, good):
    write_checkpoint(tmp_path / "checkpoint.pt", good)
    loaded = start(tmp_path / "checkpoint.pt", config).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in good["backbone"].items())


def test_an_imported_file_has_no_seed(config):
    imported = config.model_copy(update={"checkpoints": {"theirs": Checkpoint(file="a.pt", recipe="fixed")}})
    expected = expected_start(imported, Run(**{**vars(RUN), "recipe": "theirs", "pretrain_seed": None}))
    assert "seed" not in expected
    assert expected["recipe"] == "fixed"


ANNOTATION_FREE = [
    (
        poisoned("backbone", STEM),
        JOINT,
        "checkpoint.pt: backbone.stem.0.kernel holds values",
    ),
    (
        poisoned("method", "semantic.bias"),
        JOINT,
        "checkpoint.pt: semantic.bias holds values that are not fin",
    ),
    (without("method", "semantic.bias"), JOINT, "checkpoint.pt: lacks semantic.bias"),
    (changed("method", **{"semantic.bias": "x"}), JOINT, "checkpoint.pt: semantic.bias is of type str"),
    (lambda c: c, JOINT + 4, "text.pt: text embeddings of width 12; expected 8, as semantic.weight of"),
]


@pytest.mark.parametrize(("change", "width", "message"), ANNOTATION_FREE)
def test_annotation_free_evaluation_names_what_does_not_fit(tmp_path, config, good, change, width, message):
    write_checkpoint(tmp_path / "checkpoint.pt", change(good))
    with pytest.raises(InputError) as error:
        load_method(config, tmp_path / "checkpoint.pt", text_file(tmp_path, width), channels=1)
    assert str(error.value).startswith(f"{tmp_path}/{message}")


def test_texts_of_another_number_are_named(tmp_path):
    with pytest.raises(InputError, match=r"text\.pt: text embeddings of 15 classes; expected 16"):
        load_text(text_file(tmp_path, classes=15), 16)


TUNED = [
    (lambda c: [], "expected a dictionary of tensors, found list"),
    (lambda c: {}, "found no key; expected a tuned network (state_dict, backbone)"),
    (lambda c: c | {"state_dict": [1]}, "found state_dict as list; expected a tuned network"),
    (lambda c: c | {"backbone": "spvcnn"}, "backbone is 'spvcnn'; expected 'minkunet14a'"),
    (poisoned("state_dict", "head.weight"), "head.weight holds values that are not finite"),
    (without("state_dict", "head.bias"), "lacks head.bias"),
]


@pytest.mark.parametrize(("change", "message"), TUNED)
def test_a_tuned_network_that_does_not_fit_is_named(tmp_path, config, change, message):
    good = {"state_dict": build_segmenter(config, RUN).state_dict(), "backbone": "minkunet14a"}
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, good)
    load_segmenter(config, RUN, path)
    write_checkpoint(path, change(good))
    with pytest.raises(InputError) as error:
        load_segmenter(config, RUN, path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_file_that_its_run_did_not_write_is_refused(tmp_path, config, good, make_record):
    """Its numbers are finite, its shapes fit: only the hash in run.json tells."""
    record = make_record(tmp_path / "abc")
    record.begin(config, "cpu")
    write_checkpoint(record.checkpoint, good)
    record.finish({})
    start(record.checkpoint, config)
    good["backbone"][STEM] += 1
    write_checkpoint(record.checkpoint, good)
    with pytest.raises(InputError, match=r"abc/checkpoint\.pt: its SHA-256 is not the one in run\.json"):
        start(record.checkpoint, config)


def published(**changes):
    """Return a published file of this network, with its heads."""
    backbone = network()
    heads = {"semantic.weight": torch.ones(JOINT, backbone.out_channels), "semantic.bias": torch.ones(JOINT)}
    parts = Parts(backbone.state_dict(), heads, {})
    return {"model_points": to_published(parts, type(backbone), "clip2scene") | changes}


IMPORTS = [
    (
        {},
        {"method": "random"},
        "method: found 'random', which trains no network; expected clip2scene or ",
    ),
    ({}, {"backbone": "spvcnn"}, "in.pt: 0 of "),
    (
        {"final.kernel": torch.ones(3, JOINT)},
        {},
        "in.pt: head semantic: weight has the shape [8, 3]",
    ),
    ({"final.bias": torch.ones(1, 3)}, {}, "in.pt: head semantic: bias has the shape [3]; expected [8]"),
    (
        {"final.bias": torch.full((1, JOINT), torch.nan)},
        {},
        "in.pt: head semantic: bias holds values that are",
    ),
    ({"conv0p1s1.kernel": torch.tensor(1.0)}, {}, "in.pt: conv0p1s1.kernel: has the shape []; expected [27"),
    ({"conv0p1s1.kernel": torch.ones(27, 1, 4).to_sparse()}, {}, "in.pt: lacks stem.0.kernel"),
    ({"conv0p1s1.kernel": torch.ones(2, 2, 2, 2)}, {}, "in.pt: conv0p1s1.kernel: has the shape [2, 2, 2, 2]"),
]


@pytest.mark.parametrize(("changes", "arguments", "message"), IMPORTS)
def test_an_import_that_does_not_fit_is_named(tmp_path, config, changes, arguments, message):
    config = Config(
        datasets=config.datasets, backbones={"minkunet14a": {"width": WIDTH}, "spvcnn": {"width": WIDTH}}
    )
    what = {"method": "clip2scene", "recipe": "fixed", "backbone": "minkunet14a", "dataset": "nuscenes"}
    write_checkpoint(tmp_path / "in.pt", published())
    import_checkpoint(config, tmp_path / "in.pt", tmp_path / "good.pt", **what)
    write_checkpoint(tmp_path / "in.pt", published(**changes))
    with pytest.raises(InputError) as error:
        import_checkpoint(config, tmp_path / "in.pt", tmp_path / "out.pt", **what | arguments)
    assert message in str(error.value)
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"state_dict": c["backbone"]}, "found state_dict; expected a pre-training run's"),
        (without("backbone", STEM), f"lacks {STEM}"),
        (changed("backbone", **{"other.kernel": torch.ones(2)}), "other.kernel; expected the model's"),
        (changed("method", **{"semantic.weight": torch.ones(8, 3)}), "head semantic: weight has the shape"),
        (poisoned("backbone", STEM), "holds values that are not finite"),
    ],
)  # fmt: skip
def test_an_export_of_something_else_is_named(tmp_path, good, change, message):
    write_checkpoint(tmp_path / "in.pt", good)
    export_checkpoint(tmp_path / "in.pt", tmp_path / "good.pt")
    write_checkpoint(tmp_path / "in.pt", change(good))
    with pytest.raises(InputError) as error:
        export_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt")
    assert str(error.value).startswith(f"{tmp_path / 'in.pt'}: ")
    assert message in str(error.value)
    assert not (tmp_path / "out.pt").exists()


class OneProcess:
    is_global_zero = True

    def barrier(self):
        pass


def state_of(record):
    layers = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    return State(OneProcess(), record, layers, torch.optim.SGD(layers.parameters(), 0.1, 0.9), minutes=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {}, "found no key; expected a run's state with steps"),
        (lambda c: c | {"steps": -1}, "expected a run's state with steps"),
        (lambda c: c | {"module": [1]}, "expected a run's state with module"),
        (without("module", "0.weight"), "lacks 0.weight"),
        (changed("module", **{"0.weight": torch.ones(3)}), "0.weight has the shape [3]; expected [2, 2]"),
        (lambda c: c | {"optimiser": {}}, "optimiser does not fit the run"),
        (lambda c: c | {"log_size": 10**6}, "bytes; expected at least 1000000, as"),
    ],
)
def test_a_state_of_another_run_says_what_to_remove(tmp_path, config, make_record, change, message):
    record = make_record(tmp_path / "abc")
    record.begin(config, "cpu")
    record.log({"step": 0, "loss": 1.0})
    state_of(record).save(2)
    assert state_of(record).restore() == 2
    write_state(record.resume, record.resume_before, change(read_state(record.resume)))
    before = sha256(record.resume)
    with pytest.raises(InputError) as error:
        state_of(record).restore()
    assert str(record.resume) in str(error.value)
    assert message in str(error.value)
    assert "the run starts again" in str(error.value)
    assert sha256(record.resume) == before  # ours to name, not to delete
    assert json.loads((record.folder / "metrics.jsonl").read_text()) == {"step": 0, "loss": 1.0}


@pytest.mark.parametrize("content", [b"", b"half", b"x" * 10_000])
def test_a_damaged_state_is_named_and_left_out(tmp_path, config, make_record, content, capsys):
    record = make_record(tmp_path / "abc")
    record.begin(config, "cpu")
    record.log({"step": 0, "loss": 1.0})
    state_of(record).save(2)
    state_of(record).save(3)
    record.resume.write_bytes(content)
    assert state_of(record).restore() == 2
    assert f"warning: {record.resume}: is damaged ({len(content)} bytes, whose" in capsys.readouterr().err
    record.resume_before.write_bytes(content)
    assert state_of(record).restore() == 0
    assert "; the run starts again" in capsys.readouterr().err
    assert record.log_size() == 0


def test_meta_of_a_good_file_is_returned(tmp_path, good):
    write_checkpoint(tmp_path / "a.pt", good)
    assert read_pretrained(tmp_path / "a.pt")["meta"]["seed"] == 3
