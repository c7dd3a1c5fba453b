"""Compute the golden losses of CLIP2Scene's released code on nuScenes and ScanNet, and their gradients.

python tests/golden/make_clip2scene_losses.py CLIP2SCENE
"""

import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cases
import torch
import torchvision
from official import arguments, bare_package, save, stand_in
from torch import nn

(root,) = arguments(__doc__, clip2scene="f37dae7")
stand_in("MinkowskiEngine")
stand_in("torchsparse")
stand_in("numba", jit=lambda: lambda function: function)  # used as a decorator only
stand_in("requests")
stand_in("pytorch_lightning", LightningModule=nn.Module)
stand_in("pytorch_lightning.utilities", rank_zero_only=lambda function: function)
torchvision.models.resnet.model_urls = {}  # removed from torchvision since
bare_package("model", root / "model")

from model.fusionNet import fusionNet  # noqa: E402
from pretrain import lightning_trainer  # noqa: E402

# The 8 pairs that a cell keeps and the text in its attention depend on a sort that is not requested to be
# stable, and is not (torch 2.13, CPU). Made stable, it keeps the first pairs of a cell, as ours does.
torch.sort = partial(torch.sort, stable=True)
torch.use_deterministic_algorithms(True)  # otherwise the summation order of indexing gradients varies

case = cases.clip2scene()
with tempfile.TemporaryDirectory() as folder:
    torch.save(case.text, Path(folder) / "text.pth")
    config = {
        "losses": ["loss_nuscenes"],
        "num_matches": 1,
        "batch_size": 1,
        "num_epochs": 20,
        "superpixel_size": 1,
        "resume_path": None,
        "NCE_temperature": 0.07,
        "working_dir": folder,
        "datetime": "",
        "text_embeddings_path": Path(folder) / "text.pth",
        "text_categories": len(case.text),
    }
    fusion = fusionNet(config)
    trainer = lightning_trainer.LightningPretrain(nn.Identity(), nn.Identity(), fusion, config)

kept = {}
fusion.register_forward_hook(lambda module, inputs, outputs: kept.update(package=inputs[0], inner=outputs[1]))
batch = {
    "pairing_points": case.pair_point,
    "pairing_images": case.pair_pixel,
    "inverse_indexes_group": case.inverse,
    "inverse_indexes_merged": case.grid_cell,
}


def compute(epoch: int, drawn: int) -> dict[str, torch.Tensor]:
    """Compute the nuScenes losses at an epoch, counted from 0, with self-training's draw (1 to 10) given."""
    trainer.epoch = epoch
    lightning_trainer.random = SimpleNamespace(randint=lambda low, high: drawn)
    points = case.point_local.clone().requires_grad_(), case.point_global.clone().requires_grad_()
    loss = trainer.loss_nuscenes(batch, points, (case.pixels, case.labels))
    spatial_temporal = (1 - kept["inner"]).mean()
    local, of_global = torch.autograd.grad(loss, points)
    return {
        "semantic": loss - spatial_temporal,
        "spatial_temporal": spatial_temporal,
        "gradient_local": local[::2],
        "gradient_global": of_global[::2],
    }


def compute_scannet(epoch: int, drawn: int) -> dict[str, torch.Tensor]:
    """Compute the ScanNet losses; there, the semantic features come first and pairs index voxels."""
    trainer.epoch = epoch
    lightning_trainer.random = SimpleNamespace(randint=lambda low, high: drawn)
    semantic, local, pixels = (
        value.clone().requires_grad_() for value in (case.point_global, case.point_local, case.pixels)
    )
    pairs = {"pairing_points": case.inverse[case.pair_point], "pairing_images": case.pair_pixel}
    loss = trainer.scannet_loss(pairs, (semantic, local), (pixels, case.labels))
    of_semantic, of_local, of_pixels = torch.autograd.grad(loss, (semantic, local, pixels))
    return {
        "scannet": loss,
        "scannet_gradient_global": of_semantic[::2],
        "scannet_gradient_local": of_local[::2],
        "scannet_gradient_pixels": of_pixels[:, ::16],
    }


first, switched = compute(0, 10), compute(11, 10)
for epoch, drawn in ((10, 10), (11, 5)):  # too early, or not drawn: no switch
    assert all(torch.equal(value, first[name]) for name, value in compute(epoch, drawn).items())
assert torch.equal(switched["gradient_local"], first["gradient_local"])

scannet, scannet_switched = compute_scannet(9, 10), compute_scannet(10, 10)
assert torch.equal(scannet_switched["scannet_gradient_local"], scannet["scannet_gradient_local"])

of_pairs = case.grid_cell[case.pair_point]
filled = (kept["package"] != 0).any(dim=2).sum(dim=1)
print(f"{len(filled)} cells, {int((filled == 0).sum())} empty, {int((filled == 8).sum())} full")
print(f"largest cell: {int(torch.bincount(of_pairs).max())} pairs")

save(
    "clip2scene_losses",
    **first,
    semantic_switched=switched["semantic"],
    gradient_global_switched=switched["gradient_global"],
    **scannet,
    scannet_switched=scannet_switched["scannet"],
    scannet_gradient_global_switched=scannet_switched["scannet_gradient_global"],
)
