"""CLIP2Scene, made checkable: from raw data sets to a table beside the published one."""
