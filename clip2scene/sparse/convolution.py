"""Sparse convolution over a kernel map, with its gradients: the operator of the native backend.

The kernels depend on the device and the dtype: `fetch_on_demand` on CPUs, `implicit_gemm` on NVIDIA GPUs that
Triton supports, and `gather_scatter`, in plain PyTorch, for everything else. Each of these modules has a
`sum_products` and a `sum_outer_products`. Only the features and the weights are saved for the backward pass.
"""

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clip2scene.sparse import gather_scatter
from clip2scene.sparse.pairs import KernelMap


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve features over a kernel map; the result is differentiable in features and weight.

    Under autocast, features and weight are cast before the operator rather than inside it, because
    `torch.amp.custom_fwd` is bound to one device type. The gradient of the cast converts the weight's
    gradient back to float32.

    Args:
        features: [V_in, C_in].
        weight: [K, C_in, C_out], offsets in the kernel map's order.
        kernel_map: Kernel map with K offsets.

    Returns:
        Features [V_out, C_out], in the autocast dtype under autocast.

    Raises:
        ValueError: the shape of features or weight does not fit the kernel map, or they are on another
            device. The kernels read memory by address and would not notice.
        TypeError: features and weight are not of one floating-point type.
    """
    n_offsets = len(kernel_map.forward.sizes)
    expected = kernel_map.backward.n_targets, weight.shape[1] if weight.ndim == 3 else 0
    if features.shape != expected or weight.ndim != 3 or len(weight) != n_offsets:
        raise ValueError(
            f"expected features of shape {list(expected)} and a weight of {n_offsets} offsets, "
            f"found {list(features.shape)} and {list(weight.shape)}"
        )
    devices = features.device, weight.device, kernel_map.forward.sources.device
    if len(set(devices)) > 1:
        raise ValueError(
            "expected features, weight and voxels on one device, "
            f"found {devices[0]}, {devices[1]} and {devices[2]}"
        )
    if torch.is_autocast_enabled(features.device.type) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(features.device.type)
        features, weight = features.to(dtype), weight.to(dtype)
    if features.dtype != weight.dtype or not features.is_floating_point():
        raise TypeError(
            "expected features and weight of one floating-point type, "
            f"found {features.dtype} and {weight.dtype}"
        )
    return _Convolution.apply(features, weight, kernel_map, kernels_for(features.device, features.dtype))


def multiply(features: Tensor, weight: Tensor) -> Tensor:
    """Multiply features [V, C_in] with a weight [1, C_in, C_out]: a convolution with one offset, at stride 1.

    Raises:
        ValueError: the shapes do not fit, or features and weight are on different devices.
    """
    if len(weight) != 1 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            f"expected a weight of 1 offset and {features.shape[1]} channels, found {list(weight.shape)}"
        )
    if features.device != weight.device:
        raise ValueError(
            f"expected features and weight on one device, found {features.device} and {weight.device}"
        )
    is_float = features.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if is_float and features.device.type == "cpu":
        from clip2scene.portable import products

        return _Product.apply(features, weight, products)
    return features @ weight[0]


@cache
def kernels_for(device: torch.device, dtype: torch.dtype) -> ModuleType:
    """Return the module of kernels for a device and a dtype; each module is imported on first use."""
    if device.type == "cpu" and dtype == torch.float32:
        from clip2scene.sparse import fetch_on_demand

        return fetch_on_demand
    if device.type == "cuda" and dtype != torch.float64 and _triton_serves(device):
        from clip2scene.sparse import implicit_gemm

        return implicit_gemm
    return gather_scatter


def _triton_serves(device: torch.device) -> bool:
    """Check that Triton is installed and supports the GPU (NVIDIA, compute capability >= 8.0: Ampere)."""
    return (
        torch.version.cuda is not None
        and find_spec("triton") is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, products: ModuleType) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.products = products
        return products.multiply(features, weight[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        features_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            features_gradient = ctx.products.multiply(gradient, weight[0].t())
        if ctx.needs_input_grad[1]:
            weight_gradient = ctx.products.multiply(features.t(), gradient)[None]
        return features_gradient, weight_gradient, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap, kernels: ModuleType
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map, ctx.kernels = kernel_map, kernels
        return kernels.sum_products(features, weight, kernel_map.forward)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight = ctx.saved_tensors
        features_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            features_gradient = ctx.kernels.sum_products(
                gradient, weight.transpose(1, 2), ctx.kernel_map.backward
            )
        if ctx.needs_input_grad[1]:
            total = ctx.kernels.sum_outer_products(features, gradient, ctx.kernel_map.forward)
            weight_gradient = total.to(weight.dtype)
        return features_gradient, weight_gradient, None, None
