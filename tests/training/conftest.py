"""Methods over a small network, for tests of what holds for all of them."""

import pytest
import torch
from torch import nn

from baselines.ppkt import PPKT
from baselines.slidr import SLidR
from clip2scene.config import parse_config
from clip2scene.method import clip2scene as method
from clip2scene.method.base import Resources
from clip2scene.method.clip2scene import Clip2Scene
from clip2scene.models.backbones import build_backbone
from clip2scene.models.image_encoder import build_encoder
from clip2scene.training.finetune import Segmenter

CONFIG = parse_config({"datasets": {"any": {"root": "data"}}}, "test")


class Teacher(nn.Module):
    """Stand-in for MaskCLIP, which waits for nothing."""

    value_channels, embed_dim = 3, 6

    def values(self, images):
        return nn.functional.avg_pool2d(images.float() / 255, 8)

    def to_joint_space(self, values):
        return torch.cat([values, values], dim=1)


@pytest.fixture
def build_method(tmp_path, monkeypatch):
    """Build a module by name, over a small SPVCNN."""
    torch.manual_seed(0)
    monkeypatch.setattr(method, "load_maskclip", lambda path, *choices: Teacher())
    text = {"prompts": list("abcd"), "embeddings": nn.functional.normalize(torch.randn(4, 6))}
    torch.save(text, tmp_path / "text.pt")
    state = build_encoder("embedded").state_dict()
    torch.save({"architecture": "embedded", "state_dict": state}, tmp_path / "encoder.pt")
    files = Resources(tmp_path / "teacher.pt", tmp_path / "text.pt", tmp_path / "encoder.pt")

    def build(name):
        backbone = build_backbone("spvcnn", 3, 0.125, "native")
        if name == "finetune":
            return Segmenter(backbone, 4, frozen=False)
        kinds = {"clip2scene": (Clip2Scene, "fixed"), "ppkt": (PPKT, ""), "slidr": (SLidR, "")}
        kind, recipe = kinds[name]
        return kind(CONFIG, recipe, backbone, files)

    return build
