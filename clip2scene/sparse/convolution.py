"""Sparse convolution and its gradients over a kernel map, in plain PyTorch: the native backend's operator.

Offset by offset of the kernel, the rows of its pairs are gathered and multiplied with the offset's matrix;
then all products are added up by output voxel in one call. What is gathered stays small enough for the
processor's cache, and only the features and the weights are kept for the gradient. Every sum runs in a fixed
order (`Bags`): results are bit-identical from run to run at a fixed number of threads.
"""

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
    return _Convolution.apply(features, weight, kernel_map, transposed)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map, ctx.transposed = kernel_map, transposed
        products = features.new_empty(kernel_map.n_pairs, weight.shape[2])
        matrices = weight.unbind()
        for block, product in kernel_map.blocks(products, transposed):
            torch.mm(features.index_select(0, block.source), matrices[block.offset], out=product)
        result = kernel_map.sum(products, transposed)
        if kernel_map.identity is not None:
            result.addmm_(features, matrices[kernel_map.identity])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        features, weight = ctx.saved_tensors
        kernel_map, wanted = ctx.kernel_map, ctx.needs_input_grad[0]
        gradient = gradient.contiguous()
        products = gradient.new_empty(kernel_map.n_pairs, weight.shape[1] if wanted else 0)
        weight_gradient = torch.zeros_like(weight)
        matrices, matrix_gradients = weight.transpose(1, 2).unbind(), weight_gradient.unbind()
        for block, product in kernel_map.blocks(products, ctx.transposed):
            rows = gradient.index_select(0, block.target)
            torch.mm(features.index_select(0, block.source).t(), rows, out=matrix_gradients[block.offset])
            if wanted:
                torch.mm(rows, matrices[block.offset], out=product)
        result = kernel_map.sum(products, not ctx.transposed) if wanted else None
        if kernel_map.identity is not None:
            torch.mm(features.t(), gradient, out=matrix_gradients[kernel_map.identity])
            if wanted:
                result.addmm_(gradient, matrices[kernel_map.identity])
        return result, weight_gradient, None, None
