"""Sparse 3D convolution in plain PyTorch, on the CPU and on CUDA alike."""

from clip2scene.sparse.geometry import Geometry
from clip2scene.sparse.modules import SparseBatchNorm, SparseConv3d, SparseReLU, SparseTensor, concatenate

__all__ = ["Geometry", "SparseBatchNorm", "SparseConv3d", "SparseReLU", "SparseTensor", "concatenate"]
