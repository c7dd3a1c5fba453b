"""Pairs of voxels that a convolution multiplies, and the layouts of them that its kernels read."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.nn.functional import pad

from clip2scene.sparse.blocks import Blocks, build_blocks
from clip2scene.sparse.linear import Bags, LinearMap


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a source and a target voxel, offset by offset.

    Attributes:
        sources: [P] int32.
        targets: [P] int32, ascending within each offset.
        sizes: How many of the pairs each of the K offsets has.
        n_targets: Number of target voxels, in pairs or not.
        mirror: Pairs that have under offset K - 1 - k what these have under offset k, None if there are none.
    """

    sources: Tensor
    targets: Tensor
    sizes: list[int]
    n_targets: int
    mirror: "Pairs | None" = None

    @cached_property
    def ends(self) -> Tensor:
        """[K + 1] int32 where the pairs of each offset begin, and the end of the last."""
        return pad(self.sources.new_tensor(self.sizes).cumsum(0), (1, 0)).int()

    @cached_property
    def bags(self) -> Bags:
        """Which pairs each target voxel is in."""
        return LinearMap.sums(self.targets.long(), self.n_targets).forward

    @cached_property
    def blocks(self) -> Blocks:
        """The target voxels as Triton's kernels take them."""
        if self.mirror is not None:
            blocks = self.mirror.blocks
            return blocks._replace(offsets=len(self.sizes) - 1 - blocks.offsets)
        return build_blocks(self.sources, self.targets, self.ends, self.n_targets)


@dataclass(frozen=True, eq=False)
class KernelMap:
    """The pairs of a convolution, from inputs to outputs and the other way."""

    forward: Pairs
    backward: Pairs

    @property
    def transpose(self) -> "KernelMap":
        """The map of the transposed convolution."""
        return KernelMap(self.backward, self.forward)
