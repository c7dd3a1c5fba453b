"""Batch norm and products of the native backend where its own operators do not serve: PyTorch's do."""

import pytest
import torch
from torch import nn

from clip2scene.sparse.convolution import multiply
from clip2scene.sparse.normalisation import normalise, normalise_in_steps

UNUSUAL = [{"affine": False}, {"track_running_stats": False}, {"momentum": None}]


@pytest.mark.parametrize("options", [*UNUSUAL, {}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_every_batch_norm_of_pytorch_is_computed(options, dtype, training):
    torch.manual_seed(0)
    features, shortcut = torch.randn(2, 30, 8, dtype=dtype)
    norms = [nn.BatchNorm1d(8, **options, dtype=dtype).train(training) for _ in range(2)]
    found = normalise(features, norms[0], shortcut, True)
    torch.testing.assert_close(found, normalise_in_steps(features, norms[1], shortcut, True))
    torch.testing.assert_close(dict(norms[0].named_buffers()), dict(norms[1].named_buffers()))


def test_what_does_not_fit_is_refused():
    features, norm = torch.randn(30, 8), nn.BatchNorm1d(8)
    with pytest.raises(ValueError, match="more than 1 value"):
        normalise(features[:1], norm, None, True)
    with pytest.raises(RuntimeError, match="can't be cast"):
        normalise(features, norm, torch.randn(30, 8, dtype=torch.complex64), True)
    with pytest.raises(RuntimeError, match="meta"):
        normalise(features, nn.BatchNorm1d(8, device="meta"), None, True)
    with pytest.raises(ValueError, match="on one device, found cpu and meta"):
        multiply(features, torch.randn(1, 8, 4, device="meta"))
    with pytest.raises(ValueError, match="expected a weight of 1 offset and 8 channels"):
        multiply(features, torch.randn(1, 9, 4))
