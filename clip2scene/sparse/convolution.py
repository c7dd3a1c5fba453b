"""Sparse convolution and its gradients over a kernel map: the native backend's operator.

On an NVIDIA GPU that Triton compiles for, `implicit_gemm` computes it. Elsewhere, and in float64, plain
PyTorch does: tile by tile of the output voxels and offset by offset of the kernel, the rows of the pairs are
gathered and multiplied with the offset's matrix; then the tile's products are added up by output voxel in one
call, so that they take little memory. Only the features and the weights are kept for the gradient. Every sum
runs in a fixed order (`Bags`): results are bit-identical from run to run at a fixed number of threads.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clip2scene.sparse.kernel_map import KernelMap


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool = False) -> Tensor:
    """Features [V_out, C_out] of features [V_in, C_in], differentiable in features and weight.

    Under autocast both are cast before the operator rather than inside (`torch.amp.custom_fwd` is bound to
    one type of device); the cast's own gradient brings the weight's back to float32.

    Args:
        features: [V_in, C_in].
        weight: [K, C_in, C_out], offsets in the kernel map's order.
        kernel_map: The pairs.
        transposed: Run the map from outputs to inputs, as a transposed convolution does.
    """
    if torch.is_autocast_enabled(features.device.type) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(features.device.type)
        features, weight = features.to(dtype), weight.to(dtype)
    if features.is_cuda and features.dtype != torch.float64 and _triton_serves(features.device):
        from clip2scene.sparse.implicit_gemm import ImplicitGemm  # CPUs need not load Triton

        return ImplicitGemm.apply(features, weight, kernel_map, transposed)
    return _Convolution.apply(features, weight, kernel_map, transposed)


@cache
def _triton_serves(device: torch.device) -> bool:
    """Whether Triton is here and compiles for the GPU: NVIDIA's from compute capability 8.0 (Ampere)."""
    return (
        torch.version.cuda is not None
        and find_spec("triton") is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map, ctx.transposed = kernel_map, transposed
        return _sum_products(features, weight.unbind(), kernel_map, transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = ctx.saved_tensors
        weight_gradient = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        outer = features, weight_gradient.unbind()
        matrices = weight.transpose(1, 2).unbind()
        result = _sum_products(gradient.contiguous(), matrices, ctx.kernel_map, not ctx.transposed, outer)
        return result, weight_gradient.to(weight.dtype), None, None


def _sum_products(
    rows: Tensor,
    matrices: Sequence[Tensor],
    kernel_map: KernelMap,
    transposed: bool,
    outer: tuple[Tensor, Sequence[Tensor]] | None = None,
) -> Tensor:
    """Sums [V', C'] over the pairs of a row [C] times the matrix of the offset, tile by tile of the sums.

    Args:
        rows: [V, C].
        matrices: K of shape [C, C'].
        kernel_map: The pairs.
        transposed: Exchange inputs and outputs.
        outer: Features [V', C'] and K totals [C', C]: to the offset's total, features.T @ rows is added over
            its pairs, as the gradient of the weights wants it; each row is gathered once for both.
    """
    tiles, identity = kernel_map.tiles(transposed), kernel_map.identity
    result = rows.new_empty(tiles[-1].rows.stop, matrices[0].shape[1])
    most = max(len(tile.source) for tile in tiles)
    gathered, multiplied = rows.new_empty(most, rows.shape[1]), rows.new_empty(most, matrices[0].shape[1])
    for tile in tiles:
        products = multiplied[: len(tile.source)]
        parts = torch.index_select(rows, 0, tile.source, out=gathered[: len(products)]).split(tile.sizes)
        for offset, part, product in zip(tile.offsets, parts, products.split(tile.sizes), strict=True):
            torch.mm(part, matrices[offset], out=product)
        if outer is not None:
            partners = outer[0].index_select(0, tile.target).split(tile.sizes)
            for offset, part, partner in zip(tile.offsets, parts, partners, strict=True):
                _add_product(outer[1][offset], partner, part)
        sums = tile.bags.sum(products)
        if identity is None:
            result[tile.rows] = sums
            continue
        torch.addmm(sums, rows[tile.rows], matrices[identity], out=result[tile.rows])
        if outer is not None:
            _add_product(outer[1][identity], outer[0][tile.rows], rows[tile.rows])
    return result


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Total [A, B] += a.T @ b for a [p, A], b [p, B]; a float32 total of bf16 factors stays float32."""
    if total.dtype == a.dtype:
        total.addmm_(a.t(), b)
    else:
        total += a.t() @ b
