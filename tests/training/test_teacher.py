import numpy as np
import pandas as pd
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image

from clip2scene.config import Teacher
from clip2scene.config_training import TeacherTraining
from clip2scene.errors import InputError
from clip2scene.files import sha256
from clip2scene.models.clip import EMBEDDED, load_clip
from clip2scene.models.maskclip import load_maskclip
from clip2scene.models.prompts import text_embeddings
from clip2scene.training.teacher import (
    balance,
    contrastive_step,
    crop_square,
    prepare_teacher,
    read_captions,
    read_crops,
)

COLOURS = {"car": (200, 40, 40), "terrain": (40, 200, 40), "bus": (40, 40, 200)}


@pytest.fixture
def captions(tmp_path):
    """Images of three noisy colours side by side, one for each class."""
    random, rows = np.random.default_rng(0), []
    for index in range(6):
        names = list(random.permutation(list(COLOURS)))
        pixels = np.concatenate([np.full((60, 60, 3), COLOURS[name]) for name in names], axis=1)
        pixels = pixels + random.integers(-30, 30, pixels.shape)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{index}.png")
        for place, name in enumerate(names):
            box = {"x0": 60 * place, "y0": 0, "x1": 60 * place + 60, "y1": 60}
            rows.append({"image": f"{index}.png", **box, "caption": f"a photo of a {name}.", "name": name})
    path = tmp_path / "v1.0" / "captions.parquet"
    path.parent.mkdir()
    pd.DataFrame(rows).to_parquet(path)
    return path


def trained(captions, out, steps, seed=0):
    config = Teacher(training=TeacherTraining(steps=steps, batch_size=12))
    return prepare_teacher(config, [captions], out, seed)


def test_training_learns_what_the_captions_name(captions, tmp_path):
    history = trained(captions, tmp_path / "after.pt", 40)
    assert len(history) == 40
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[-1]["accuracy"] > 0.9
    pixels = np.array(list(COLOURS.values()), np.uint8)[:, :, None, None].repeat(64, 2).repeat(64, 3)
    dense = load_maskclip(tmp_path / "after.pt")(torch.from_numpy(pixels)).mean((2, 3))
    text = text_embeddings(tmp_path / "after.pt", list(COLOURS))
    assert (dense @ text.T).argmax(dim=1).tolist() == [0, 1, 2]


def test_the_same_seed_gives_the_same_bytes(captions, tmp_path):
    for name, seed in (("a.pt", 0), ("b.pt", 0), ("c.pt", 1)):
        trained(captions, tmp_path / name, 2, seed)
    assert sha256(tmp_path / "a.pt") == sha256(tmp_path / "b.pt")
    assert sha256(tmp_path / "a.pt") != sha256(tmp_path / "c.pt")


def test_crops_that_share_a_class_are_positives_of_each_other():
    class Perfect(torch.nn.Module):
        logit_scale = torch.tensor(0.0)

        def encode_image(self, images, normalize):
            return torch.eye(2)[images[:, 0, 0, 0]]

        def encode_text(self, texts, normalize):
            return torch.eye(2)[texts[:, 0]]

    name = torch.tensor([0, 0, 1])
    loss, accuracy = contrastive_step(Perfect(), name[:, None, None, None], name[:, None], name)
    e = torch.e  # rows of class 0: two positives of weight 1/2; the row of class 1: one positive
    zero, one = -np.log(e / (2 * e + 1)), -np.log(e / (e + 2))
    assert loss.item() == pytest.approx((2 * zero + one) / 3, rel=1e-5)
    assert accuracy == 1


def test_classes_are_drawn_by_the_square_root_of_their_numbers():
    name = np.repeat([0, 1, 2], [1, 4, 100])
    chance = balance(name)
    np.testing.assert_allclose([chance[name == c].sum() for c in range(3)], np.array([1, 2, 10]) / 13)


def test_crops_keep_their_shape_at_the_border():
    pixels = np.zeros((90, 160, 3), np.uint8)
    pixels[60:, 120:] = 255
    image = Image.fromarray(pixels)
    assert (
        crop_square(image, (120, 60, 160, 90), 32).min() == 0
    )  # 40 wide, 30 high: ten rows of context above
    assert (crop_square(image, (130, 60, 160, 90), 30) == 255).all()


def test_local_weights_become_the_same_checkpoint(tmp_path):
    weights = CLIP(**EMBEDDED).state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "ddp.pt"
    )
    config = Teacher(pretrained=str(tmp_path / "ddp.pt"))
    assert prepare_teacher(config, [], tmp_path / "teacher.pt", 0) == []
    model, checkpoint = load_clip(tmp_path / "teacher.pt")
    assert checkpoint["architecture"] == "embedded"
    torch.testing.assert_close(model.state_dict(), weights)


def test_weights_of_another_model_are_refused(tmp_path):
    weights = CLIP(**EMBEDDED).state_dict()
    few = {name: value for name, value in weights.items() if not name.startswith("visual.layer4")}
    torch.save(few, tmp_path / "few.pt")
    out = tmp_path / "teacher.pt"
    with pytest.raises(InputError, match=r"few\.pt: lacks visual\.layer4\.0\.conv1\.weight, .*177 tensors"):
        prepare_teacher(Teacher(pretrained=str(tmp_path / "few.pt")), [], out, 0)
    assert not out.exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "ViT-B-16", "pretrained": "openia"}, "did you mean 'openai'"),
        ({"architecture": "ViT-B16", "pretrained": "openai"}, "did you mean 'ViT-B-16'"),
        ({"pretrained": "nowhere/clip.pt"}, "expected train, a file that exists"),
        ({}, "train needs captions"),
    ],
)
def test_what_cannot_be_prepared_is_named(config, message, tmp_path):
    with pytest.raises(InputError, match=message):
        prepare_teacher(Teacher(**config), [], tmp_path / "teacher.pt", 0)


def test_several_data_sets_teach_together(captions, tmp_path):
    """Each with images of its own root, and equal paths within them."""
    other = tmp_path / "other" / "v2.0" / "captions.parquet"
    other.parent.mkdir(parents=True)
    Image.new("RGB", (60, 60), (10, 10, 10)).save(tmp_path / "other" / "0.png")
    row = {"image": "0.png", "x0": 0, "y0": 0, "x1": 60, "y1": 60, "caption": "a sofa", "name": "sofa"}
    pd.DataFrame([row]).to_parquet(other)
    table = pd.concat([read_captions(captions), read_captions(other)], ignore_index=True)
    crops = read_crops(table, 8).float().mean(dim=(2, 3))
    assert crops[-1].tolist() == [10, 10, 10]
    for name, colour in zip(table["name"][:-1], crops[:-1], strict=True):
        assert np.allclose(colour, COLOURS[name], atol=12)
    prepare_teacher(
        Teacher(training=TeacherTraining(steps=1, batch_size=4)), [captions, other], tmp_path / "t", 0
    )


def test_captions_that_are_incomplete_are_refused(captions, tmp_path):
    table = pd.read_parquet(captions)
    table.drop(columns="name").to_parquet(captions)
    with pytest.raises(InputError, match=r"captions\.parquet: .* no column name"):
        trained(captions, tmp_path / "teacher.pt", 1)
    table.assign(image="gone.png").to_parquet(captions)
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        trained(captions, tmp_path / "teacher.pt", 1)
