"""CLIP2Scene, made checkable: from raw data sets to a table beside the published one."""

from clip2scene.portable.pins import pin

pin()  # before anything imports NumPy
