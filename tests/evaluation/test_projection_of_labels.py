import numpy as np
import torch
from PIL import Image

from clip2scene.datasets.frame import Camera, Frame
from clip2scene.evaluation.projection import project_labels

AHEAD = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def camera(path, left, right):
    """A camera that looks along x at a picture of two colours."""
    picture = np.empty((20, 40, 3), np.uint8)
    picture[:, :20], picture[:, 20:] = left, right
    Image.fromarray(picture).save(path)
    intrinsics = np.array([[20.0, 0, 20], [0, 20, 10], [0, 0, 1]])
    return Camera(path.stem, path, (20, 40), intrinsics, AHEAD)


def test_points_take_the_class_of_their_pixel_from_the_surest_camera(tmp_path):
    points = np.array(
        [[5, 2, 0], [5, -2, 0], [-5, 0, 0], [0.5, 0, 0]], np.float32
    )  # left, right, behind, near
    cameras = (
        camera(tmp_path / "a.png", (200, 0, 0), (0, 100, 0)),  # left is 1, surely; right is 2
        camera(tmp_path / "b.png", (0, 100, 0), (0, 0, 200)),  # left is 2; right is 3, surely
    )
    frame = Frame("0", points, points[:, :1], np.zeros(4, np.int64), None, cameras)
    colours = torch.eye(3)  # a "text" embedding for red, green and blue

    def by_colour(images):
        return images.float()

    assert project_labels(by_colour, colours, frame).tolist() == [1, 3, 0, 0]
    alone = Frame("0", points, points[:, :1], np.zeros(4, np.int64), None, cameras[:1])
    assert project_labels(by_colour, colours, alone).tolist() == [1, 2, 0, 0]


def test_the_teacher_may_be_judged_on_resized_images(tmp_path):
    """Each point takes the class of its pixel at the other size, and the teacher sees images of that size."""
    points = np.array([[5, 2, 0], [5, -2, 0]], np.float32)
    cameras = (camera(tmp_path / "a.png", (200, 0, 0), (0, 100, 0)),)
    frame = Frame("0", points, points[:, :1], np.zeros(2, np.int64), None, cameras)
    seen = []

    def by_colour(images):
        seen.append(tuple(images.shape))
        return images.float()

    for size in (None, (20, 40), (10, 30), (44, 50)):
        assert project_labels(by_colour, torch.eye(3), frame, size).tolist() == [1, 2]
    assert seen == [(1, 3, 20, 40), (1, 3, 20, 40), (1, 3, 10, 30), (1, 3, 44, 50)]
