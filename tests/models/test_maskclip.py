import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from torch.nn import functional as F

from clip2scene.errors import InputError
from clip2scene.models.clip import EMBEDDED, load_clip, model_config, save_clip
from clip2scene.models.maskclip import MaskCLIP, load_maskclip, resnet_values, sample_features

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 3, "width": 24, "head_width": 8, "patch_size": 8}


def vit_clip(quick_gelu=False):
    torch.manual_seed(0)
    clip = CLIP(20, VIT, TEXT, quick_gelu)
    for parameter in clip.visual.parameters():  # biases and norms too, so that each affects the result
        torch.nn.init.normal_(parameter, std=0.3)
    return clip.eval()


def embedded_clip():
    torch.manual_seed(0)
    clip = CLIP(**EMBEDDED)
    for parameter in clip.visual.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.0)  # residual branches are initialised to zero otherwise
    return clip.eval()


def literal_maskclip(weights, images, grid):
    """Compute MaskCLIP on a ViT from its equations on plain tensors, one image at a time."""

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def ffn(x, block):
        hidden = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        return x + linear(hidden, f"{block}.mlp.c_proj")

    def qkv(x, block):
        y = norm(x, f"{block}.ln_1")
        return (y @ weights[f"{block}.attn.in_proj_weight"].T + weights[f"{block}.attn.in_proj_bias"]).split(
            24, -1
        )

    rows, columns = grid
    positions = weights["positional_embedding"]
    square = positions[1:].T.reshape(1, 24, 4, 4)
    resized = F.interpolate(square, grid, mode="bicubic", align_corners=False)[0]
    features = torch.empty(len(images), 20, rows, columns)
    for index, image in enumerate(images):
        tokens = [weights["class_embedding"] + positions[0]]
        for r in range(rows):
            for c in range(columns):
                patch = image[:, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8]
                tokens.append((weights["conv1.weight"] * patch).sum((1, 2, 3)) + resized[:, r, c])
        x = norm(torch.stack(tokens), "ln_pre")
        for layer in range(2):
            block = f"transformer.resblocks.{layer}"
            heads = [part.reshape(-1, 3, 8).transpose(0, 1) for part in qkv(x, block)]
            attention = torch.softmax(heads[0] @ heads[1].transpose(1, 2) / 8**0.5, -1) @ heads[2]
            x = ffn(x + linear(attention.transpose(0, 1).reshape(-1, 24), f"{block}.attn.out_proj"), block)
        block = "transformer.resblocks.2"
        value = ffn(x + linear(qkv(x, block)[2], f"{block}.attn.out_proj"), block)
        dense = norm(value, "ln_post")[1:] @ weights["proj"]
        features[index] = dense.T.reshape(20, rows, columns)
    return features / features.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_vit_features_follow_the_equations(size):
    clip = vit_clip()
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    normalised = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = literal_maskclip(clip.visual.state_dict(), normalised, (size[0] // 8, size[1] // 8))
    torch.testing.assert_close(MaskCLIP(clip, mean, std)(images), expected, atol=1e-5, rtol=1e-4)


def test_modified_resnet_pooled_without_attention_is_the_mean_of_the_dense_features():
    """Set q to 0: attention is then uniform, and CLIP's pooling averages the mean token and all cells."""
    clip = embedded_clip()
    pool = clip.visual.attnpool
    with torch.no_grad():
        for parameter in (pool.q_proj.weight, pool.q_proj.bias, pool.positional_embedding):
            parameter.zero_()
        images = torch.randn(2, 3, 64, 64)
        values = resnet_values(clip.visual, images).movedim(1, -1)
        pooled, dense = clip.visual(images), clip.visual.attnpool.c_proj(values).movedim(-1, 1)
    assert dense.shape == (2, 128, 2, 2)
    torch.testing.assert_close(dense.mean((2, 3)), pooled, atol=1e-5, rtol=1e-4)


def test_image_scale_and_sizes_that_are_no_multiple_of_the_stride():
    images = torch.randint(0, 256, (1, 3, 90, 160), dtype=torch.uint8)
    features = MaskCLIP(embedded_clip(), image_scale=2)(images)
    assert features.shape == (1, 128, 6, 10)  # 180 / 32 = 5.6
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1, 6, 10))
    resized = F.interpolate(images.float(), (192, 320), mode="bilinear").round().to(torch.uint8)
    nearly = MaskCLIP(embedded_clip())(resized)
    assert F.cosine_similarity(features, nearly).min() > 0.999


def test_teacher_is_frozen():
    maskclip = MaskCLIP(embedded_clip())
    torch.nn.Sequential(maskclip).train()
    assert not any(module.training for module in maskclip.tower.network.modules())
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert not maskclip(images).requires_grad
    assert not maskclip.state_dict()
    assert not list(maskclip.parameters())


def test_sample_features_equals_upsampling_then_indexing():
    torch.manual_seed(0)
    features = torch.randn(3, 5, 7, 11)
    image, row, column = (torch.from_numpy(np.indices((3, 90, 160))[axis].ravel()) for axis in range(3))
    upsampled = F.interpolate(features, (90, 160), mode="bilinear", align_corners=False)
    sampled = sample_features(features, image, row, column, (90, 160))
    torch.testing.assert_close(sampled, upsampled[image, :, row, column], atol=1e-5, rtol=1e-4)


def test_checkpoint_keeps_model_and_normalisation(tmp_path):
    clip = embedded_clip()
    save_clip(tmp_path / "teacher.pt", clip, "embedded", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    expected = MaskCLIP(clip, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))(images)
    torch.testing.assert_close(load_maskclip(tmp_path / "teacher.pt")(images), expected)
    released = load_maskclip(tmp_path / "teacher.pt", normalise=False)(images)
    torch.testing.assert_close(released, MaskCLIP(clip)(images))
    assert not torch.equal(released, expected)


def test_maskclips_gelu_replaces_the_quickgelu_of_a_checkpoint(tmp_path):
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    model_cfg = {"embed_dim": 20, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True}
    state = vit_clip(quick_gelu=True).state_dict()
    checkpoint = {"model_cfg": model_cfg, "mean": [0.0] * 3, "std": [1.0] * 3, "state_dict": state}
    torch.save(checkpoint, tmp_path / "teacher.pt")
    own, replaced = (load_maskclip(tmp_path / "teacher.pt", gelu=gelu)(images) for gelu in (False, True))
    torch.testing.assert_close(own, MaskCLIP(vit_clip(quick_gelu=True))(images))
    torch.testing.assert_close(replaced, MaskCLIP(vit_clip(quick_gelu=False))(images))
    assert not torch.allclose(own, replaced, atol=1e-3)


def test_a_file_that_is_no_teacher_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.pt: no such file"):
        load_clip(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(InputError, match=r"text\.pt: expected a checkpoint of tensors"):
        load_clip(tmp_path / "text.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt: found state_dict; expected a teacher checkpoint"):
        load_clip(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("name", "message"), [("ViT-B-61", "did you mean 'ViT-B-16'"), ("ViT-B-16-SigLIP", "towers")]
)
def test_architectures_that_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        model_config(name)
