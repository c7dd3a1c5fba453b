"""Compute chongzhou96/MaskCLIP on ViT-B/16, and the teacher that runnanchen/CLIP2Scene derives from it.

python tests/golden/make_maskclip.py MASKCLIP CLIP2SCENE

Needs mmcv 1.5.0. The weights have OpenAI's names and pass through the official conversion
(tools/maskclip_utils/convert_clip_weights.py).
"""

import contextlib
import runpy
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mmcv
import numpy as np
import torch
from deterministic import integers, weight
from official import arguments, bare_package, save, stand_in

root, clip2scene = arguments(__doc__, maskclip="245d31f", clip2scene="f37dae7")
stand_in("mmcv.ops")
bare_package("model", clip2scene / "model")

import open_clip  # noqa: E402, for the names and shapes of CLIP's tensors
from mmseg.models import build_backbone, build_head  # noqa: E402
from model.maskclip_model import maskClipFeatureExtractor  # noqa: E402

with torch.device("meta"):
    visual = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16")).visual.state_dict()
weights = {f"visual.{name}": weight(f"visual.{name}", tensor.shape) for name, tensor in visual.items()}
stand_in("clip", load=lambda name, device: (SimpleNamespace(state_dict=lambda: dict(weights)), None))
images = integers("images", 256, 1, 64, 96, 3).byte()

data = mmcv.Config.fromfile(root / "configs/_base_/datasets/pascal_context_59.py").img_norm_cfg
normalised = mmcv.imnormalize(images[0].numpy(), np.array(data.mean), np.array(data.std), to_rgb=False)


def heads(text: torch.Tensor) -> dict[str, Any]:
    """Write text embeddings to the working directory; returns the settings of the heads that read them."""
    torch.save(text, "text.pth")
    return {
        "text_categories": len(text),
        "text_embeddings_path": "text.pth",
        "visual_projs_path": "pretrain/ViT16_clip_weights.pth",
    }


with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), torch.no_grad():
    Path("pretrain").mkdir()
    script = root / "tools/maskclip_utils/convert_clip_weights.py"
    for options in ([], ["--backbone"]):
        sys.argv = [script.name, "--model", "ViT16", *options]
        runpy.run_path(str(script), run_name="__main__")

    config = mmcv.Config.fromfile(root / "configs/_base_/models/maskclip_vit16.py").model
    backbone = build_backbone(config.backbone)
    converted = torch.load("pretrain/ViT16_clip_backbone.pth")["state_dict"]
    backbone.load_state_dict({name.removeprefix("backbone."): value for name, value in converted.items()})
    head = build_head(config.decode_head | heads(weight("text", (20, 512))))
    kept = {}
    head.proj.register_forward_hook(lambda _, inputs, output: kept.update(features=output))
    backbone.eval()
    head.eval()
    scores = head(backbone(torch.from_numpy(normalised).permute(2, 0, 1)[None]))

    # As texts, the cells' own features without their mean, so that pixels get different labels.
    text = kept["features"][0].flatten(1).T
    settings = heads(text - text.mean(dim=0)) | {"maskclip_checkpoint": "pretrain/ViT16_clip_backbone.pth"}
    teacher = maskClipFeatureExtractor(settings, img_size=images.shape[1:3]).eval()
    _, labels = teacher(images.permute(0, 3, 1, 2).float() / 255)

save("maskclip", features=kept["features"], scores=scores, labels=labels.to(torch.uint8).numpy())
