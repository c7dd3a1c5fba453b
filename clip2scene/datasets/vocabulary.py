"""Prompts of the classes, and their colours in pictures: values that no training code depends on.

A prompt is part of the identity of the text embeddings that are made of it; a colour is part of none.
"""

import numpy as np

NUSCENES_PROMPTS: tuple[str, ...] = (
    "barrier", "bicycle", "bus", "car", "construction vehicle", "motorcycle", "pedestrian",
    "traffic_cone", "trailer", "truck", "driveable surface", "other_flat", "sidewalk", "terrain",
    "manmade", "vegetation",
)  # fmt: skip
"""Prompts of nuScenes' classes (CLIP2Scene @ f37dae7, utils/prompt_engineering.py, where two names keep their
underscores)."""

NUSCENES_COLOURS = np.array([
    (112, 128, 144), (220, 20, 60), (255, 127, 80), (255, 158, 0), (233, 150, 70), (255, 61, 99),
    (0, 0, 230), (47, 79, 79), (255, 140, 0), (255, 99, 71), (0, 207, 191), (175, 0, 75), (75, 0, 75),
    (112, 180, 60), (222, 184, 135), (0, 175, 0),
], np.uint8)  # fmt: skip
"""Colours of nuScenes' classes (nuscenes-devkit, utils/color_map.py)."""

SEMANTICKITTI_PROMPTS: tuple[str, ...] = (
    "car", "bicycle", "motorcycle", "truck", "other vehicle", "person", "bicyclist", "motorcyclist",
    "road", "parking", "sidewalk", "other ground", "building", "fence", "vegetation", "trunk",
    "terrain", "pole", "traffic sign",
)  # fmt: skip
"""Prompts of SemanticKITTI's classes (CLIP2Scene @ f37dae7, utils/prompt_engineering.py, where no name keeps
its underscores)."""

SEMANTICKITTI_COLOURS = np.array([
    (100, 150, 245), (100, 230, 245), (30, 60, 150), (80, 30, 180), (0, 0, 255), (255, 30, 30),
    (255, 40, 200), (150, 30, 90), (255, 0, 255), (255, 150, 255), (75, 0, 75), (175, 0, 75),
    (255, 200, 0), (255, 120, 50), (0, 175, 0), (135, 60, 0), (150, 240, 80), (255, 240, 150),
    (255, 0, 0),
], np.uint8)  # fmt: skip
"""Colours of SemanticKITTI's classes (semantic-kitti-api, config/semantic-kitti.yaml, stored there as blue,
green, red)."""

SCANNET_PROMPTS: tuple[str, ...] = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink",
    "bathtub", "other furniture",
)  # fmt: skip
"""Prompts of ScanNet's classes: their names."""

CITYSCAPES_PROMPTS: tuple[str, ...] = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
"""Prompts of Cityscapes' classes (CLIP2Scene @ f37dae7, utils/prompt_engineering.py). Only pre-training uses
them: no data set here has these classes."""

PROMPT_SETS: dict[str, tuple[str, ...]] = {
    "nuscenes": NUSCENES_PROMPTS,
    "semantickitti": SEMANTICKITTI_PROMPTS,
    "scannet": SCANNET_PROMPTS,
    "cityscapes": CITYSCAPES_PROMPTS,
    "all": tuple(dict.fromkeys(NUSCENES_PROMPTS + SEMANTICKITTI_PROMPTS + CITYSCAPES_PROMPTS)),
}
"""Prompts by the value of `pretrain.prompts`. ``all`` has 33: those of the three driving data sets, each
once, as the released script joins sets. The paper does not list its "All". A comment in the released
configuration speaks of 24 for two of them, for which the script gives 28."""

SCANNET_COLOURS = np.array([
    (174, 199, 232), (152, 223, 138), (31, 119, 180), (255, 187, 120), (188, 189, 34), (140, 86, 75),
    (255, 152, 150), (214, 39, 40), (197, 176, 213), (148, 103, 189), (196, 156, 148), (23, 190, 207),
    (247, 182, 210), (219, 219, 141), (255, 127, 14), (158, 218, 229), (44, 160, 44), (112, 128, 144),
    (227, 119, 194), (82, 84, 163),
], np.uint8)  # fmt: skip
"""Colours of ScanNet's classes (ScanNet, BenchmarkScripts/util.py)."""

SAFE_COLOURS = np.array([
    (34, 34, 85), (238, 204, 153), (136, 68, 0), (0, 187, 255), (136, 119, 136), (68, 34, 34), (102, 0, 187),
    (170, 170, 170), (102, 119, 238), (68, 85, 85), (204, 102, 0), (187, 221, 255), (238, 153, 68),
    (51, 119, 85), (187, 136, 187), (68, 255, 0), (102, 34, 0), (102, 68, 119), (119, 153, 119),
    (170, 85, 170),
], np.uint8)  # fmt: skip
"""Colours for any classes that readers with deuteranopia, protanopia or tritanopia tell apart too.

Any two of the 20, and the grey of points without a class, are at least 12.8 apart in CAM02-UCS for all four
kinds of readers (vision simulated after Machado et al. 2009); of the data sets' own colours, some are 1
apart."""
