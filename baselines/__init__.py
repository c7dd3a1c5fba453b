"""What CLIP2Scene is compared with: each one file behind the interface of `clip2scene.method.base`."""

from clip2scene.method.spec import MethodSpec

PPKT = MethodSpec("baselines.ppkt:PPKT", needs=frozenset({"images", "encoder"}))
SLIDR = MethodSpec("baselines.slidr:SLidR", needs=frozenset({"images", "superpixels", "encoder"}))
RANDOM = MethodSpec(None)  # random initialisation: fine-tuning with nothing to inherit
