"""Files of weights from outside: what is done to a good file, and the one line that must come of it."""

import io
import json
import pickle
import struct
import time
from argparse import Namespace

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save
from torch import nn

from clip2scene.config import ImageEncoder, Teacher
from clip2scene.errors import InputError
from clip2scene.models.clip import EMBEDDED, load_clip, save_clip
from clip2scene.models.image_encoder import build_encoder, load_image_encoder
from clip2scene.models.prompts import load_text_embeddings
from clip2scene.models.weights import read_checkpoint, write_checkpoint
from clip2scene.training.encoder import prepare_encoder
from clip2scene.training.meter import refuse_infinite
from clip2scene.training.teacher import prepare_teacher

ADVICE = ("weights_only", "allow_pickle", "\n")
"""Parts that no message may hold: advice to run code from the file, and a second line."""


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


GOOD = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
TORCH, SAFE = saved(GOOD), save(GOOD)
LEGACY = saved(GOOD, _use_new_zipfile_serialization=False)


def safetensors(header):
    """Return a safetensors file of two numbers with this header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


DAMAGED = [
    ("empty", "a.pt", b"", "found an empty file"),
    ("empty safetensors", "a.safetensors", b"", "found an empty file"),
    ("text", "a.pt", b"Not a checkpoint\nat all", "found text ('Not a checkpoint')"),
    ("text as safetensors", "a.safetensors", b"Not a checkpoint at all", "found text ('Not a checkpoint"),
    ("a download page", "a.pth", b"<!DOCTYPE html>\n<html>Sign in", "found a web page; download the file"),
    ("a page after blank lines", "a.pth", b"\n\n  <html>", "found a web page"),
    ("git-lfs", "a.pt", b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    ("half", "a.pt", TORCH[: len(TORCH) // 2], "found a file that is cut short"),
    ("one byte less", "a.pt", TORCH[:-1], "found a file that is cut short"),
    ("half of the old format", "a.pt", LEGACY[: len(LEGACY) // 2], "found a file that is cut short"),
    ("old format, one byte less", "a.pt", LEGACY[:-1], "found a file that is cut short"),
    ("half of safetensors", "a.safetensors", SAFE[: len(SAFE) // 2], "found a damaged file"),
    ("safetensors, one byte less", "a.safetensors", SAFE[:-1], "found a damaged file"),
    ("safetensors, header too long", "a.safetensors", b"\xff" * 8 + SAFE[8:], "found a damaged file"),
    ("safetensors, unknown type", "a.safetensors",
     safetensors({"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}}), "found a damaged file"),
    ("safetensors, offsets outside", "a.safetensors",
     safetensors({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}), "found a damaged file"),
    ("zeros", "a.pt", bytes(4096), "found a damaged file"),
    ("noise", "a.pt", np.random.default_rng(0).bytes(4096), "found a damaged file"),
    ("another archive", "a.pt", b"PK\x03\x04" + bytes(100), "found a file that is cut"),
    ("a plain pickle", "a.pkl", pickle.dumps({"a": [1, 2]}), "a damaged file, or one that torch did not"),
    ("a list", "a.pt", saved([torch.ones(2)]), "expected a dictionary of tensors, found list"),
    ("a tensor", "a.pt", saved(torch.ones(2)), "expected a dictionary of tensors, found Tensor"),
    ("a module", "a.pt", saved(nn.Linear(2, 2)), "torch.nn.modules.linear.Linear, which is code; save its"),
    ("arguments", "a.pt", saved(GOOD | {"args": Namespace(lr=1)}), "argparse.Namespace, which is code"),
    ("numpy", "a.pt", saved({"a": np.zeros(3)}), "which is code; save its state_dict alone"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"), [c[1:] for c in DAMAGED], ids=[c[0] for c in DAMAGED]
)
def test_what_is_no_checkpoint_is_named(tmp_path, recwarn, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_checkpoint(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: expected ")
    assert message in str(error.value)
    assert not any(word in str(error.value) for word in ADVICE)
    assert not recwarn.list  # torch prints its advice as warnings too


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file; expected a checkpoint"),
        (lambda path: path.mkdir(), "is a folder; expected a checkpoint"),
        (lambda path: path.symlink_to(path), "symbolic links; expected a checkpoint"),
        (lambda path: path.symlink_to(path.with_name("gone")), "no such file"),
    ],
)
def test_what_is_no_file_is_named(tmp_path, make, message):
    make(tmp_path / "a.pt")
    with pytest.raises(InputError, match=f"a.pt: .*{message}"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pt", TORCH), ("a.safetensors", TORCH), ("a.pt", SAFE), ("a.safetensors", SAFE), ("a", LEGACY)],
)
def test_the_content_decides_not_the_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    read = read_checkpoint(tmp_path / name)
    assert all(torch.equal(read[key], GOOD[key]) for key in GOOD)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_openai_s_torchscript_is_read_and_a_half_of_it_is_named(tmp_path):
    network = nn.Linear(3, 2)
    torch.jit.script(network).save(tmp_path / "a.pt")
    read = read_checkpoint(tmp_path / "a.pt")
    assert all(torch.equal(read[name], value) for name, value in network.state_dict().items())
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="found a file that is cut short"):
        read_checkpoint(tmp_path / "a.pt")


TINY = EMBEDDED | {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4, "head_width": 16}}
TINY |= {"text_cfg": EMBEDDED["text_cfg"] | {"vocab_size": 49408, "width": 16, "heads": 1}}


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return CLIP(**TINY)


def poisoned(weights, name, value=torch.nan):
    weights = {key: tensor.clone() for key, tensor in weights.items()}
    weights[name].view(-1)[0] = value
    return weights


def lacking(name):
    return lambda c: c | {"state_dict": {key: v for key, v in c["state_dict"].items() if key != name}}


TEACHERS = [
    (lambda c: {}, "found no key; expected a teacher checkpoint (model_cfg, mean, std, state_dict)"),
    (lambda c: {"state_dict": c["state_dict"]}, "found state_dict; expected a teacher checkpoint"),
    (lambda c: c | {"state_dict": [1]}, "found state_dict as list; expected a teacher checkpoint"),
    (lambda c: c | {"state_dict": dict.fromkeys(c["state_dict"], "x")}, "is of type str; expected a tensor"),
    (lambda c: c | {"model_cfg": "ViT-B-16"}, "found model_cfg as str; expected a teacher checkpoint"),
    (lambda c: c | {"model_cfg": {"embed_dim": 4}}, "model_cfg makes no CLIP model"),
    (lambda c: c | {"mean": [0.5]}, "mean is [0.5]; expected three finite numbers"),
    (lambda c: c | {"std": [1, 1, 0]}, "std is [1, 1, 0]; expected three finite numbers above 0"),
    (lambda c: c | {"std": [1, 1, float("nan")]}, "std is [1, 1, nan]; expected three finite numbers"),
    (lambda c: c | {"state_dict": poisoned(c["state_dict"], "text_projection")},
     "text_projection holds values that are not finite"),
    (lacking("text_projection"), "lacks text_projection"),
    (lacking("visual.conv1.weight"), "lacks visual.conv1.weight"),
    (lambda c: c | {"state_dict": c["state_dict"] | {"logit_bias": torch.zeros(())}},
     "holds, beside the model's tensors, logit_bias"),
    (lambda c: c | {"state_dict": c["state_dict"] | {"logit_scale": torch.tensor(4)}},
     "logit_scale holds torch.int64; expected floating-point numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), TEACHERS)
def test_a_teacher_checkpoint_that_does_not_fit_is_named(tmp_path, clip, change, message):
    good = {
        "architecture": "embedded", "model_cfg": TINY, "mean": [0.5] * 3, "std": [0.2] * 3,
        "state_dict": clip.state_dict(),
    }  # fmt: skip
    write_checkpoint(tmp_path / "teacher.pt", good)
    load_clip(tmp_path / "teacher.pt")
    write_checkpoint(tmp_path / "teacher.pt", change(good))
    with pytest.raises(InputError) as error:
        load_clip(tmp_path / "teacher.pt")
    assert str(error.value).startswith(f"{tmp_path / 'teacher.pt'}: ")
    assert message in str(error.value)


def file_of(tmp_path, content):
    write_checkpoint(tmp_path / "weights.pt", content)
    return str(tmp_path / "weights.pt")


@pytest.fixture(scope="module")
def vits():
    """Return the weights of two CLIP models that differ by the patch size alone: ViT-S-16 and ViT-S-32."""
    from open_clip import get_model_config

    torch.manual_seed(0)
    return {name: CLIP(**get_model_config(name)).state_dict() for name in ("ViT-S-16", "ViT-S-32")}


FILES = [
    ("as it is", "ViT-S-16", lambda w: w, None),
    ("under state_dict, by DDP", "ViT-S-16",
     lambda w: {"epoch": 3, "state_dict": {f"module.{name}": v for name, v in w.items()}}, None),
    ("half precision", "ViT-S-16", lambda w: {name: v.half() for name, v in w.items()}, None),
    ("with OpenAI's numbers", "ViT-S-16",
     lambda w: w | {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77)}, None),
    ("another patch size", "ViT-S-32", lambda w: w, "visual.positional_embedding has the shape [50, 384]"),
    ("without projection", "ViT-S-16", lambda w: {n: v for n, v in w.items() if n != "visual.proj"},
     "lacks visual.proj; expected the model's"),
    ("SigLIP's bias", "ViT-S-16", lambda w: w | {"logit_bias": torch.zeros(1)}, "logit_bias"),
    ("not finite", "ViT-S-16", lambda w: poisoned(w, "visual.proj"), "visual.proj holds values that are not"),
    ("beyond float32", "ViT-S-16",
     lambda w: {n: v.double() for n, v in poisoned(w, "visual.proj").items()}, "visual.proj holds values"),
    ("a list", "ViT-S-16", lambda w: {"state_dict": [1, 2]}, "lacks positional_embedding"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "change", "message"), [c[1:] for c in FILES], ids=[c[0] for c in FILES])
def test_a_file_for_the_teacher_must_be_of_its_architecture(tmp_path, vits, source, change, message):
    file, out = file_of(tmp_path, change(vits[source])), tmp_path / "teacher.pt"
    config = Teacher(architecture="ViT-S-16", pretrained=file)
    if message is None:
        prepare_teacher(config, [], out, seed=0)
        loaded = load_clip(out)[0].visual.conv1.weight
        expected = vits[source]["visual.conv1.weight"]
        torch.testing.assert_close(loaded, expected, rtol=0, atol=1e-3 if "half" in str(change) else 1e-4)
        return
    with pytest.raises(InputError) as error:
        prepare_teacher(config, [], out, seed=0)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert not out.exists()


def resnet(name):
    torch.manual_seed(0)
    return build_encoder(name).state_dict()


def moco(weights):
    """Return weights as MoCo saves them: two encoders with heads, and a queue."""
    both = {f"module.encoder_{k}.{name}": v for k in "qk" for name, v in weights.items()}
    head = {"module.encoder_q.fc.0.weight": torch.ones(2, 2), "module.encoder_q.fc.2.bias": torch.ones(2)}
    return {"arch": "resnet18", "state_dict": both | head | {"module.queue": torch.ones(3)}}


ENCODERS = [
    ("as it is", "resnet18", lambda w: w, None),
    ("MoCo's", "resnet18", moco, None),
    ("with its classifier", "resnet18", lambda w: w | {"fc.weight": torch.ones(10, 512)}, None),
    ("without counters", "resnet18", lambda w: {n: v for n, v in w.items() if "num_batches" not in n}, None),
    ("half precision", "resnet18", lambda w: {n: v.half() if v.ndim else v for n, v in w.items()}, None),
    ("resnet34", "resnet34", lambda w: w, "holds, beside the model's tensors, layer1.2.conv1.weight"),
    ("resnet50", "resnet50", lambda w: w, "holds, beside the model's tensors, layer1.0.conv3.weight"),
    ("no first layer", "resnet18", lambda w: {n: v for n, v in w.items() if n != "conv1.weight"},
     "lacks conv1.weight"),
    ("not finite", "resnet18", lambda w: poisoned(w, "bn1.running_var", torch.inf), "bn1.running_var holds"),
    ("quantised", "resnet18", lambda w: w | {"conv1.weight": w["conv1.weight"].to(torch.int8)},
     "conv1.weight holds torch.int8; expected floating-point numbers"),
    ("sparse", "resnet18", lambda w: w | {"bn1.bias": w["bn1.bias"].to_sparse()}, "a tensor of layout"),
    ("without values", "resnet18", lambda w: w | {"bn1.bias": w["bn1.bias"].to("meta")}, "without values"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "change", "message"), [c[1:] for c in ENCODERS], ids=[c[0] for c in ENCODERS]
)
def test_a_file_for_the_encoder_must_be_of_its_architecture(tmp_path, source, change, message):
    file, out = file_of(tmp_path, change(resnet(source))), tmp_path / "encoder.pt"
    config = ImageEncoder(architecture="resnet18", pretrained=file)
    if message is None:
        prepare_encoder(config, [], out, seed=0)
        loaded = read_checkpoint(out)["state_dict"]["layer4.1.conv2.weight"]
        torch.testing.assert_close(loaded, resnet(source)["layer4.1.conv2.weight"], rtol=0, atol=1e-3)
        return
    with pytest.raises(InputError) as error:
        prepare_encoder(config, [], out, seed=0)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet51"}, "resnet51"),
        ({"architecture": 18}, "architecture is 18; expected an encoder checkpoint"),
        ({"state_dict": None}, "found state_dict as NoneType; expected an encoder checkpoint"),
        ({"state_dict": {"conv1.weight": "x"}}, "lacks "),
    ],
)
def test_an_encoder_checkpoint_that_does_not_fit_is_named(tmp_path, change, message):
    good = {"architecture": "embedded", "state_dict": build_encoder("embedded").state_dict()}
    path = tmp_path / "encoder.pt"
    write_checkpoint(path, good | change)
    with pytest.raises(InputError) as error:
        load_image_encoder(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"embeddings": torch.ones(2, 4)}, "found embeddings; expected text embeddings"),
        ({"prompts": ["a", "b"], "embeddings": [1, 2]}, "embeddings: found list; expected float32 [C, D]"),
        ({"prompts": ["a"], "embeddings": torch.ones(4)}, "found torch.float32 [4]; expected float32 [C, D]"),
        ({"prompts": ["a"], "embeddings": torch.ones(1, 4).int()}, "found torch.int32 [1, 4]"),
        ({"prompts": ["a"], "embeddings": torch.full((1, 4), torch.nan)}, "values that are not finite"),
        (
            {"prompts": ["a"], "embeddings": torch.ones(2, 4)},
            "prompts: found 1; expected 2, one an embedding",
        ),
        ({"prompts": "ab", "embeddings": torch.ones(2, 4)}, "prompts: found str; expected 2"),
    ],
)
def test_text_embeddings_that_are_none_are_named(tmp_path, content, message):
    write_checkpoint(tmp_path / "text.pt", content)
    with pytest.raises(InputError) as error:
        load_text_embeddings(tmp_path / "text.pt")
    assert str(error.value).startswith(f"{tmp_path / 'text.pt'}: ")
    assert message in str(error.value)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """The hub's address refuses every connection, and its cache is empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("key", ["teacher.pretrained", "image_encoder.pretrained"])
