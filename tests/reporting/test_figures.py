import numpy as np
from PIL import Image

from clip2scene.datasets.index import build, read_index
from clip2scene.datasets.semantickitti import SemanticKITTI
from clip2scene.reporting.figures import draw_pixels


def test_points_are_drawn_on_the_image_in_the_colours_of_their_classes(tiny_kitti, tmp_path):
    build(tiny_kitti, tmp_path / "index.parquet")
    index = read_index(tmp_path / "index.parquet").split("val")
    draw_pixels(index, tmp_path / "pixels.png")
    with Image.open(tmp_path / "pixels.png") as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    half = len(picture) // 2
    road = SemanticKITTI.colours[SemanticKITTI.classes.index("road")]
    above, below = ((np.abs(part - road).max(2) <= 2).sum() for part in (picture[:half], picture[half:]))
    assert above == 0
    assert below > 200


def test_nothing_is_drawn_without_images(tiny_kitti, tmp_path):
    build(tiny_kitti, tmp_path / "index.parquet")
    index = read_index(tmp_path / "index.parquet")
    index.frames["camera_sizes"] = [[]] * len(index)
    draw_pixels(index, tmp_path / "pixels.png")
    assert not (tmp_path / "pixels.png").exists()
