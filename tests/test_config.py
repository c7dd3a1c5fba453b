"""The configuration: closed to unknown keys, merged deeply, and in step with its schema."""

import json
from pathlib import Path

import pytest

from baselines.specs import PPKTSettings
from clip2scene.config import (
    Config,
    Crop,
    Optimiser,
    Pretraining,
    Rooms,
    Superpixels,
    load_config,
    parse_config,
)
from clip2scene.errors import InputError

ROOT = Path(__file__).parents[1]
DATASETS = {"nuscenes": {"root": "data"}}


def parse(**values) -> Config:
    return parse_config({"datasets": DATASETS, **values}, "f.yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "f.yaml: sed: unknown key, did you mean seed?"),
        ({"finetune": {"epoch": 3}}, "f.yaml: finetune.epoch: unknown key, did you mean epochs?"),
        (
            {"datasets": {"a": {"root": "x", "synthetic": {"beam": 1}}}},
            "f.yaml: datasets.a.synthetic.beam: unknown key, did you mean beams?",
        ),
        (
            {"pretrain": {"by_method": {"ppkt": {"epoch": 1}}}},
            "f.yaml: pretrain.by_method.ppkt.epoch: unknown key, did you mean epochs?",
        ),
        (
            {"pretrain": {"by_method": {"slidr": {"optimiser": {"learning_rat": 1}}}}},
            "pretrain.by_method.slidr.optimiser.learning_rat: unknown key, did you mean learning_rate?",
        ),
        (
            {"methods": {"ppkt": {"pair": 1}}},
            "f.yaml: methods.ppkt.pair: unknown key, did you mean pairs?",
        ),
        (
            {"methods": {"slidr": {"superpixels": {"segment": 1}}}},
            "f.yaml: methods.slidr.superpixels.segment: unknown key, did you mean segments?",
        ),
        (
            {"methods": {"slidr": {"pairs": 1}}},  # another method's
            "f.yaml: methods.slidr.pairs: unknown key, did you mean methods.ppkt.pairs?",
        ),
        (
            {"pretrain": {"voxel_size": 1}},  # another section's
            "f.yaml: pretrain.voxel_size: unknown key, did you mean datasets.<name>.voxel_size?",
        ),
        (
            {"datasets": {"x": {"root": "x", "pretrain": {"crop": {"siz": [1, 1]}}}}},
            "f.yaml: datasets.x.pretrain.crop.siz: unknown key, did you mean size?",
        ),
        (
            {"datasets": {"x": {"root": "x", "pretrain": {"by_method": {"slidr": {"epoch": 1}}}}}},
            "f.yaml: datasets.x.pretrain.by_method.slidr.epoch: unknown key, did you mean epochs?",
        ),
        (
            {"datasets": {"x": {"root": "x", "finetune": {"optimizer": {}}}}},
            "f.yaml: datasets.x.finetune.optimizer: unknown key, did you mean optimiser?",
        ),
        (
            {"variants": {"v": {"pretrain": {"sweep": 1}}}},
            "f.yaml: variants.v.pretrain.sweep: unknown key, did you mean sweeps?",
        ),
        (
            {"variants": {"v": {"methods": {"ppkt": {"pair": 1}}}}},
            "f.yaml: variants.v.methods.ppkt.pair: unknown key, did you mean pairs?",
        ),
        (
            {"variants": {"v": {"pretrain": {"by_method": {"slidr": {"epoch": 1}}}}}},
            "f.yaml: variants.v.pretrain.by_method.slidr.epoch: unknown key, did you mean epochs?",
        ),
        (
            {"variants": {"v": {"datasets": {"nuscenes": {"pretrain": {"epoch": 1}}}}}},
            "f.yaml: variants.v.datasets.nuscenes.pretrain.epoch: unknown key, did you mean epochs?",
        ),
        ({"pretrain": {"epochs": "many"}}, "pretrain.epochs: Input should be a valid integer"),
        ({"methods": {"ppkt": {"pairs": 0}}}, "f.yaml: methods.ppkt.pairs: Input should be greater than"),
        ({"device": "gpu"}, "device: Input should be 'auto', 'cpu' or 'cuda', found 'gpu'"),
        (
            {"datasets": {"x": {"root": "x", "pretrain": {"by_method": {"slidr": None}}}}},
            "f.yaml: datasets.x.pretrain: by_method: expected methods, each with keys",
        ),
    ],
)
def test_wrong_key_is_named(values, message):
    with pytest.raises(InputError) as error:
        parse(**values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": {"ppk": {"pairs": 1}}}, "f.yaml: methods.ppk: method"),
        ({"pretrain": {"by_method": {"ppk": {"epochs": 1}}}}, "f.yaml: pretrain.by_method: method"),
        (
            {"datasets": {"x": {"root": "x", "pretrain": {"by_method": {"ppk": {"epochs": 1}}}}}},
            "f.yaml: datasets.x.pretrain.by_method: method",
        ),
        (
            {"variants": {"v": {"pretrain": {"by_method": {"ppk": {}}}}}},
            "f.yaml: variants.v.pretrain.by_method: method",
        ),
    ],
)
def test_unknown_method_is_named_with_the_nearest(values, message):
    with pytest.raises(InputError, match=r"'ppk' is not known, did you mean 'ppkt'\?") as error:
        parse(**values)
    assert str(error.value).startswith(message)


