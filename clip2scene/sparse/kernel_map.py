"""Kernel maps: which input voxel meets which output voxel under which offset of the kernel.

Offsets are MinkowskiEngine's: x fastest, -1..1 for kernel 3, -2..2 for 5, and 0..1 for 2, in units of the
input's tensor stride times the dilation.
"""

import torch
from torch import Tensor

from clip2scene.sparse.coordinates import shift
from clip2scene.sparse.pairs import KernelMap, Pairs


def build_kernel_map(
    inputs: Tensor, outputs: Tensor, kernel_size: int, tensor_stride: int, dilation: int
) -> KernelMap:
    """Find the pairs of a convolution.

    Where outputs are the inputs and the kernel is centred, offset k finds what offset K - 1 - k finds, with
    the roles exchanged, and the centre finds every voxel itself: under half of the offsets are looked up.

    Args:
        inputs: [V_in] sorted keys of the input voxels.
        outputs: [V_out] sorted keys of the output voxels; the same object as `inputs` where they are the
            same.
        kernel_size: Edge of the kernel.
        tensor_stride: Spacing of the input voxels.
        dilation: Spacing of the kernel's offsets, in input voxels.
    """
    symmetric = inputs is outputs and kernel_size % 2 == 1
    volume = kernel_size**3
    n_offsets = volume // 2 if symmetric else volume
    table = find_neighbours(inputs, outputs, kernel_size, tensor_stride, dilation, n_offsets)
    hit = table >= 0
    sizes = hit.sum(1).tolist()
    pairs = hit.flatten().nonzero()[:, 0]
    source, target = table.flatten()[pairs], pairs % len(outputs)
    source, target = source.int(), target.int()
    if symmetric:
        every = torch.arange(len(inputs), dtype=torch.int32, device=inputs.device)
        mirrored_source, mirrored_target = reversed(target.split(sizes)), reversed(source.split(sizes))
        source, target = (
            torch.cat([source, every, *mirrored_source]),
            torch.cat([target, every, *mirrored_target]),
        )
        sizes = [*sizes, len(inputs), *reversed(sizes)]
    forward = Pairs(source, target, sizes, len(outputs))
    return KernelMap(forward, Pairs(target, source, sizes, len(inputs), forward if symmetric else None))


def find_neighbours(
    keys: Tensor,
    queries: Tensor,
    kernel_size: int,
    tensor_stride: int,
    dilation: int = 1,
    n_offsets: int | None = None,
) -> Tensor:
    """Position in `keys` of each query's neighbour under the first n offsets (None: all): [n, Q], -1 if none.

    Neighbours along x lie side by side in the sorted keys, so that only the first of a row of the kernel is
    searched for; from there to the next are at most `dilation` keys.
    """
    first = -(kernel_size // 2) if kernel_size % 2 else 0
    step = tensor_stride * dilation
    axis = range(first * step, (first + kernel_size) * step, step)
    n_rows = kernel_size**2 if n_offsets is None else -(-n_offsets // kernel_size)
    starts = [shift(axis[0], y, z) for z in axis for y in axis][:n_rows]
    end = keys.new_full((1,), torch.iinfo(keys.dtype).max)
    ended = torch.cat([keys, end])  # past the last key, so that every position can be read
    wanted = queries + keys.new_tensor(starts)[:, None]  # [rows of the kernel, Q]
    position = torch.searchsorted(keys, wanted)
    found = ended.take(position)
    columns = [torch.where(found == wanted, position, -1)]
    for _ in range(kernel_size - 1):
        wanted = wanted + step
        for _ in range(dilation):
            position = position + (found < wanted)
            found = ended.take(position)
        columns.append(torch.where(found == wanted, position, -1))
    return torch.stack(columns, dim=1).flatten(0, 1)[:n_offsets]
