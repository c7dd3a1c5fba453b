"""Kernel-map pairs of a sparse convolution, and the layouts in which its kernels read them."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from clip2scene.sparse.blocks import Blocks, build_blocks
from clip2scene.sparse.linear import Bags, LinearMap


@dataclass(frozen=True, eq=False)
class OffsetPairs:
    """Pairs of a source and a target voxel, grouped by kernel offset.

    Attributes:
        sources: [P] int32, source voxel of each pair.
        targets: [P] int32, target voxel of each pair, ascending within each offset.
        sizes: Number of pairs of each of the K offsets.
        ends: [K + 1] int32, offset boundaries: offset k has the pairs ends[k] to ends[k + 1] - 1.
        n_targets: Number of target voxels, including those without pairs.
        mirror: The same pairs with their offsets reversed: offset k here is offset K - 1 - k there. None if
            no such pairs exist.
    """

    sources: Tensor
    targets: Tensor
    sizes: list[int]
    ends: Tensor
    n_targets: int
    mirror: "OffsetPairs | None" = None

    @cached_property
    def bags(self) -> Bags:
        """Return the pairs of each target voxel as groups of rows to sum."""
        return LinearMap.sums(self.targets.long(), self.n_targets).forward

    @cached_property
    def blocks(self) -> Blocks:
        """Return the target voxels in the layout of the Triton kernels."""
        if self.mirror is not None:
            blocks = self.mirror.blocks
            return blocks._replace(offsets=len(self.sizes) - 1 - blocks.offsets)
        return build_blocks(self.sources, self.targets, self.ends, self.n_targets)


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Pairs of a convolution: `forward` from inputs to outputs, `backward` from outputs to inputs."""

    forward: OffsetPairs
    backward: OffsetPairs

    @property
    def transpose(self) -> "KernelMap":
        """Return the kernel map of the transposed convolution."""
        return KernelMap(self.backward, self.forward)
