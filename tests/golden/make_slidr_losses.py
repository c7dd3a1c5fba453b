"""Compute valeoai/SLidR's superpixel loss, PPKT loss, fine-tuning loss and IoU.

python tests/golden/make_slidr_losses.py SLIDR
"""

import tempfile

import cases
import numpy as np
import torch
from official import arguments, save, stand_in
from torch import nn

arguments(__doc__, slidr="14729d0")
stand_in("MinkowskiEngine")
stand_in("pytorch_lightning", LightningModule=nn.Module)
stand_in("pytorch_lightning.utilities", rank_zero_only=lambda function: function)

from downstream.criterion import DownstreamLoss, lovasz_softmax_flat  # noqa: E402
from pretrain.lightning_trainer import LightningPretrain  # noqa: E402
from utils.metrics import compute_IoU  # noqa: E402

case = cases.slidr()
with tempfile.TemporaryDirectory() as folder:
    config = {
        "losses": [],
        "num_matches": len(case.pair_point),  # all pairs, so that the draw only sets their order
        "batch_size": 1,
        "num_epochs": 1,
        "superpixel_size": case.superpixels_an_image,
        "resume_path": None,
        "NCE_temperature": 0.07,
        "working_dir": folder,
        "datetime": "",
    }
    trainer = LightningPretrain(nn.Identity(), nn.Identity(), config)
trainer.device = "cpu"
np.random.seed(0)  # noqa: NPY002, seeds the order in which PPKT draws
batch = {
    "pairing_points": case.inverse[case.pair_point],
    "pairing_images": case.pair_pixel,
    "superpixels": case.superpixels,
}
numbers = {}
for name, loss in (("ppkt", trainer.loss), ("slidr", trainer.loss_superpixels_average)):
    inputs = case.voxels.clone().requires_grad_(), case.pixels.clone().requires_grad_()
    value = loss(batch, *inputs)
    of_voxels, of_pixels = torch.autograd.grad(value, inputs)
    numbers |= {name: value, f"{name}_gradient_voxels": of_voxels, f"{name}_gradient_pixels": of_pixels}

case = cases.segmentation()
logits = case.logits.clone().requires_grad_()
value = DownstreamLoss(ignore_index=0)(logits, case.labels)
valid = case.labels != 0
lovasz = lovasz_softmax_flat(case.logits[valid].softmax(-1), case.labels[valid])
mean, _, iou = compute_IoU(case.predictions, case.labels, 17, ignore_index=0)

save(
    "slidr_losses",
    **numbers,
    segmentation=value,
    segmentation_gradient=torch.autograd.grad(value, logits)[0],
    lovasz=lovasz,
    iou=iou,
    miou=mean,
)
