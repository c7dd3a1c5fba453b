"""The configuration: closed to unknown keys, and in step with its schema."""

import json
from pathlib import Path

import pytest

from clip2scene.config import Config, load_config, parse_config
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


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path):
    assert load_config(path).datasets["nuscenes"].format == "nuscenes"


def test_schema_is_in_step():
    """Repair: make schema."""
    assert json.loads((ROOT / "config/schema.json").read_text()) == Config.model_json_schema()
