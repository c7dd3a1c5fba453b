"""Sparse 3D convolution: layers, and the backends that compute them on CPU and CUDA."""

from clip2scene.sparse.backend import Backend
from clip2scene.sparse.geometry import Geometry
from clip2scene.sparse.modules import SparseBatchNorm, SparseConv3d, SparseTensor, concatenate

__all__ = [
    "Backend",
    "Geometry",
    "SparseBatchNorm",
    "SparseConv3d",
    "SparseTensor",
    "concatenate",
]
