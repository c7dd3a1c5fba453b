"""The same bytes whatever the processor has and the environment says, with one and with more threads."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "OPENBLAS_CORETYPE": "Nehalem",
}
"""Variables that a user may have set, to what an old processor would choose.

All but oneDNN's and MKL's are pinned."""
NARROW = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+movbe,+popcnt,+sse4.2",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Numba's code, and with it our kernels, and glibc without AVX-512."""
FREE = {
    "MKL_CBWR": "AUTO",
    "ATEN_CPU_CAPABILITY": "avx512",
    "OPENBLAS_NUM_THREADS": "4",
    "OMP_NUM_THREADS": "3",
}
"""As much as the processor has."""


def primitives(folder: Path, threads: int, environment: dict[str, str], *prefix: str) -> dict[str, str]:
    command = [*prefix, sys.executable, str(HERE / "primitives.py"), str(threads)]
    variables = os.environ | environment | {"NUMBA_CACHE_DIR": str(folder)}
    result = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return primitives(tmp_path_factory.mktemp("numba"), 1, {})


@pytest.mark.parametrize("environment", [OLD, NARROW, FREE], ids=["old", "narrow", "free"])
def test_neither_environment_nor_threads_change_a_byte(expected, tmp_path, environment):
    assert primitives(tmp_path, 2, environment) == expected


@pytest.mark.skipif(
    not shutil.which("qemu-x86_64"), reason="qemu-x86_64 (QEMU's user mode) cannot be run here"
)
@pytest.mark.parametrize("processor", ["Haswell-v4", "EPYC"])
def test_another_maker_changes_no_byte(expected, tmp_path, processor):
    """An emulated Intel and an emulated AMD, neither with AVX-512, with their own caches."""
    found = primitives(tmp_path, 1, {"PRIMITIVES_EMULATED": "1"}, "qemu-x86_64", "-cpu", processor)
    assert len(expected) - len(found) == 3  # which the emulator computes wrongly
    assert found.items() <= expected.items()


def study(folder: Path, threads: int, environment: dict[str, str]) -> dict[str, str]:
    """Compute every stage of a small study; return the hash of each file that holds no times or places."""
    folder.mkdir()
    text = (HERE / "study/config.yaml").read_text()
    (folder / "config.yaml").write_text(f"{text}threads: {threads}\n")
    shutil.copy(HERE / "study/rows.tsv", folder)
    shutil.copytree(HERE.parents[1] / "results/published", folder / "results/published")
    command = [sys.executable, "-m", "clip2scene", "--config", "config.yaml"]
    variables = os.environ | environment | {"NUMBA_CACHE_DIR": str(folder / "numba")}
    for step in (["run", "main"], ["table", "main"]):
        result = subprocess.run([*command, *step], cwd=folder, env=variables, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-3000:]
    made = [
        *folder.glob("data/**/*"),
        *folder.glob("results/runs/*/*"),
        *folder.glob("results/table_per*.csv"),
    ]
    kept = (
        path for path in made if path.is_file() and not path.name.startswith((".", "metrics", "run.json"))
    )
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


@pytest.mark.workflow
def test_every_stage_makes_the_same_bytes(tmp_path):
    """Data, index, superpixels, teacher, encoder, texts, checkpoints, predictions and the table."""
    expected = study(tmp_path / "one", 1, {})
    names = {Path(name).name for name in expected}
    assert {"checkpoint.pt", "text.pt", "confusion.npz", "superpixels.arrow", "table_per_class.csv"} <= names
    assert study(tmp_path / "two", 2, OLD | NARROW) == expected
