"""Row-wise computation in blocks gives what the whole matrix gives, to the last bit."""

import pytest
import torch
from torch.nn import functional as F

from clip2scene import blockwise
from clip2scene.blockwise import normalise_, row_blocks
from clip2scene.models.maskclip import sample_features


@pytest.fixture(params=[2**17, 640], ids=["", "small blocks"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(blockwise, "_BLOCK", request.param)


@pytest.mark.parametrize("rows", [0, 1, 256, 257, 36000])
def test_blocks_are_all_rows_in_nearly_equal_parts(rows):
    blocks = row_blocks(rows, 512, torch.device("cpu"))
    assert [row for block in blocks for row in range(rows)[block]] == list(range(rows))
    sizes = [block.stop - block.start for block in blocks]
    assert max(sizes) <= 256
    assert max(sizes) - min(sizes) <= 1  # one row alone might be summed in another order
    assert row_blocks(rows, 512, torch.device("cuda")) == [slice(0, rows)]  # a GPU launches one kernel


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("shape", [(1500, 128), (257, 512), (1, 512), (3, 5), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalising_is_torchs_own(shape, dtype):
    torch.manual_seed(0)
    rows, upstream = torch.randn(2, *shape, dtype=dtype)
    rows[1:2] = 0
    rows[2:3] = 1e-20  # below the least norm
    ours, theirs = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    result, expected = normalise_(ours.clone()), F.normalize(theirs, dim=1)
    result.backward(upstream)
    expected.backward(upstream)
    assert torch.equal(result, expected)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.usefixtures("_blocks")
def test_samples_do_not_depend_on_the_blocks():
    torch.manual_seed(0)
    features = torch.randn(2, 96, 7, 11)
    image, row, column = (torch.randint(0, end, (3000,)) for end in (2, 90, 160))
    whole = sample_features(features, image, row, column, (90, 160))
    for at in (slice(0, 1), slice(500, 1900)):
        part = sample_features(features, image[at], row[at], column[at], (90, 160))
        assert torch.equal(part, whole[at])
