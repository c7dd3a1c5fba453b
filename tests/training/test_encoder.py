import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from clip2scene.config import ImageEncoder
from clip2scene.config_training import EncoderTraining
from clip2scene.errors import InputError
from clip2scene.files import sha256
from clip2scene.models.image_encoder import build_encoder, load_image_encoder
from clip2scene.models.weights import read_checkpoint
from clip2scene.training.encoder import prepare_encoder, two_views, vicreg


@pytest.fixture
def images(tmp_path):
    """Images of smooth random colour."""
    paths = []
    for index in range(4):
        small = np.random.default_rng(index).integers(0, 256, (6, 10, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(small).resize((160, 90), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def trained(images, out, steps, seed=0):
    config = ImageEncoder(
        architecture="embedded", training=EncoderTraining(steps=steps, batch_size=4, learning_rate=3e-3)
    )
    return prepare_encoder(config, images, out, seed)


def test_training_lowers_the_loss_and_does_not_collapse(images, tmp_path):
    history = trained(images, tmp_path / "after.pt", 20)
    assert len(history) == 20
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    features = load_image_encoder(tmp_path / "after.pt", 4)(
        torch.randint(0, 256, (1, 3, 96, 176), dtype=torch.uint8)
    )
    assert (features.flatten(2).std(dim=2) > 0.01).float().mean() > 0.5


def test_the_same_seed_gives_the_same_bytes(images, tmp_path):
    for name, seed in (("a.pt", 0), ("b.pt", 0), ("c.pt", 1)):
        trained(images, tmp_path / name, 2, seed)
    assert sha256(tmp_path / "a.pt") == sha256(tmp_path / "b.pt")
    assert sha256(tmp_path / "a.pt") != sha256(tmp_path / "c.pt")


def test_views_show_the_same_at_the_same_spot():
    """On an image whose colour is its position, both views have the same colour at matched spots."""
    y, x = torch.meshgrid(torch.linspace(0, 255, 180), torch.linspace(0, 255, 320), indexing="ij")
    image = torch.stack([x, y, torch.zeros_like(x)]).round().to(torch.uint8)
    random = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip2scene.training.encoder.recolour", lambda views, random: views)
        pairs = [two_views(image, random) for _ in range(8)]
    for views, spots in pairs:
        assert spots.abs().max() <= 1
        colour = F.grid_sample(views, spots[:, None], padding_mode="border", align_corners=False)
        torch.testing.assert_close(colour[0], colour[1], atol=0.05, rtol=0)


def test_vicreg_on_a_case_by_hand():
    first = torch.tensor([[2.0, 2.0], [-2.0, -2.0], [2.0, 2.0], [-2.0, -2.0]])
    terms = vicreg(first, first + torch.tensor([1.0, 0.0]))
    assert terms["invariance"] == 0.5
    assert terms["variance"] == 0
    assert terms["covariance"].item() == pytest.approx(2 * 2 * (16 / 3) ** 2 / 2)
    assert vicreg(torch.zeros(4, 2), torch.zeros(4, 2))["variance"].item() == pytest.approx(2 * 0.99)


def test_moco_checkpoint_gives_its_query_encoder(tmp_path):
    torch.manual_seed(0)
    query, key = build_encoder("resnet10t").state_dict(), build_encoder("resnet10t").state_dict()
    weights = {f"module.encoder_q.{name}": value for name, value in query.items()}
    weights |= {f"module.encoder_k.{name}": value for name, value in key.items()}
    weights |= {"module.queue": torch.zeros(3), "module.encoder_q.fc.0.weight": torch.zeros(4, 4)}
    torch.save({"epoch": 800, "arch": "resnet10t", "state_dict": weights}, tmp_path / "moco.pth.tar")
    config = ImageEncoder(architecture="resnet10t", pretrained=str(tmp_path / "moco.pth.tar"))
    prepare_encoder(config, [], tmp_path / "encoder.pt", 0)
    torch.testing.assert_close(read_checkpoint(tmp_path / "encoder.pt")["state_dict"], query)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(build_encoder("resnet10t").state_dict(), tmp_path / "small.pt")
    config = ImageEncoder(architecture="resnet18", pretrained=str(tmp_path / "small.pt"))
    with pytest.raises(InputError, match=r"small\.pt: lacks conv1\.weight, .* and \d+ more"):
        prepare_encoder(config, [], tmp_path / "encoder.pt", 0)
    assert not (tmp_path / "encoder.pt").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnet50", "pretrained": "a1_in1"}, "did you mean 'a1_in1k'"),
        ({"pretrained": "nowhere/moco.pth"}, "expected train, a file that exists"),
        ({}, "train needs images"),
    ],
)
def test_what_cannot_be_prepared_is_named(config, message, tmp_path):
    with pytest.raises(InputError, match=message):
        prepare_encoder(ImageEncoder(**{"architecture": "embedded"} | config), [], tmp_path / "encoder.pt", 0)
