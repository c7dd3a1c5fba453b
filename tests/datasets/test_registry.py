import subprocess
import sys

import pytest

from clip2scene.datasets.registry import dataset_names, get_dataset
from clip2scene.errors import InputError


def test_the_nearest_name_is_offered():
    with pytest.raises(InputError, match="did you mean 'nuscenes'"):
        get_dataset("nuscene")


@pytest.mark.parametrize("name", dataset_names())
def test_every_data_set_describes_its_classes(name):
    dataset = get_dataset(name)
    assert dataset.name == name
    assert len(dataset.classes) == len(dataset.prompts) == len(dataset.colours)
    assert len(set(dataset.classes)) == len(dataset.classes)
    assert len({tuple(colour) for colour in dataset.colours}) == len(dataset.colours)


def test_listing_names_imports_nothing_heavy():
    program = (
        "import sys; from clip2scene.datasets.registry import dataset_names; dataset_names();"
        "print([name for name in ('torch', 'nuscenes', 'skimage', 'mlflow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
