"""Bad configurations end in one line that names file and key; odd but good ones are read as meant."""

import os
from pathlib import Path

import pytest

from clip2scene.config import Config, load_config
from clip2scene.errors import InputError
from clip2scene.study import Study

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
GOOD = """\
seed: 3
datasets:
  streets:
    root: data/streets
    voxel_size: 0.25
    synthetic: { traffic: 1.0 }
  rooms:
    format: scannet
    root: data/rooms
    version: scans
teacher: { datasets: [streets] }
pretrain:
  epochs: 7
  crop: { scale: [0.5, 1.0], ratio: [1.2, 1.45] }
methods:
  slidr: { superpixels: { segments: 20 } }
"""

REFUSED = [line.split("\t") for line in (HERE / "configuration.tsv").read_text().splitlines()[1:]]
"""Changes of the good file, and parts of the message: key or line, found, expected."""
SIGNS = {"¶": "\n", "→": "\t", "@deep": "[" * 3000 + "]" * 3000, "@all": GOOD}
"""Characters that a cell of that table cannot hold as they are."""
ACCEPTED = {
    "as it is": ("", "", "seed", 3),
    "a power of ten": ("epochs: 7", "epochs: 1e3", "pretrain.epochs", 1000),
    "a power of ten as a float": ("epochs: 7", "epochs: 1.0e+3", "pretrain.epochs", 1000),
    "a small power of ten": (
        "epochs: 7", "optimiser: { learning_rate: 1e-4 }", "pretrain.optimiser.learning_rate", 1e-4
    ),
    "a number in quotes": ("epochs: 7", "epochs: '8'", "pretrain.epochs", 8),
    "yes as a truth value": ("seed: 3", "share_process: no", "share_process", False),
    "a data set named no": ("  rooms:", "  no:", "datasets.no.format", "scannet"),
    "a data set named by a number": ("  rooms:", "  2024-01-01:", "datasets.2024-01-01.format", "scannet"),
    "a version that is a date": (
        "version: scans", "version: 2024-01-01", "datasets.rooms.version", "2024-01-01"
    ),
    "an anchor": ("seed: 3", "seed: &s 5\nthreads: *s", "threads", 5),
    "a merge key": (
        "pretrain:\n", "finetune: &f { epochs: 9 }\npretrain:\n  <<: *f\n", "pretrain.epochs", 7
    ),
    "Windows line ends": ("\n", "\r\n", "pretrain.epochs", 7),
    "a byte order mark": ("seed", "\ufeffseed", "seed", 3),
    "a comment in another script": ("seed: 3", "seed: 3 # Größe 大", "seed", 3),
    "odd letters in paths": ("seed: 3", "results: \"it's $x & é\"", "results", Path("it's $x & é")),
    "braces in a root": ("data/rooms", "'data/{a}'", "datasets.rooms.root", Path("data/{a}")),
    "the home folder": ("data/rooms", "~/rooms", "datasets.rooms.root", Path("~/rooms").expanduser()),
    "one download as two formats": (
        "  rooms:", "  o: { format: scannet_occupancy, root: data/rooms, version: scans }\n  rooms:",
        "datasets.o.format", "scannet_occupancy",
    ),
    "a split of one's own download": (
        "  rooms:", "  o: { root: nowhere, version: mine, train_split: sunny }\n  rooms:",
        "datasets.o.train_split", "sunny",
    ),
    "SLidR's name of a split": (
        "  rooms:", "  k: { format: semantickitti, root: k, val_split: verifying }\n  rooms:",
        "datasets.k.val_split", "verifying",
    ),
    "as many scenes as there are sequences": (
        "  rooms:",
        "  k: { format: semantickitti, root: k, synthetic: { train_scenes: 9, val_scenes: 1 } }\n  rooms:",
        "datasets.k.synthetic.train_scenes", 9,
    ),
    "the format of made data again": (
        "traffic: 1.0", "format: nuscenes", "datasets.streets.synthetic.format", "nuscenes"
    ),
    "a point in a name": ("  rooms:", "  rooms_v1.2-a:", "datasets.rooms_v1.2-a.version", "scans"),
}  # fmt: skip