def test_settings_of_a_method_that_has_none_are_refused():
    with pytest.raises(InputError, match="methods.clip2scene: pairs: method clip2scene has no settings"):
        parse(methods={"clip2scene": {"pairs": 1}})


def test_by_method_within_by_method_is_refused():
    """It would have no effect."""
    nested = {"slidr": {"by_method": {"slidr": {"epochs": 1}}}}
    with pytest.raises(InputError, match="f.yaml: pretrain.by_method.slidr: by_method: found within"):
        parse(pretrain={"by_method": nested})
    own = {"x": {"root": "x", "pretrain": {"by_method": nested}}}
    with pytest.raises(InputError, match="x.pretrain.by_method.slidr: by_method: found within"):
        parse(datasets=own)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="absent.yaml: no such file"):
        load_config(tmp_path / "absent.yaml")


def test_one_method_may_differ():
    config = parse(pretrain={"by_method": {"ppkt": {"epochs": 50}}})
    assert config.pretraining("nuscenes", "ppkt").epochs == 50
    assert config.pretraining("nuscenes", "slidr") == config.pretrain.model_copy(update={"by_method": {}})


def test_a_method_that_differs_in_one_key_keeps_the_others():
    """Also within a section that is given: neither its defaults nor what `pretrain` says is lost."""
    config = parse(
        pretrain={
            "optimiser": {"weight_decay": 0.3},
            "crop": {"size": [32, 40], "minimum_pairs": 7},
            "by_method": {"slidr": {"optimiser": {"learning_rate": 0.5}, "crop": {"scale": [0.5, 0.6]}}},
        }
    )
    slidr = config.pretraining("nuscenes", "slidr")
    assert slidr.optimiser == Optimiser(learning_rate=0.5, weight_decay=0.3)
    assert slidr.crop == Crop(size=(32, 40), minimum_pairs=7, scale=(0.5, 0.6))
    assert config.pretraining("nuscenes", "ppkt").optimiser == Optimiser(weight_decay=0.3)


def test_one_data_set_may_differ_and_prevails():
    own = {"epochs": 30, "crop": {"ratio": [1, 2]}, "by_method": {"slidr": {"batch_size": 7}}}
    datasets = {"scans": {"root": "scans", "pretrain": own, "finetune": {"batch_size": 5}}, **DATASETS}
    general = {
        "sweeps": 2,
        "by_method": {
            "ppkt": {"epochs": 50, "batch_size": 9, "crop": {"ratio": [3, 4], "scale": [0.5, 0.6]}},
            "slidr": {"batch_size": 8},
        },
    }
    config = parse(
        datasets=datasets, pretrain=general, finetune={"epochs": 4, "optimiser": {"momentum": 0.5}}
    )
    assert config.pretraining("scans", "ppkt") == Pretraining(
        sweeps=2, epochs=30, batch_size=9, crop=Crop(ratio=(1, 2), scale=(0.5, 0.6))
    )
    assert config.pretraining("scans", "slidr") == Pretraining(
        sweeps=2, epochs=30, batch_size=7, crop=Crop(ratio=(1, 2))
    )
    assert config.pretraining("nuscenes", "ppkt").epochs == 50
    assert config.finetuning("scans") == config.finetune.model_copy(update={"batch_size": 5})
    assert config.finetuning("nuscenes") == config.finetune
    with pytest.raises(InputError, match="unknown key, did you mean epochs?"):
        parse(datasets={"scans": {"root": "data", "pretrain": {"epoch": 1}}})


