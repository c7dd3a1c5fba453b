"""Allocation of memory in huge pages, and exclusive use of GPUs by jobs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from clip2scene import machine
from clip2scene.config import Config
from clip2scene.errors import InputError

CONFIG = Config(datasets={"any": {"root": "data"}})
NOBODY = 65534
HOLD = """
import os
import sys
from pathlib import Path
from clip2scene.config import Config
from clip2scene.machine import lease_gpu
lease_gpu(Config(datasets={"any": {"root": "data"}}), Path(sys.argv[1]), Path(sys.argv[-1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


TAKE_AND_FREE = """
import resource
import sys
from clip2scene.machine import keep_freed_memory
keep_freed_memory(len(sys.argv) > 1)
import torch
torch.ones(5 * 2**20), torch.ones(20 * 2**20)
faults = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
for _ in range(10):
    torch.ones(5 * 2**20), torch.ones(20 * 2**20)  # 20 MiB, which glibc keeps, and 80, which it does not
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(*(after - before for before, after in zip(faults, faults[1:])))
"""


def faults_of_ten_turns(*arguments: str) -> list[int]:
    """Return the page faults of each turn of `TAKE_AND_FREE`; 25,600 with one fault per page."""
    command = [sys.executable, "-c", TAKE_AND_FREE, *arguments]
    turns = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    assert len(turns) == 10
    return [int(turn) for turn in turns]


def test_tensors_come_without_faulting_in_every_page():
    huge_pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not huge_pages.is_file() or "[never]" in huge_pages.read_text():
        pytest.skip("this system has no transparent huge pages")
    assert sum(faults_of_ten_turns()) < 0.25 * 10 * 100 * 2**20 / 4096


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_a_training_keeps_tensors_of_every_size():
    """Tensors are aligned, so some turns take pages all the same; the heap's start decides how many."""
    kept, taken = faults_of_ten_turns("of every size"), faults_of_ten_turns()
    assert min(kept) < 10
    assert min(taken) > 20  # 40 huge pages
    assert sum(kept) < 0.75 * sum(taken)


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """Simulate a machine with two GPUs."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores its old value
        monkeypatch.delenv(name)
    monkeypatch.setattr(machine, "_leases", [])
    yield tmp_path
    for lock in machine._leases:
        os.close(lock)


def only(devices: Path, *numbers: int) -> None:
    """Leave these device nodes alone in the folder, as in a container that was given some GPUs."""
    for node in machine.gpu_nodes(devices):
        node.unlink()
    for number in numbers:
        (devices / f"nvidia{number}").touch()


def other_job(devices) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(devices)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def refused(devices: Path, locks: Path) -> str:
    """Return what another job says that finds no free GPU."""
    command = [sys.executable, "-c", HOLD, str(devices), str(locks)]
    kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    job = subprocess.run(
        command, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert job.returncode == 1
    return job.stderr


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


def test_the_only_gpu_of_a_container_is_device_0(devices):
    """Its node is nvidia3: the lock has this number, by which all jobs of the machine know the GPU."""
    only(devices, 3)
    machine.lease_gpu(CONFIG, devices, devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"  # as the nodes are numbered
    assert [path.name for path in devices.glob("*.lock")] == ["clip2scene-gpu-3.lock"]
    assert "all 1 GPUs of this machine are taken" in refused(devices, devices)


def test_nodes_of_any_numbers_are_devices_0_and_1(devices):
    only(devices, 5, 2)
    jobs = [other_job(devices)]
    found = [jobs[0].stdout.readline().strip()]
    assert [path.name for path in devices.glob("*.lock")] == ["clip2scene-gpu-2.lock"]
    jobs.append(other_job(devices))
    found.append(jobs[1].stdout.readline().strip())
    for job in jobs:
        job.kill()
        job.communicate()
    assert found == ["0", "1"]
    assert {path.name for path in devices.glob("*.lock")} == {f"clip2scene-gpu-{n}.lock" for n in (2, 5)}


def test_nodes_are_in_the_order_of_their_numbers(devices):
    only(devices, 10, 9, 2)
    (devices / "nvidia-caps").mkdir()
    assert [node.name for node in machine.gpu_nodes(devices)] == ["nvidia2", "nvidia9", "nvidia10"]


@pytest.fixture
def locks():
    """A folder that every user may write into, as /tmp."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


def test_the_lock_file_of_another_user_can_be_locked(devices, locks):
    """It can only be read. Root may write everything, so a root process takes another user's rights."""
    lock = locks / "clip2scene-gpu-0.lock"
    lock.touch(0o444)
    lock.chmod(0o444)
    nodes = locks / "dev"  # pytest's folder is closed to other users
    nodes.mkdir(0o755)
    (nodes / "nvidia0").touch()
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(NOBODY)
        with pytest.raises(PermissionError):
            lock.open("a")
        machine.lease_gpu(CONFIG, nodes, locks)
    finally:
        os.seteuid(user)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert "all 1 GPUs of this machine are taken" in refused(nodes, locks)