def written(folder: Path, old: str, new: str) -> Path:
    assert old in GOOD
    path = folder / "f.yaml"
    path.write_bytes((GOOD.replace(old, new, -1 if old == "\n" else 1) if old else GOOD).encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_config(path)
    message = str(error.value)
    assert "\n" not in message
    assert "Value error" not in message
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize(
    ("old", "new", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, old, new, said):
    for sign, meant in SIGNS.items():
        old, new = old.replace(sign, meant), new.replace(sign, meant)
    assert f": {said}" in refusal(written(tmp_path, old, new))


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_odd_but_good_is_read_as_meant(tmp_path, case):
    old, new, key, expected = ACCEPTED[case]
    value: Config | object = load_config(written(tmp_path, old, new))
    for name in key.replace("v1.2", "v1!2").split("."):
        name = name.replace("!", ".")
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    assert value == expected


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n"
    for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected a mapping of configuration keys"),
        (b"# nothing\n", "is empty; expected a mapping of configuration keys"),
        (b"---\n", "is empty; expected a mapping"),
        (GOOD.replace("3", "3\0", 1).encode(), "line 1: not valid YAML: found the character U+0000; "),
        (b"- a\n- b\n", "expected a mapping of configuration keys, found list"),
        (b"text", "expected a mapping of configuration keys, found str"),
        (GOOD.encode("utf-16"), "expected a YAML file in UTF-8, found a damaged file"),
        (GOOD.encode("utf-16-le"), "not valid YAML: found the character U+0000; expected text"),
        ("seed: 3 # Größe".encode("latin-1"), "expected a YAML file in UTF-8, found a damaged file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "expected a YAML file in UTF-8, found a damaged file"),
        ((GOOD + BOMB).encode(), "aliases expand to more than 100,000 values; expected fewer"),
        ((GOOD.replace("[streets]", "*i") + BOMB).encode(), "not valid YAML: found undefined alias"),
        ((BOMB + GOOD.replace("[streets]", "*i")).encode(), "aliases expand to more than 100,000 values"),
    ],
    ids=[
        "empty", "comments", "an empty document", "NUL", "a list", "a text", "UTF-16", "UTF-16, no mark",
        "latin-1", "an image", "aliases that multiply", "aliases too early", "aliases that multiply, in use",
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content, said):
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    assert said in refusal(path)


def test_a_path_that_is_no_file_is_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: is a folder; expected a YAML file in UTF-8"
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert refusal(loop).startswith(f"{loop}: Too many levels of symbolic links")
    os.mkfifo(pipe := tmp_path / "pipe.yaml")
    assert refusal(pipe) == f"{pipe}: is a pipe or a device; expected a YAML file in UTF-8"
    with pytest.raises(InputError, match=r"^/dev/zero: is a pipe or a device"):
        load_config("/dev/zero")
    absent = tmp_path / "absent.yaml"
    assert refusal(absent) == f"{absent}: no such file; expected a YAML file in UTF-8"


def test_every_wrong_key_is_listed_in_the_same_line(tmp_path):
    path = written(tmp_path, "epochs: 7", "epochs: 0\n  sweeps: 0")
    path.write_text(path.read_text().replace("seed: 3", "seed: x"))
    message = refusal(path)
    assert all(f"{path}: {key}: " in message for key in ("seed", "pretrain.epochs", "pretrain.sweeps"))


@pytest.mark.parametrize("path", ["config/config.yaml", "config/paper.yaml", "tests/workflow/smallest.yaml"])
def test_configurations_of_ours_are_good(monkeypatch, path):
    monkeypatch.chdir(ROOT)
    config = load_config(path)
    if path.startswith("tests"):
        config = config.model_copy(update={"experiments": Path("tests/workflow/smallest.tsv")})
    assert Study(config).runs
