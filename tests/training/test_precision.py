"""Under bf16 autocast, layers compute in bfloat16; coordinates, losses and norms stay in float32.

On a GPU, a step gives the same bits on every run.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clip2scene.config import Config
from clip2scene.method.base import Progress
from clip2scene.precision import in_float32
from clip2scene.training.precision import repeat_bits, set_precision

METHODS = ["clip2scene", "ppkt", "slidr", "finetune"]
OF_LOSSES = {
    "_log_softmax", "_softmax", "nll_loss_forward", "logsumexp", "linalg_vector_norm", "kl_div", "cumsum",
    "mse_loss", "exp", "sort",
}  # fmt: skip
NORMS = {"native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update"}


class Seen(TorchDispatchMode):
    """Notes the types of what operators get."""

    def __init__(self):
        super().__init__()
        self.types = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        given = [
            value.dtype for value in args if isinstance(value, torch.Tensor) and value.is_floating_point()
        ]
        # of a batch norm: its parameters and statistics
        self.types.setdefault(name, set()).update(given[1:] if name in NORMS else given)
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", METHODS)
def test_layers_are_in_bfloat16_and_the_rest_in_float32(name, build_method, make_batch):
    module, batch = build_method(name).eval(), make_batch()  # no dropout: two steps are compared
    batch.labels = batch.inverse % 5
    start = Progress(0, 2, 0, 0)
    with torch.autocast("cpu", torch.bfloat16), Seen() as seen:
        mixed = module.training_step(batch, start)
    assert torch.bfloat16 in seen.types["mm"] | seen.types.get("addmm", set())
    floats = {name: types for name, types in seen.types.items() if name in OF_LOSSES and types}
    assert floats.keys() & {"_log_softmax", "logsumexp", "linalg_vector_norm"}
    assert floats == {name: {torch.float32} for name in floats}
    assert all(seen.types[operator] == {torch.float32} for operator in NORMS & seen.types.keys())
    true = module.training_step(batch, start)
    for loss, value in mixed.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(true[loss].item(), rel=0.05)


def test_products_of_a_loss_are_in_float32():
    @in_float32
    def product(a, b, scale):
        return scale * (a @ b)

    a, b = torch.randn(8, 512), torch.randn(512, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
        expected = 2 * (a.double() @ b.double()).float()
        torch.testing.assert_close(product(a, b, scale=2.0), expected, rtol=0, atol=1e-4)
        assert product(a.bfloat16(), b, 1.0).dtype == torch.float32
        assert (a @ b).dtype == torch.bfloat16  # what follows is as before


@pytest.mark.parametrize("tf32", [False, True])
def test_tensorfloat_32_is_what_the_configuration_says(tf32):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        set_precision(Config(datasets={"any": {"root": "data"}}, tf32=tf32), gpu=False)
        assert torch.backends.cudnn.allow_tf32 == tf32
        assert (torch.backends.cuda.matmul.fp32_precision == "tf32") == tf32  # what our kernels ask
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
@pytest.mark.parametrize("name", METHODS)
def test_on_a_gpu_gradients_are_the_same_bits_twice(name, build_method, make_batch):
    module, batch = build_method(name).cuda().eval(), make_batch().to("cuda")
    batch.labels = batch.inverse % 5
    parameters = [value for value in module.parameters() if value.requires_grad]

    def gradients():
        losses = module.training_step(batch, Progress(0, 2, 0, 0))
        return torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True)

    mode = torch.get_deterministic_debug_mode()
    try:
        repeat_bits()
        first, second = gradients(), gradients()
    finally:
        torch.set_deterministic_debug_mode(mode)
    assert any(value is not None for value in first)
    assert all(a is b or torch.equal(a, b) for a, b in zip(first, second, strict=True))