def test_one_network_may_be_tuned_otherwise():
    """The section is weakest, then its `by_backbone`, the data set's own keys, the `by_backbone` there."""
    own = {"batch_size": 5, "by_backbone": {"res16unet34c": {"head_learning_rate": 3}}}
    config = parse(
        datasets={"scans": {"root": "scans", "finetune": own}, **DATASETS},
        backbones={"spvcnn": {}, "res16unet34c": {}},
        finetune={
            "epochs": 24,
            "optimiser": {"momentum": 0.5},
            "by_backbone": {"res16unet34c": {"epochs": 100, "batch_size": 16, "optimiser": {"dampening": 0}}},
        },
    )
    plain = config.finetune.model_copy(update={"by_backbone": {}})
    assert config.finetuning("nuscenes", "spvcnn") == plain
    optimiser = Optimiser(learning_rate=0.05, momentum=0.5, dampening=0)
    slidr = plain.model_copy(update={"epochs": 100, "batch_size": 16, "optimiser": optimiser})
    assert config.finetuning("nuscenes", "res16unet34c") == slidr
    assert config.finetuning("scans", "spvcnn") == plain.model_copy(update={"batch_size": 5})
    assert config.finetuning("scans", "res16unet34c") == slidr.model_copy(
        update={"batch_size": 5, "head_learning_rate": 3.0}
    )
    for values, words in (
        (
            {"by_backbone": {"spvcn": {}}},
            "by_backbone: backbone: 'spvcn' is not known, did you mean 'spvcnn'",
        ),
        (
            {"by_backbone": {"spvcnn": {"epoch": 1}}},
            r"finetune.by_backbone.spvcnn.epoch: unknown key.* epochs\?",
        ),
        ({"by_backbone": {"spvcnn": {"by_backbone": {}}}}, "by_backbone: found within by_backbone"),
    ):
        with pytest.raises(InputError, match=words):
            parse(finetune=values)
    with pytest.raises(InputError, match="by_backbone: expected 3D networks, each with keys of the section"):
        parse(datasets={"scans": {"root": "data", "finetune": {"by_backbone": {"spvcnn": 3}}}})


def test_fine_tuning_keeps_its_own_defaults():
    """Its learning rate is not that of pre-training, also where another key of its optimiser is given."""
    config = parse(finetune={"optimiser": {"momentum": 0.5}}, pretrain={"optimiser": {"momentum": 0.5}})
    assert config.finetuning("nuscenes").optimiser == Optimiser(momentum=0.5, learning_rate=0.05)
    assert config.pretraining("nuscenes", "slidr").optimiser == Optimiser(momentum=0.5, learning_rate=0.1)
    with pytest.raises(
        InputError, match=r"finetune.optimiser.momentun: unknown key, did you mean momentum\?"
    ):
        parse(finetune={"optimiser": {"momentun": 0.5}})


def test_settings_of_a_method_are_typed_and_have_defaults():
    config = parse(methods={"ppkt": {"pairs": 9}})
    assert config.method("ppkt") == PPKTSettings(pairs=9)
    assert parse().method("ppkt") == PPKTSettings(pairs=1024)
    assert config.method("slidr").superpixels == Superpixels()
    assert config.method("clip2scene") is None


def test_variants_merge_deeply():
    variants = {
        "v": {
            "pretrain": {"sweeps": 1, "by_method": {"slidr": {"optimiser": {"learning_rate": 0.5}}}},
            "datasets": {"nuscenes": {"voxel_size": 0.2}},
            "methods": {"slidr": {"superpixels": {"segments": 20}}},
        }
    }
    config = parse(
        variants=variants,
        pretrain={
            "epochs": 9,
            "by_method": {"slidr": {"optimiser": {"momentum": 0.5}}, "ppkt": {"epochs": 2}},
        },
        datasets={"nuscenes": {"root": "data", "voxel_size": 0.1, "sweeps": 4}},
        methods={"slidr": {"superpixels": {"sigma": 1.5}}},
    )
    varied = config.varied("v")
    assert varied.pretraining("nuscenes", "slidr") == Pretraining(
        epochs=9, sweeps=1, optimiser=Optimiser(momentum=0.5, learning_rate=0.5)
    )
    assert varied.pretraining("nuscenes", "ppkt") == Pretraining(epochs=2, sweeps=1)
    assert varied.datasets["nuscenes"] == config.datasets["nuscenes"].model_copy(update={"voxel_size": 0.2})
    assert varied.method("slidr").superpixels == Superpixels(sigma=1.5, segments=20)
    assert config.varied("") is config
    assert config.pretrain.sweeps == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("results", "elsewhere"), ("experiments", "other.tsv"), ("tracking", {"experiment": "mine"}),
        ("variants", {}), ("share_process", False), ("checkpoints", {}),
    ],
)  # fmt: skip
def test_a_variant_may_not_change_what_holds_for_the_study(key, value):
    with pytest.raises(InputError) as error:
        parse(variants={"v": {key: value}})
    assert str(error.value) == f"f.yaml: variants.v: {key}: holds for the whole study, not for one row"


def test_what_is_made_follows_the_format():
    datasets = {"rooms": {"format": "scannet", "root": "data", "synthetic": {"images": 4}}}
    config = parse(datasets=datasets)
    assert config.datasets["rooms"].synthetic == Rooms(images=4)
    assert Config.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(InputError, match="rooms.synthetic.beams: unknown key"):
        parse(datasets={"rooms": {**datasets["rooms"], "synthetic": {"beams": 4}}})
    with pytest.raises(InputError, match="'mine'.* 'nuscenes', 'semantickitti', 'scannet'"):
        parse(datasets={"rooms": {**datasets["rooms"], "format": "mine"}})


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path):
    assert load_config(path).datasets["nuscenes"].format == "nuscenes"


def test_schema_is_in_step():
    """Repair: make schema."""
    assert json.loads((ROOT / "config/schema.json").read_text()) == Config.model_json_schema()
