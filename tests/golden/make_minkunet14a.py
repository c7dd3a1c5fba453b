"""Compute the golden numbers of runnanchen/CLIP2Scene's MinkUNet14A. Needs MinkowskiEngine 0.5.4.

python tests/golden/make_minkunet14a.py CLIP2SCENE
"""

import collections
import collections.abc
import tempfile
from pathlib import Path

import torch
from deterministic import draw, street, weight
from official import arguments, bare_package, describe, fill, save, statistics

(root,) = arguments(__doc__, clip2scene="f37dae7")
bare_package("model", root / "model")
collections.Sequence = collections.abc.Sequence  # MinkowskiEngine uses this alias, which Python 3.10 removed

import MinkowskiEngine as ME  # noqa: E402
from model.minkunet import MinkUNet14A  # noqa: E402

assert ME.__version__ == "0.5.4", ME.__version__

CLASSES = 20
HEADS = "text_embeddings", "final", "local_feature", "classifier"
coordinates = street(clouds=2, n=500)
features = draw("colours", len(coordinates), 3).double().requires_grad_()

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "text.pth"
    torch.save(weight("text", (CLASSES, 512)), path)
    config = {
        "text_embeddings_path": path,
        "text_categories": CLASSES,
        "mode": "source_free",
        "normalize_features": False,
        "bn_momentum": 0.05,
        "kernel_size": 3,
    }
    network = MinkUNet14A(3, 512, config)
fill(network, without="text_embeddings")
network.double()  # in float32, rounding moves values across ReLU kinks, where gradients jump
kept = {}
network.final.register_forward_hook(lambda _, inputs, output: kept.update(trunk=inputs[0]))


def run(training: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features [V, 96] and scores [V, 1 + classes] of the voxels, float64."""
    network.train(training)
    scores = network(ME.SparseTensor(features, coordinates=coordinates))
    assert torch.equal(kept["trunk"].C, coordinates)  # in the given order
    return kept["trunk"].F, scores


evaluated, scores = run(training=False)
trained, _ = run(training=True)
(trained * draw("upstream", *trained.shape)).sum().backward()
numbers = describe(network, HEADS)
gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
save(
    "minkunet14a",
    **numbers,
    evaluated=evaluated[::50],
    scores=scores[::5],
    trained=trained[::50],
    gradient=features.grad,
    gradient_norms=torch.stack([gradients[n].norm() for n in numbers["names"] if n in gradients]),
    **statistics(network),
)
