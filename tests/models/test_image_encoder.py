import pytest
import torch
import torchvision
from torch.nn import functional as F

from clip2scene.errors import InputError
from clip2scene.models.image_encoder import (
    FrozenEncoder,
    PixelFeatures,
    _Upsample,
    build_encoder,
    dilate,
    load_image_encoder,
)
from clip2scene.models.weights import load_weights, write_checkpoint
from clip2scene.training.encoder import encoder_weights


def test_dilated_resnet50_equals_torchvisions():
    """Compare with the network that SLidR distils: torchvision's ResNet-50 with dilation for strides."""
    torch.manual_seed(0)
    reference = torchvision.models.resnet50(replace_stride_with_dilation=[True, True, True]).eval()
    encoder = build_encoder("resnet50").eval()
    load_weights(encoder, encoder_weights(reference.state_dict()), "torchvision")
    dilate(encoder, 4)
    stages = [getattr(reference, name) for name in ("conv1", "bn1", "relu", "maxpool")]
    stages += [getattr(reference, f"layer{stage}") for stage in (1, 2, 3, 4)]
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), torch.nn.Sequential(*stages)(images))


def test_pixel_features_cover_the_image_and_train_only_the_decoder():
    torch.manual_seed(0)
    network = PixelFeatures(FrozenEncoder(build_encoder("embedded")))
    network.train()
    images = torch.randint(0, 256, (2, 3, 48, 80), dtype=torch.uint8)
    features = network(images)
    assert features.shape == (2, 64, 48, 80)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 48, 80))
    features[:, 0].sum().backward()
    assert network.decoder.weight.grad.abs().sum() > 0
    assert not any(module.training for module in network.encoder.encoder.network.modules())
    assert {name for name, _ in network.named_parameters()} == {"decoder.weight", "decoder.bias"}


def test_decoder_equals_slidrs_at_multiples_of_the_stride():
    torch.manual_seed(0)
    network = PixelFeatures(FrozenEncoder(build_encoder("embedded")))
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    slidr = torch.nn.Sequential(
        network.decoder, torch.nn.Upsample(scale_factor=32, mode="bilinear", align_corners=True)
    )
    torch.testing.assert_close(network(images), F.normalize(slidr(network.encoder(images)), p=2, dim=1))


def test_a_gpus_upsampling_and_its_gradient_are_torchs():
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 3, 40, 60, dtype=torch.float64)
    expected = F.interpolate(maps, (40, 60), mode="bilinear", align_corners=True)
    result = _Upsample.apply(maps, (40, 60))
    torch.testing.assert_close(result, expected)
    gradient, wanted = (torch.autograd.grad(value, maps, upstream)[0] for value in (result, expected))
    torch.testing.assert_close(gradient, wanted)


def test_pixels_read_one_by_one_are_those_of_the_maps():
    torch.manual_seed(0)
    network = PixelFeatures(FrozenEncoder(build_encoder("embedded")))
    images = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8)
    image, row, column = (torch.randint(0, size, (500,)) for size in (3, 64, 96))
    image[0], row[0], column[0] = 2, 63, 95  # the last corner
    read = network.at(images, image, row, column)
    torch.testing.assert_close(read, network(images)[image, :, row, column])


def test_checkpoint_builds_the_encoder_at_any_stride(tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder("embedded").eval()
    write_checkpoint(tmp_path / "e.pt", {"architecture": "embedded", "state_dict": encoder.state_dict()})
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    loaded = load_image_encoder(tmp_path / "e.pt")
    torch.testing.assert_close(loaded(images), FrozenEncoder(encoder)(images))
    assert load_image_encoder(tmp_path / "e.pt", stride=4)(images).shape == (1, loaded.out_channels, 16, 24)
    write_checkpoint(tmp_path / "other.pt", {"backbone": {}})
    with pytest.raises(InputError, match="expected an encoder checkpoint"):
        load_image_encoder(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("name", "message"), [("resnet-50", "did you mean 'resnet50'"), ("deit_tiny_patch16_224", "ResNet")]
)
def test_architectures_that_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        build_encoder(name)
