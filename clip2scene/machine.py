"""What a job takes of the machine it runs on: its memory, and one GPU."""

import ctypes
import fcntl
import os
import sys
import tempfile
from pathlib import Path

from clip2scene.config import Config
from clip2scene.errors import InputError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST = 32 * 2**20  # bytes: glibc's limit for M_MMAP_THRESHOLD on 64 bits
_leases: list[int] = []  # open lock files: the system lets go of them when the process ends, however it ends


def keep_freed_memory() -> None:
    """Have glibc keep what is freed instead of giving it back to the system; elsewhere, do nothing.

    A training step frees and takes hundreds of tensors of a few MiB. Given back, their pages are faulted in
    and zeroed again at every step: up to 800,000 faults in 5 s, a gather and matrix product four times
    slower, a pre-training step a fifth. What is too large to be kept is to come in huge pages, for which
    torch asks if this variable is set before its first tensor (c10/core/impl/alloc_cpu.cpp): inference of a
    million voxels takes 0.7 of the time.
    """
    if sys.platform == "linux":
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has none
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**30)


def lease_gpu(config: Config, devices: Path = Path("/dev"), locks: Path | None = None) -> None:
    """Take a GPU of this machine that no other job has, for as long as this process lives.

    Snakemake counts GPUs but does not say which one is whose. SLURM and torchrun do, in
    ``CUDA_VISIBLE_DEVICES`` and ``LOCAL_RANK``; then nothing is done. Call it before torch looks for GPUs.

    Args:
        config: Its `device` says whether a GPU is wanted.
        devices: Folder of ``nvidia0``, ``nvidia1``, ...
        locks: Folder of the lock files, shared by the machine's jobs; the system's temporary folder if None.

    Raises:
        InputError: every GPU is taken.
    """
    gpus = sorted(int(path.name[6:]) for path in devices.glob("nvidia[0-9]*"))
    if (
        config.device == "cpu"
        or not gpus
        or _leases
        or {"CUDA_VISIBLE_DEVICES", "LOCAL_RANK"} & os.environ.keys()
    ):
        return
    for gpu in gpus:
        path = (locks or Path(tempfile.gettempdir())) / f"clip2scene-gpu-{gpu}.lock"
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _leases.append(lock)
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
        return
    raise InputError(
        f"device: {config.device}: all {len(gpus)} GPUs of this machine are taken by other jobs; expected "
        "one free (profiles/default/config.yaml, resources: gpu, is how many jobs may ask for one at a time)"
    )
