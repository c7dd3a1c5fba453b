"""Sensor set-ups of the two vehicles that drive along the streets."""

from dataclasses import dataclass

import numpy as np

from clip2scene.config import Synthetic
from clip2scene.synthetic.camera import Camera, Mount
from clip2scene.synthetic.lidar import Lidar


@dataclass(frozen=True)
class Vehicle:
    """Sensor set-up of a vehicle; its ego frame has x forward, y left, z up, and its origin on the ground.

    Attributes:
        beams: [B] float64, angles of the lidar's own beams above the horizon, degrees, lowest first.
        lidar_to_ego: [4, 4] float64, metres.
        mounts: Mount of each camera, by camera name.
    """

    beams: np.ndarray
    lidar_to_ego: np.ndarray
    mounts: dict[str, Mount]

    def lidar(self, parameters: Synthetic) -> Lidar:
        """Return the lidar; `parameters.beams` beams are spread over the vehicle's own beam pattern."""
        own = np.linspace(0, len(self.beams) - 1, parameters.beams)
        return Lidar.build(np.interp(own, np.arange(len(self.beams)), self.beams), parameters.azimuth_steps)

    def cameras(self, parameters: Synthetic) -> dict[str, Camera]:
        """Return the cameras by name, with images of `parameters.image_size`."""
        return {name: Camera.build(mount, parameters.image_size) for name, mount in self.mounts.items()}


_MIDDLE = (0.51, 0.545)

NUSCENES = Vehicle(
    beams=np.linspace(-30.67, 10.67, 32),  # Velodyne HDL-32E
    lidar_to_ego=np.array(  # x points right and y forward
        [[0.0, 1.0, 0.0, 0.944], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.840], [0.0, 0.0, 0.0, 1.0]]
    ),
    mounts={  # each camera fires when the lidar passes it
        "CAM_FRONT": Mount((1.70, 0.02, 1.51), 0.3, 0.79, -0.0355, _MIDDLE),
        "CAM_FRONT_RIGHT": Mount((1.55, -0.49, 1.50), -56.4, 0.79, -0.0276, _MIDDLE),
        "CAM_FRONT_LEFT": Mount((1.52, 0.49, 1.51), 55.2, 0.79, -0.0431, _MIDDLE),
        "CAM_BACK": Mount((0.03, 0.00, 1.58), 179.9, 0.506, -0.0104, _MIDDLE),
        "CAM_BACK_LEFT": Mount((1.04, 0.48, 1.59), 108.6, 0.79, -0.0005, _MIDDLE),
        "CAM_BACK_RIGHT": Mount((1.01, -0.48, 1.56), -110.8, 0.79, -0.0201, _MIDDLE),
    },
)
"""Vehicle of nuScenes, measured on one of them (scene-0061) and rounded."""

KITTI = Vehicle(
    beams=np.concatenate([np.linspace(-24.33, -8.83, 32), np.linspace(-8.33, 2.0, 32)]),  # Velodyne HDL-64E
    lidar_to_ego=np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 1.73], [0, 0, 0, 1.0]]),
    mounts={"image_2": Mount((0.27, 0.06, 1.65), 0.4, 0.579, 0.0, (0.489, 0.493))},
)
"""Vehicle of KITTI.

The lower beams are half a degree apart, the upper ones a third of a degree. The left colour camera looks
ahead and fires as the lidar passes it (Geiger et al. 2013, and the calibration of sequence 00, rounded).
"""
