"""Frames -> samples and batches: projection, augmentation, voxels, superpixels, collation."""
