"""Data sets with a constant point feature, 1, in place of intensity or colour.

Lidar and RGB-D scans share no other feature, so a network that transfers from one to the other is pretrained
and evaluated on these.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.scannet import ScanNet
from clip2scene.datasets.semantickitti import SemanticKITTI


class _Occupancy(Dataset):
    feature_channels: ClassVar[int] = 1
    intensity_range: ClassVar[tuple[float, float] | None] = None

    def read_points(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Read points [N, 3] float32 (metres, sensor frame), with ones [N, 1] float32 as their features."""
        points, _ = super().read_points(path)
        return points, np.ones((len(points), 1), np.float32)


class NuScenesOccupancy(_Occupancy, NuScenes):
    """nuScenes without intensity."""

    name: ClassVar[str] = "nuscenes_occupancy"


class SemanticKITTIOccupancy(_Occupancy, SemanticKITTI):
    """SemanticKITTI without remission."""

    name: ClassVar[str] = "semantickitti_occupancy"


class ScanNetOccupancy(_Occupancy, ScanNet):
    """ScanNet without colour."""

    name: ClassVar[str] = "scannet_occupancy"
