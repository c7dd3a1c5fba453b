"""Baselines of CLIP2Scene, one file each, behind the interface of `clip2scene.method.base`."""
