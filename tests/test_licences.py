"""Licences of trained networks follow from the data that they learned from."""

import pytest

from clip2scene.config import Config, DatasetConfig, Synthetic
from clip2scene.publish.licences import SYNTHETIC, licence_of, strictest

KNOWN = {
    "nuscenes": ("cc-by-nc-sa-4.0", "CC BY-NC-SA 4.0"),
    "semantickitti": ("cc-by-nc-sa-4.0", "CC BY-NC-SA 3.0"),  # labels are under 4.0, KITTI's scans under 3.0
    "scannet": ("other", "non-commercial"),
}
"""Identifier and terms of each data set, as its provider states them; identifiers are those of the Hub's list
(huggingface/hub-docs, docs/hub/repositories-licenses.md)."""


@pytest.fixture
def config(tmp_path):
    real = {
        name: DatasetConfig(
            format=name, root=tmp_path / name, version="scans" if name == "scannet" else "v1.0"
        )
        for name in KNOWN
    }
    made = DatasetConfig(root=tmp_path / "made", synthetic=Synthetic())
    return Config(datasets=real | {"made": made}, experiments=tmp_path / "rows.tsv")


@pytest.mark.parametrize("name", KNOWN)
def test_each_data_set_has_the_terms_of_its_provider(config, name):
    terms = licence_of(config, name)
    identifier, words = KNOWN[name]
    assert terms.id == identifier
    assert words in terms.name
    assert terms.link.startswith("http")


@pytest.mark.parametrize(
    ("names", "identifier"),
    [
        (["made"], "apache-2.0"),
        (["made", "nuscenes"], "cc-by-nc-sa-4.0"),
        (["nuscenes", "semantickitti"], "cc-by-nc-sa-4.0"),
        (["nuscenes", "scannet"], "other"),
    ],
)
def test_a_network_is_under_the_terms_of_all_its_data(config, names, identifier):
    """No data of ours loosens what a provider asks for; every provider is named."""
    terms = [licence_of(config, name) for name in names]
    found = strictest(terms)
    assert found.id == identifier
    assert all(one.name in found.name for one in terms if one != SYNTHETIC)
