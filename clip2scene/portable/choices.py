"""The processor and what libraries make of it, for ``run.json``: so a difference can be traced.

Nothing of it is part of a run's identity. Imports no torch.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

_VECTORS = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512", "amx", "asimd", "sve")
"""Starts of the names of vector instructions in /proc/cpuinfo."""
_VARIABLES = ("ATEN_", "MKL_", "NPY_", "NUMBA_", "OMP_", "ONEDNN_", "OPENBLAS_", "GLIBC_TUNABLES")
"""Starts of the names of variables that libraries look at."""


def choices() -> dict[str, Any]:
    """Return the processor and the choices of the libraries that are loaded, as JSON values."""
    return {"processor": processor(), "libraries": libraries()}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Return the processor's maker, model, vector instructions and cores."""
    found = {"vendor_id": "", "model name": platform.processor(), "flags": "", "Features": ""}
    if cpuinfo.is_file():
        pairs = (line.partition(":") for line in cpuinfo.read_text().split("\n\n")[0].splitlines())
        found |= {name.strip(): value.strip() for name, _, value in pairs}
    flags = (found["flags"] or found["Features"]).split()
    return {
        "maker": found["vendor_id"],
        "model": found["model name"],
        "vectors": [flag for flag in flags if flag.startswith(_VECTORS)],
        "cores": os.cpu_count(),
    }


def libraries() -> dict[str, Any]:
    """Return what loaded libraries chose, and the variables that told them."""
    values: dict[str, Any] = {
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_VARIABLES)},
        "pools": [_without_path(pool) for pool in threadpool_info()],
    }
    if numpy := sys.modules.get("numpy"):
        features = numpy.core._multiarray_umath.__cpu_features__
        values["numpy"] = sorted(name for name, used in features.items() if used)
    if torch := sys.modules.get("torch"):
        values["torch"] = torch.backends.cpu.get_cpu_capability()
        values["torch_config"] = torch.__config__.show().splitlines()
        values["torch_threads"] = torch.get_num_threads()
    if registers := sys.modules.get("clip2scene.portable.registers"):
        values["kernels"] = {"lanes": registers.WIDE.lanes, "threads": registers.n_threads()}
    return values


def _without_path(pool: dict[str, Any]) -> dict[str, Any]:
    """Return a pool of threads without the place of its library, which says nothing on another machine."""
    return {name: value for name, value in pool.items() if name != "filepath"}
