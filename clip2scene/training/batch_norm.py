"""Batch norm over all processes of a run."""

import torch
from torch import Tensor, distributed, nn

from clip2scene.training.distributed import summed


class SyncBatchNorm1d(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` on features [V, C], whose statistics in training are those of all processes.

    `torch.nn.SyncBatchNorm` computes the same, on GPUs alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise features [V, C]; V may differ between processes."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        total = summed(torch.cat([values.sum(dim=0), values.new_tensor([len(values)])]))
        count = total[-1].detach()
        mean = total[:-1] / count
        variance = summed((values - mean).square().sum(dim=0)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((values - mean) * scale + self.bias).to(input.dtype)


def synchronise(module: nn.Module) -> None:
    """Let every batch norm of a module take its statistics over all processes, if there are several.

    Parameters, buffers and their names stay as they are.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm1d:
                same = SyncBatchNorm1d(child.num_features, child.eps, child.momentum)
                same.weight, same.bias = child.weight, child.bias
                for buffer, value in child.named_buffers():
                    setattr(same, buffer, value)
                setattr(parent, name, same)
