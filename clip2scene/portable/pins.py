"""Environment that has NumPy, its BLAS and PyTorch compute as on a processor with AVX2, whatever it has more.

Libraries choose between versions of a function when they are loaded, and versions differ in the last digits.
So `pin` runs before anything else of this package, and what the environment held before does not count.
"""

import os
import platform
import sys
import warnings
from collections.abc import Mapping

from clip2scene.errors import InputError

PINS: Mapping[str, str] = {
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL "
    "AVX512_ICL",
    "OPENBLAS_CORETYPE": "Haswell",  # for NumPy's and SciPy's matrix products
    "OPENBLAS_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
}
"""Variables by name. What they leave out, products in PyTorch, is computed by our own kernels."""


def is_x86() -> bool:
    """Say whether this is a processor of the kind that the pins are for."""
    return platform.machine().lower() in ("x86_64", "amd64")


def pin() -> None:
    """Set the environment of this process and of those that it starts."""
    if is_x86():
        os.environ.update(PINS)
        # NumPy warns where the processor does not have what it is not to use
        warnings.filterwarnings("ignore", ".*NPY_DISABLE_CPU_FEATURES", ImportWarning)


def deviations() -> list[str]:
    """Return what the libraries that are loaded do other than they should, in words; nothing if all is well.

    They do if they were imported before this package, or if the processor has no AVX2 and FMA.
    """
    if not is_x86():
        return []
    found = []
    if numpy := sys.modules.get("numpy"):
        features = numpy.core._multiarray_umath.__cpu_features__
        found += [f"NumPy uses {name}" for name in PINS["NPY_DISABLE_CPU_FEATURES"].split() if features[name]]
        found += [f"the processor has no {name}" for name in ("AVX2", "FMA3") if not features[name]]
    if (torch := sys.modules.get("torch")) and hasattr(torch.backends, "cpu"):
        capability = torch.backends.cpu.get_cpu_capability()
        found += [f"PyTorch uses {capability}"] if capability != "AVX2" else []
    return found


def refuse_deviations() -> None:
    """Raise an InputError if results would not be the same as on other processors."""
    if found := deviations():
        raise InputError(
            f"arithmetic: portable: {', '.join(found)}; expected a processor with AVX2 and FMA, and "
            "`import clip2scene` before NumPy and PyTorch are imported, or arithmetic: native"
        )
