"""The environment is pinned before libraries read it, and a process in which it was too late is refused."""

import json
import os
import subprocess
import sys

import pytest

from clip2scene.portable.choices import choices, processor
from clip2scene.portable.pins import PINS, deviations, is_x86

pytestmark = pytest.mark.skipif(not is_x86(), reason="the pins are for x86-64")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_this_process_is_pinned():
    assert deviations() == []
    assert all(os.environ[name] == value for name, value in PINS.items())


def test_what_the_environment_held_does_not_count():
    code = (
        "import clip2scene, numpy, torch, json\n"
        "from clip2scene.portable.choices import libraries\n"
        "print(json.dumps(libraries()))"
    )
    result = run(
        code, ATEN_CPU_CAPABILITY="default", NPY_DISABLE_CPU_FEATURES="AVX2", OPENBLAS_CORETYPE="Nehalem"
    )
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["torch"] == "AVX2"
    assert {"AVX2", "FMA3"} <= {*values["numpy"]}
    assert not {"AVX512F", "AVX512_SKX", "AVX512_ICL"} & {*values["numpy"]}
    (blas,) = (pool for pool in values["pools"] if pool["internal_api"] == "openblas")
    assert (blas["architecture"], blas["num_threads"]) == ("Haswell", 1)


def test_pytorch_that_came_first_is_named():
    code = (
        "import torch\n"
        "torch.backends.cpu.get_cpu_capability()\n"  # which it decides when it first needs it
        "from clip2scene.portable.pins import refuse_deviations\n"
        "try:\n"
        "    refuse_deviations()\n"
        "except ValueError as error:\n"
        "    print(error)"
    )
    line = run(code, ATEN_CPU_CAPABILITY="default", NPY_DISABLE_CPU_FEATURES="").stdout
    assert line.startswith("arithmetic: portable: ")
    assert "PyTorch uses DEFAULT" in line or "PyTorch uses NO AVX" in line
    assert "`import clip2scene` before NumPy and PyTorch are imported, or arithmetic: native" in line


def test_the_processor_is_named(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R)\n"
        "flags\t\t: fpu avx avx2 fma sse4_2\n\n"
        "processor\t: 1\nmodel name\t: another\n"
    )
    found = processor(path)
    assert (found["maker"], found["model"]) == ("GenuineIntel", "Intel(R) Xeon(R)")
    assert found["vectors"] == ["avx", "avx2", "fma", "sse4_2"]
    assert processor(tmp_path / "none")["vectors"] == []


def test_choices_say_nothing_of_where_libraries_lie():
    values = json.dumps(choices())
    assert "site-packages" not in values
    assert json.loads(values)["libraries"]["torch_config"]
