"""Samples and batches built from frames: projection, augmentation, voxels, superpixels, collation."""
