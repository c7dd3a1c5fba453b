"""Stand-ins for missing data and weights: synthetic keyframes of a real sensor's size, random weights.

A step's cost depends on the sizes of its data, hardly on their contents. The lengths of runs then come from
the published numbers of keyframes.
"""

from collections.abc import Callable, Collection
from pathlib import Path

from clip2scene.config import Config, DatasetConfig, Rooms, Synthetic
from clip2scene.errors import InputError
from clip2scene.files import atomic
from clip2scene.synthetic.generate import WRITERS, generate

FULL_SIZE: dict[str, Synthetic | Rooms] = {
    "nuscenes": Synthetic(
        train_scenes=2, val_scenes=1, keyframes=2, azimuth_steps=1085, image_size=(900, 1600)
    ),
    "semantickitti": Synthetic(
        format="semantickitti", train_scenes=1, val_scenes=1, keyframes=2, beams=64, azimuth_steps=2000,
        image_size=(376, 1241),
    ),
    "scannet": Rooms(
        train_rooms=1, val_rooms=1, images=8, image_size=(968, 1296), depth_size=(480, 640),
        vertex_spacing=0.02,
    ),
}  # fmt: skip
"""Synthetic data sets with the points and pixels of the real ones, by the format that they are written in."""

PUBLISHED: dict[tuple[str | None, str], int] = {
    ("nuscenes", "train"): 28_130, ("nuscenes", "val"): 6_019, ("nuscenes", "parametrize"): 24_111,
    ("nuscenes", "verifying"): 4_019,
    ("semantickitti", "train"): 19_130, ("semantickitti", "val"): 4_071,
    ("scannet", "train"): 1_201, ("scannet", "val"): 312,
}  # fmt: skip
"""Keyframes of the real data sets' splits. The two parts of nuScenes' train are estimated from their share of
its 700 scenes: 600 and 100."""


def family(format_: str) -> str | None:
    """Return the format in which a data set of this format can be made; None if there is none."""
    return next((name for name in WRITERS if format_.startswith(name)), None)


def published(name: str, data: DatasetConfig, split: str) -> int:
    """Return the number of keyframes of a split of the real data set, for which others stand in.

    Raises:
        InputError: it is not known.
    """
    count = PUBLISHED.get((family(data.format), split))
    if count is None:
        raise InputError(
            f"datasets.{name}: the number of keyframes of split {split} is not known; expected the data set "
            f"at {data.root}"
        )
    return count


def replaced(
    config: Config, used: Collection[str], folder: Path, processes: int, tell: Callable[[str], None]
) -> tuple[Config, set[str]]:
    """Return the configuration with a stand-in for every data set and file of weights that is not there.

    Args:
        config: The configuration.
        used: Data sets that the study computes with; no others are made.
        folder: Where stand-ins are written.
        processes: Scenes that are made at a time.
        tell: Receives a line for each stand-in.

    Returns:
        The configuration, and the names of the data sets that were made up.
    """
    datasets, made = dict(config.datasets), set()
    for name, section in config.datasets.items():
        writer = family(section.format)
        if name not in used or section.synthetic or section.root.is_dir() or writer is None:
            continue
        datasets[name] = _made(section, writer, folder / "data" / name, config.seed, processes)
        made.add(name)
        tell(f"datasets.{name}: {section.root} is not there: a few synthetic keyframes of its size stand in")
    values = {"datasets": datasets}
    teacher, encoder = config.teacher, config.image_encoder
    if _absent(teacher.pretrained):
        path = _teacher_weights(teacher.architecture, folder / "teacher.pt")
        values["teacher"] = teacher.model_copy(update={"pretrained": str(path)})
        tell(f"teacher.pretrained: {teacher.pretrained} is no file: random weights stand in")
    if _absent(encoder.pretrained):
        path = _encoder_weights(encoder.architecture, folder / "encoder.pt")
        values["image_encoder"] = encoder.model_copy(update={"pretrained": str(path)})
        tell(f"image_encoder.pretrained: {encoder.pretrained} is no file: random weights stand in")
    return config.model_copy(update=values), made


def _absent(pretrained: str) -> bool:
    return pretrained != "train" and not Path(pretrained).is_file()


def _made(section: DatasetConfig, writer: str, root: Path, seed: int, processes: int) -> DatasetConfig:
    """Write a synthetic data set of a real sensor's size; return its section, as of a download."""
    version = "v1.0-stand-in" if writer == "nuscenes" else section.version
    parameters = {"format": writer, "root": root, "version": version, "synthetic": FULL_SIZE[writer]}
    generate(DatasetConfig.model_validate(parameters), seed, processes)
    return section.model_copy(update={"root": root, "version": version})


def _teacher_weights(architecture: str, path: Path) -> Path:
    import torch
    from open_clip.model import CLIP

    from clip2scene.models.clip import model_config

    with atomic(path) as temporary:
        torch.save(CLIP(**model_config(architecture)).state_dict(), temporary)
    return path


def _encoder_weights(architecture: str, path: Path) -> Path:
    import torch

    from clip2scene.models.image_encoder import build_encoder

    with atomic(path) as temporary:
        torch.save(build_encoder(architecture).state_dict(), temporary)
    return path
