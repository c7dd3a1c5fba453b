"""Published checkpoints as files: read safely and strictly, used by rows of the table, written back."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

from clip2scene import layout
from clip2scene.cli import main
from clip2scene.compute import compute
from clip2scene.config import Config, DatasetConfig
from clip2scene.errors import InputError
from clip2scene.evaluation.annotation_free import load_method
from clip2scene.evaluation.confusion import read_confusion
from clip2scene.experiments import Experiment
from clip2scene.models.backbones import build_backbone
from clip2scene.models.published import Parts, to_published
from clip2scene.models.weights import read_checkpoint, write_checkpoint
from clip2scene.study import Study
from clip2scene.training.checkpoint import describe, load_backbone
from clip2scene.training.published import export_checkpoint, import_checkpoint

SLIDR = ("slidr", "", "res16unet34c", "nuscenes")
THEIRS = ("clip2scene", "released", "spvcnn", "nuscenes")
JOINT = 128
"""Width of the joint space of the embedded teacher."""
SETTINGS = {"voxel_size": 0.1, "cylindrical_coordinates": True, "num_epochs": 50}
ROWS = [
    {"protocol": "linear_probe", "method": "slidr", "recipe": "published", "backbone": "res16unet34c",
     "pretrain": "nuscenes", "target": "nuscenes", "percent": "100", "seeds": "0"},
    {"protocol": "annotation_free", "method": "clip2scene", "recipe": "theirs", "backbone": "spvcnn",
     "pretrain": "nuscenes", "target": "nuscenes"},
]  # fmt: skip


@pytest.fixture
def config(tmp_path: Path, tiny_streets: DatasetConfig, link_made: Callable[..., None]) -> Config:
    table = ["\t".join(row.get(name, "") for name in Experiment.model_fields) for row in ROWS]
    (tmp_path / "experiments.tsv").write_text("\n".join(["\t".join(Experiment.model_fields), *table]) + "\n")
    config = Config(
        experiments=tmp_path / "experiments.tsv",
        results=tmp_path / "results",
        device="cpu",
        datasets={"nuscenes": tiny_streets.model_copy(update={"root": tmp_path / "data"})},
        teacher={"training": {"steps": 1, "batch_size": 4}},
        backbones={"res16unet34c": {"coordinates": "cylindrical"}, "spvcnn": {}},
        checkpoints={
            "published": tmp_path / "slidr.pt",
            "theirs": {"file": tmp_path / "theirs.pt", "recipe": "released"},
        },
        finetune={"epochs": 1, "minimum_steps": 2},
    )
    link_made(Study(config), nuscenes=tiny_streets.root)
    return config


def slidr(channels: int = 1) -> dict[str, torch.Tensor]:
    """Res16UNet34C as SLidR saves it, an eighth as wide."""
    torch.manual_seed(0)
    backbone = build_backbone("res16unet34c", channels, width=0.125)
    heads = {"linear.weight": torch.rand(64, backbone.out_channels), "linear.bias": torch.rand(64)}
    return to_published(Parts(backbone.state_dict(), heads, {}), type(backbone), "slidr")


def theirs() -> dict[str, torch.Tensor]:
    """SPVCNN as CLIP2Scene saves it, an eighth as wide."""
    torch.manual_seed(1)
    backbone = build_backbone("spvcnn", 1, width=0.125)
    width = backbone.out_channels
    rest = {"text_embeddings": torch.rand(17, JOINT), "classifier.0.weight": torch.rand(17, width)}
    names = ("point_mapping_local", "point_mapping_global", "point_mapping_global_random")
    rest |= {f"{name}.weight": torch.rand(JOINT, width) for name in names}
    rest |= {f"{name}.bias": torch.rand(JOINT) for name in names}
    return to_published(Parts(backbone.state_dict(), {}, rest), type(backbone), "clip2scene")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without(weights: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if name not in names}


def test_a_row_starts_from_a_published_checkpoint(config, tmp_path):
    write_checkpoint(tmp_path / "a.pt", {"model_points": slidr(), "config": SETTINGS})
    write_checkpoint(tmp_path / "b.pt", {"model_points": theirs()})
    import_checkpoint(config, tmp_path / "a.pt", config.checkpoints["published"].file, *SLIDR)
    import_checkpoint(config, tmp_path / "b.pt", config.checkpoints["theirs"].file, *THEIRS)
    study = Study(config)
    assert sorted(run.kind for run in study.runs.values()) == [
        "annotation_free", "index", "linear_probe", "predict", "subset", "synthetic", "teacher", "text",
    ]  # fmt: skip
    for run in study.runs.values():
        compute(study, run)
    runs = {run.kind: run for run in study.runs.values()}
    for kind, started in (("annotation_free", "annotation_free"), ("predict", "linear_probe")):
        assert study.inputs(runs[started])["network"] == config.checkpoints[runs[started].recipe].file
        path = layout.run_folder(config, runs[kind]) / "confusion.npz"
        assert read_confusion(path, 16)["all"][:, 1:].sum() > 0

    probed = read_checkpoint(layout.run_folder(config, runs["linear_probe"]) / "checkpoint.pt")["state_dict"]
    backbone = {
        name.removeprefix("backbone."): probed[name] for name in probed if name.startswith("backbone.")
    }
    kept = {name: value for name, value in slidr().items() if not name.startswith("final")}
    network = type(build_backbone("res16unet34c", 1, 0.125))
    assert same(
        to_published(Parts(backbone, {}, {}), network, "slidr"), kept
    )  # a frozen backbone is as it was
    text = study.inputs(runs["annotation_free"])["text"]
    method, _ = load_method(config, config.checkpoints["theirs"].file, text, channels=1)
    assert torch.equal(method.semantic.weight, theirs()["point_mapping_global.weight"])
    assert torch.equal(method.spatial_temporal.bias, theirs()["point_mapping_local.bias"])


def test_a_checkpoint_that_is_not_what_the_row_says_is_refused(config, tmp_path):
    write_checkpoint(tmp_path / "a.pt", {"model_points": slidr()})
    import_checkpoint(config, tmp_path / "a.pt", config.checkpoints["published"].file, "ppkt", *SLIDR[1:])
    write_checkpoint(config.checkpoints["theirs"].file, {"model_points": theirs()})
    study = Study(config)
    (probe,) = [run for run in study.runs.values() if run.kind == "linear_probe"]
    with pytest.raises(InputError, match=r"reads the index of run \w+ \(index: nuscenes, seed 0\)"):
        compute(study, probe)
    for run in study.with_parents([probe])[:-1]:
        compute(study, run)
    with pytest.raises(InputError, match=r"slidr\.pt: method is 'ppkt'; expected 'slidr'"):
        compute(study, probe)
    write_checkpoint(config.checkpoints["published"].file, {"model_points": slidr()})
    with pytest.raises(InputError, match="found model_points; expected .*clip2scene import-checkpoint"):
        compute(study, probe)
    assert not study.finished(probe)
    assert not (layout.run_folder(config, probe) / "checkpoint.pt").exists()


def test_files_come_back_as_they_were_and_twice_the_same(config, tmp_path):
    for what, weights in ((SLIDR, slidr()), (THEIRS, theirs())):
        write_checkpoint(tmp_path / "in.pt", {"model_points": weights})
        import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *what)
        first = (tmp_path / "ours.pt").read_bytes()
        import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *what)
        assert (tmp_path / "ours.pt").read_bytes() == first
        export_checkpoint(tmp_path / "ours.pt", tmp_path / "out.pt")
        back = read_checkpoint(tmp_path / "out.pt")
        assert same(back["model_points"], weights)
        assert back["config"] == {"voxel_size": 0.1, "cylindrical_coordinates": what is SLIDR}


def test_what_we_train_is_exported_under_the_published_names(config, tmp_path):
    network = build_backbone("spvcnn", 1, 0.125)
    heads = torch.nn.ModuleDict(
        {"semantic": torch.nn.Linear(60, 32), "spatial_temporal": torch.nn.Linear(60, 32)}
    )
    meta = {**describe(config, "clip2scene", "spvcnn", "nuscenes"), "recipe": "fixed", "seed": 0}
    content = {"backbone": network.state_dict(), "method": heads.state_dict(), "meta": meta}
    write_checkpoint(tmp_path / "ours.pt", content)
    export_checkpoint(tmp_path / "ours.pt", tmp_path / "out.pt")
    golden = Path(__file__).parents[1] / "golden" / "checkpoints" / "spvcnn.tsv"
    names = {line.split("\t")[0] for line in golden.read_text().splitlines()}
    lacking = names - read_checkpoint(tmp_path / "out.pt")["model_points"].keys()
    untrained = {"text_embeddings", "classifier", "point_mapping_global_random"}
    assert {name.partition(".")[0] for name in lacking} == untrained
    assert read_checkpoint(tmp_path / "out.pt")["model_points"].keys() < names


def lightning(monkeypatch: pytest.MonkeyPatch, name: str) -> type:
    """A class that pickles refer to as `name`, for as long as the test writes."""
    module, _, attribute = name.rpartition(".")
    made = type(attribute, (), {"__module__": module})
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), ModuleType(".".join(parts[:depth])))
    setattr(sys.modules[module], attribute, made)
    return made


def test_lightning_checkpoints_are_read(config, tmp_path, monkeypatch):
    """By their prefix; and those of 1.4, which name callbacks by their class, without that class."""
    callback = lightning(monkeypatch, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
    values = {f"model_points.{name}": value for name, value in theirs().items()}
    values |= {"model_images.decoder.weight": torch.rand(3), "text_embeddings": torch.rand(16, JOINT)}
    saved = {"epoch": 3, "state_dict": values, "callbacks": {callback: {"best_model_score": torch.rand(())}}}
    torch.save(saved, tmp_path / "in.ckpt")
    monkeypatch.undo()
    parts, missing = import_checkpoint(config, tmp_path / "in.ckpt", tmp_path / "ours.pt", *THEIRS)
    assert not missing
    assert "model_images.decoder.weight" not in parts.rest
    export_checkpoint(tmp_path / "ours.pt", tmp_path / "out.pt")
    assert same(read_checkpoint(tmp_path / "out.pt")["model_points"], theirs())


def test_pickled_objects_are_refused_by_name(config, tmp_path, monkeypatch):
    hparams = lightning(monkeypatch, "somewhere.AttributeDict")
    saved = {"model_points": slidr(), "hparams": hparams()}
    torch.save(saved, tmp_path / "in.pt")
    monkeypatch.undo()
    with pytest.raises(InputError) as error:
        import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *SLIDR)
    assert "in.pt: expected a checkpoint of tensors only, found somewhere.AttributeDict" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "ours.pt").exists()


def test_code_is_not_run(config, tmp_path):
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "run",)

    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))):
        save({"model_points": Attack()}, tmp_path / "in.pt")
        with pytest.raises(InputError, match=r"in\.pt: expected a checkpoint of tensors only"):
            import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *SLIDR)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "what", "message"),
    [
        ({"model_points": slidr()}, THEIRS, r"in\.pt: 0 of 374 tensors have a place in spvcnn"),
        ({"model_points": dict(list(slidr().items())[:300])}, SLIDR, "holds 300 of the model's 372 tensors"),
        (
            {"model_points": slidr() | {f"{n}.kernel": torch.ones(1) for n in range(30)}},
            SLIDR,
            "not: 0.kernel",
        ),
        (
            {"model_points": slidr(), "config": SETTINGS | {"voxel_size": 0.05}},
            SLIDR,
            "trained with voxel_size 0.05",
        ),
        (
            {"model_points": theirs(), "config": SETTINGS},
            THEIRS,
            "trained with cylindrical_coordinates True; the configuration has False for spvcnn on nuscenes",
        ),
        ({"epoch": 3}, SLIDR, "holds 0 of the model's"),
        ({"model_points": "minkunet"}, SLIDR, "holds 0 of the model's"),
    ],
)
def test_what_does_not_fit_is_refused(config, tmp_path, content, what, message):
    torch.save(content, tmp_path / "in.pt")
    with pytest.raises(InputError, match=message):
        import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *what)
    assert not (tmp_path / "ours.pt").exists()


def test_tensors_without_a_place_are_named_and_kept(config, tmp_path):
    weights = slidr() | {"extra.kernel": torch.rand(2, 3)}
    write_checkpoint(tmp_path / "in.pt", {"model_points": weights})
    parts, missing = import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *SLIDR)
    assert missing == []
    assert list(parts.rest) == ["extra.kernel"]
    export_checkpoint(tmp_path / "ours.pt", tmp_path / "out.pt")
    assert same(read_checkpoint(tmp_path / "out.pt")["model_points"], weights)


def test_a_network_of_colours_is_refused_where_points_have_intensity(config, tmp_path):
    """Its first layer has another width; at random it would spoil all that follows."""
    write_checkpoint(tmp_path / "in.pt", {"model_points": slidr(channels=3)})
    with pytest.raises(InputError, match=r"in\.pt: conv0p1s1\.kernel: has the shape .* 3, .* expected .* 1"):
        import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *SLIDR)
    write_checkpoint(tmp_path / "in.pt", {"model_points": without(slidr(), "conv0p1s1.kernel")})
    with pytest.raises(InputError, match=r"in\.pt: lacks stem\.0\.kernel, the first layer"):
        import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *SLIDR)
    assert not (tmp_path / "ours.pt").exists()


def test_what_a_published_network_lacks_starts_at_random_and_is_said(config, tmp_path):
    """The checkpoint holds the complete network; an export gives back the file as it was."""
    lacking = ["block8.1.conv2.kernel", "block8.1.norm2.bn.weight"]
    weights = without(slidr(), *lacking)
    write_checkpoint(tmp_path / "in.pt", {"model_points": weights})
    _, missing = import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *SLIDR)
    assert missing == ["up.3.blocks.1.conv2.kernel", "up.3.blocks.1.norm2.bn.weight"]
    content = read_checkpoint(tmp_path / "ours.pt")
    assert content["meta"]["random"] == missing
    network = build_backbone("res16unet34c", 1, 0.125)
    assert content["backbone"].keys() == network.state_dict().keys()
    load_backbone(tmp_path / "ours.pt", network)  # as a row of the table does
    assert network.up[3].blocks[1].conv2.kernel.std() > 0

    first = (tmp_path / "ours.pt").read_bytes()
    torch.manual_seed(5)  # the random values do not depend on what ran before
    import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *SLIDR)
    assert (tmp_path / "ours.pt").read_bytes() == first
    export_checkpoint(tmp_path / "ours.pt", tmp_path / "out.pt")
    assert same(read_checkpoint(tmp_path / "out.pt")["model_points"], weights)


@pytest.mark.parametrize("name", ["conv0p1s1.kernel", "block8.1.conv2.kernel"])
def test_values_that_are_not_finite_are_refused_by_name(config, tmp_path, name):
    weights = slidr()
    weights[name] = torch.full_like(weights[name], torch.nan)
    write_checkpoint(tmp_path / "in.pt", {"model_points": weights})
    with pytest.raises(InputError, match=r"in\.pt: \S+ holds values that are not finite"):
        import_checkpoint(config, tmp_path / "in.pt", tmp_path / "ours.pt", *SLIDR)
    assert not (tmp_path / "ours.pt").exists()


def test_command_line(config, tmp_path):
    (tmp_path / "config.yaml").write_text(config.model_dump_json())
    write_checkpoint(tmp_path / "in.pt", {"model_points": theirs()})

    def clip2scene(*arguments: str | Path) -> tuple[int, str]:
        words = ["--config", tmp_path / "config.yaml", *arguments]
        result = CliRunner().invoke(main, [str(word) for word in words])
        return result.exit_code, result.output

    files = "import-checkpoint", tmp_path / "in.pt", tmp_path / "ours.pt"
    known = "--method", "clip2scene", "--dataset", "nuscenes"
    code, output = clip2scene(*files, *known, "--recipe", "released", "--backbone", "spvcnn")
    assert code == 0
    assert "315 tensors of spvcnn, 4 of clip2scene's heads" in output
    assert (
        "kept for export: text_embeddings, classifier.0.weight, point_mapping_global_random.weight" in output
    )
    assert clip2scene("export-checkpoint", tmp_path / "ours.pt", tmp_path / "out.pt") == (0, "")
    assert same(read_checkpoint(tmp_path / "out.pt")["model_points"], theirs())
    code, output = clip2scene(*files, *known, "--recipe", "released", "--backbone", "spvcn")
    assert code == 2
    assert "did you mean 'spvcnn'?" in output
    code, output = clip2scene(*files, *known, "--recipe", "relased", "--backbone", "spvcnn")
    assert code == 2
    assert "did you mean 'released'?" in output