def test_without_a_network_a_tag_ends_in_one_line_at_once(tmp_path, no_network, capsys, key):
    teacher = Teacher(architecture="ViT-B-16", pretrained="openai")
    encoder = ImageEncoder(architecture="resnet18", pretrained="a1_in1k")
    prepare = {
        "teacher.pretrained": lambda: prepare_teacher(teacher, [], tmp_path / "a.pt", 0),
        "image_encoder.pretrained": lambda: prepare_encoder(encoder, [], tmp_path / "a.pt", 0),
    }[key]
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        prepare()
    assert time.monotonic() - start < 20
    assert str(error.value).startswith(f"{key}: found '")
    assert "127.0.0.1:9 cannot be reached" in str(error.value)
    assert "or the path of a file that holds them" in str(error.value)
    assert "\n" not in str(error.value)
    assert "Retrying" not in capsys.readouterr().err
    assert not (tmp_path / "a.pt").exists()


def test_a_training_that_diverges_is_named_with_its_section():
    refuse_infinite([{"loss": 1.0}], "teacher")
    with pytest.raises(InputError, match=r"teacher\.training: the loss is not finite at step 1: loss=nan"):
        refuse_infinite([{"loss": 1.0}, {"loss": float("nan")}], "teacher")


def test_the_embedded_teacher_comes_back_bit_for_bit(tmp_path, clip):
    """Checks may refuse, and never change a number."""
    torch.manual_seed(1)
    model = CLIP(**EMBEDDED)
    save_clip(tmp_path / "teacher.pt", model, "embedded", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    loaded = load_clip(tmp_path / "teacher.pt")[0].state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
