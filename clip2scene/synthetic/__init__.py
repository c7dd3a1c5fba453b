"""Synthetic worlds, ray-cast sensors, and writers that speak the data sets' own on-disk formats."""

WRITERS = {
    "nuscenes": "clip2scene.synthetic.generate",
    "scannet": "clip2scene.synthetic.scannet_writer",
}
"""Modules whose `generate(root, version, parameters, seed, processes)` writes a format."""
