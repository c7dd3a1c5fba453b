"""Compute the golden numbers of runnanchen/CLIP2Scene's SPVCNN. Needs torchsparse 1.4.0.

python tests/golden/make_spvcnn.py CLIP2SCENE
"""

import tempfile
from pathlib import Path

import torch
import torchsparse
from deterministic import draw, street, weight
from official import arguments, bare_package, describe, fill, save, statistics

(root,) = arguments(__doc__, clip2scene="f37dae7")
bare_package("model", root / "model")
assert torchsparse.__version__ == "1.4.0", torchsparse.__version__

from model.spvcnn import SPVCNN  # noqa: E402

CLASSES = 16
HEADS = "text_embeddings", "classifier", "point_mapping"
coordinates = street(clouds=2, n=500)
features = draw("features", len(coordinates), 1)
# On a CPU, torchsparse 1.4.0 searches the neighbours of every voxel in the first voxel's cloud
# (backend/hash/hash_cpu.cpp: ``cur_coord[3] = data[3]``). So both clouds are placed far apart in one cloud.
side_by_side = torch.cat([coordinates[:, 1:], torch.zeros_like(coordinates[:, :1])], dim=1)
side_by_side[:, 0] += 1024 * coordinates[:, 0]

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "text.pth"
    torch.save(weight("text", (CLASSES, 512)), path)
    config = {"text_embeddings_path": path, "text_categories": CLASSES, "mode": "source_free"}
    network = SPVCNN(1, 64, config)
fill(network, without="text_embeddings")
kept = {}
network.point_mapping_global.register_forward_hook(lambda _, inputs, output: kept.update(trunk=inputs[0]))


@torch.no_grad()
def run(training: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features [V, 480] and scores [V, 1 + classes] of the voxels, float32."""
    network.train(training)
    scores = network(torchsparse.SparseTensor(features, side_by_side))
    return kept["trunk"], scores


evaluated, scores = run(training=False)
trained, _ = run(training=True)
save(
    "spvcnn",
    **describe(network, HEADS),
    evaluated=evaluated[::50],
    scores=scores[::5],
    trained=trained[::50],
    **statistics(network),
)
