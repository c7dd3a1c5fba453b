import numpy as np
import pytest
from PIL import Image

from clip2scene.config import Crop
from clip2scene.pairing.augmentation import View, outside_cuboid, random_view, rotate_and_flip

SIZE = (180, 320)


@pytest.fixture
def pixels():
    draws = np.random.default_rng(0)
    return draws.integers(0, SIZE[0], 400), draws.integers(0, SIZE[1], 400)


@pytest.mark.parametrize("seed", range(5))
def test_the_pixel_under_a_pair_keeps_its_colour_and_its_superpixel(seed, pixels, tmp_path):
    """Encode each pixel's position in its colour (red: column, green: row) and in its superpixel."""
    row, column = pixels
    rows, columns = np.indices(SIZE)
    colours = np.stack([columns * 255 / SIZE[1], rows * 255 / SIZE[0], 0 * rows], -1)
    Image.fromarray(colours.astype(np.uint8)).save(tmp_path / "image.png")
    regions = rows // 10 * 100 + columns // 10

    view = random_view(row, column, SIZE, Crop(size=(96, 176)), np.random.default_rng(seed))
    shown = view.holds(row, column)
    new_row, new_column = view.locate(row[shown], column[shown])

    assert shown.sum() > 100
    image = view.image(tmp_path / "image.png").astype(float)
    assert image.shape == (96, 176, 3)
    found = image[new_row, new_column, 0] * SIZE[1] / 255, image[new_row, new_column, 1] * SIZE[0] / 255
    np.testing.assert_allclose(found[0], column[shown], atol=3.5)
    np.testing.assert_allclose(found[1], row[shown], atol=3.5)
    region = view.nearest(regions)[new_row, new_column]
    np.testing.assert_allclose(region // 100, row[shown] / 10 - 0.5, atol=0.8)
    np.testing.assert_allclose(region % 100, column[shown] / 10 - 0.5, atol=0.8)


def test_a_view_of_everything_at_the_same_size_changes_nothing(pixels):
    row, column = pixels
    view = View((0, 0, *SIZE), SIZE, mirrored=False)
    np.testing.assert_array_equal(view.locate(row, column), (row, column))
    regions = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    np.testing.assert_array_equal(view.nearest(regions), regions)


def test_every_view_keeps_enough_pairs(pixels):
    row, column = pixels
    crop = Crop(size=(96, 176), minimum_pairs=1000, minimum_share=0.75)
    for seed in range(50):
        view = random_view(row, column, SIZE, crop, np.random.default_rng(seed))
        assert view.holds(row, column).mean() >= 0.75


def test_an_image_without_pairs_is_cropped_and_an_impossible_demand_takes_all_of_it():
    none = np.empty(0, np.int64)
    view = random_view(none, none, SIZE, Crop(), np.random.default_rng(0))
    assert view.box[2:] != SIZE
    corners = np.array([0, SIZE[0] - 1]), np.array([0, SIZE[1] - 1])
    crop = Crop(minimum_pairs=3, minimum_share=1, scale=(0.3, 0.5))
    assert random_view(*corners, SIZE, crop, np.random.default_rng(0)).box == (0, 0, *SIZE)


def test_rotation_and_flips_keep_distances_and_heights_and_reach_every_side():
    points = np.random.default_rng(0).normal(0, 10, (20, 3)).astype(np.float32)
    handedness = set()
    for seed in range(20):
        moved = rotate_and_flip(points, np.random.default_rng(seed))
        np.testing.assert_allclose(moved @ moved.T, points @ points.T, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(moved[:, 2], points[:, 2])
        handedness.add(bool(np.linalg.det(np.linalg.lstsq(points, moved, rcond=None)[0]) > 0))
    assert handedness == {True, False}


def test_the_dropped_points_fill_a_cuboid():
    points = np.random.default_rng(0).uniform(-10, 10, (20000, 3)).astype(np.float32)
    kept = outside_cuboid(points, np.random.default_rng(3))
    low, high = points[~kept].min(0), points[~kept].max(0)
    within = ((points > low) & (points < high)).all(1)
    assert not kept[within].any()
    assert (high - low <= 0.2 * np.ptp(points, axis=0)).all()
