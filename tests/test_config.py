"""The configuration: closed to unknown keys, and in step with its schema."""

import json
from pathlib import Path

import pytest

from clip2scene.config import Config, Rooms, load_config, parse_config
from clip2scene.errors import InputError

ROOT = Path(__file__).parents[1]
DATASETS = {"nuscenes": {"root": "data"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "f.yaml: sed: unknown key, did you mean seed?"),
        ({"finetune": {"epoch": 3}}, "f.yaml: finetune.epoch: unknown key, did you mean epochs?"),
        ({"datasets": {"a": {"root": "x", "synthetic": {"beam": 1}}}}, "did you mean beams?"),
        ({"pretrain": {"by_method": {"ppkt": {"epoch": 1}}}}, "unknown key, did you mean epochs?"),
        ({"pretrain": {"epochs": "many"}}, "pretrain.epochs: Input should be a valid integer"),
        ({"device": "gpu"}, "device: Input should be 'auto', 'cpu' or 'cuda', found 'gpu'"),
    ],
)
def test_wrong_key_is_named(values, message):
    with pytest.raises(InputError) as error:
        parse_config({"datasets": DATASETS, **values}, "f.yaml")
    assert message in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="absent.yaml: no such file"):
        load_config(tmp_path / "absent.yaml")


def test_one_method_may_differ():
    config = parse_config({"datasets": DATASETS, "pretrain": {"by_method": {"ppkt": {"epochs": 50}}}}, "")
    assert config.pretrain.of("ppkt").epochs == 50
    assert config.pretrain.of("slidr").epochs == config.pretrain.epochs


def test_one_data_set_may_differ_and_prevails():
    own = {"epochs": 30, "by_method": {"slidr": {"pairs": 7}}}
    datasets = {"scans": {"root": "data", "pretrain": own, "finetune": {"batch_size": 5}}, **DATASETS}
    general = {"by_method": {"ppkt": {"epochs": 50, "pairs": 9}}}
    config = parse_config({"datasets": datasets, "pretrain": general}, "")
    ppkt, slidr = (config.on("scans").pretrain.of(method) for method in ("ppkt", "slidr"))
    assert (ppkt.epochs, ppkt.pairs, slidr.epochs, slidr.pairs) == (30, 9, 30, 7)
    assert config.on("scans").finetune.batch_size == 5
    assert config.on("nuscenes") == config
    with pytest.raises(InputError, match="unknown key, did you mean epochs?"):
        parse_config({"datasets": {"scans": {"root": "data", "pretrain": {"epoch": 1}}}}, "")


def test_what_is_made_follows_the_format():
    datasets = {"rooms": {"format": "scannet", "root": "data", "synthetic": {"images": 4}}}
    config = parse_config({"datasets": datasets}, "")
    assert config.datasets["rooms"].synthetic == Rooms(images=4)
    assert Config.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(InputError, match="beams: unknown key"):
        parse_config({"datasets": {"rooms": {**datasets["rooms"], "synthetic": {"beams": 4}}}}, "")
    with pytest.raises(InputError, match="'mine'.* 'nuscenes', 'semantickitti', 'scannet'"):
        parse_config({"datasets": {"rooms": {**datasets["rooms"], "format": "mine"}}}, "")


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path):
    assert load_config(path).datasets["nuscenes"].format == "nuscenes"


def test_schema_is_in_step():
    """Repair: make schema."""
    assert json.loads((ROOT / "config/schema.json").read_text()) == Config.model_json_schema()
