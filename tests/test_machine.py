"""Allocation of memory in huge pages, and exclusive use of GPUs by jobs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clip2scene import machine
from clip2scene.config import Config
from clip2scene.errors import InputError

CONFIG = Config(datasets={"any": {"root": "data"}})
HOLD = """
import os
import sys
from pathlib import Path
from clip2scene.config import Config
from clip2scene.machine import lease_gpu
lease_gpu(Config(datasets={"any": {"root": "data"}}), Path(sys.argv[1]), Path(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


TAKE_AND_FREE = """
import resource
from clip2scene.machine import keep_freed_memory
keep_freed_memory()
import torch
torch.ones(20 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(5 * 2**20), torch.ones(20 * 2**20)  # 20 MiB, which glibc keeps, and 80, which it does not
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_tensors_come_without_faulting_in_every_page():
    huge_pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not huge_pages.is_file() or "[never]" in huge_pages.read_text():
        pytest.skip("this system has no transparent huge pages")
    taken = subprocess.run([sys.executable, "-c", TAKE_AND_FREE], stdout=subprocess.PIPE, check=True)
    assert int(taken.stdout) < 0.25 * 10 * 100 * 2**20 / 4096  # 256,000 with one fault per page


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """Simulate a machine with two GPUs."""
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that monkeypatch restores its old value
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(machine, "_leases", [])
    yield tmp_path
    for lock in machine._leases:
        os.close(lock)


def other_job(devices) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(devices)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_jobs_never_share_a_gpu_and_leave_it_when_they_end(devices):
    jobs = [other_job(devices) for _ in range(2)]
    assert {job.stdout.readline().strip() for job in jobs} == {"0", "1"}
    with pytest.raises(InputError, match="all 2 GPUs of this machine are taken"):
        machine.lease_gpu(CONFIG, devices, devices)
    for job in jobs:
        job.kill()
        job.communicate()
    machine.lease_gpu(CONFIG, devices, devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_what_a_scheduler_gave_is_kept(devices, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    machine.lease_gpu(CONFIG, devices, devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert not machine._leases


def test_a_job_on_the_processor_takes_none(devices):
    machine.lease_gpu(CONFIG.model_copy(update={"device": "cpu"}), devices, devices)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
