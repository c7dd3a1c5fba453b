"""Resources that a job takes of its machine: memory, worker processes, and one GPU."""

import ctypes
import fcntl
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

from clip2scene.config import Config
from clip2scene.errors import InputError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
_LARGEST = 32 * 2**20  # bytes: glibc's limit for M_MMAP_THRESHOLD on 64 bits
SHARED = Path("/dev/shm")
"""Folder in which Linux shows its shared memory as files."""
ENOUGH = 4 * 2**30
"""Free shared memory that is not looked into further, bytes."""
PREFETCHED = 2
"""Batches that torch's loader workers keep ready, each."""
_leases: list[int] = []  # open lock files: the system lets go of them when the process ends, however it ends


def keep_freed_memory(of_every_size: bool = False) -> None:
    """Have glibc keep freed memory instead of returning it to the system; elsewhere, do nothing.

    A training step allocates and frees hundreds of tensors of a few MiB. If they are returned, their pages
    are faulted in and zeroed again at every step: up to 800,000 faults in 5 s, a gather and matrix product
    four times slower, a pre-training step a fifth slower. Ask for huge pages for allocations above glibc's
    limit for reuse: torch does so if this variable is set before its first tensor
    (c10/core/impl/alloc_cpu.cpp), and inference of a million voxels takes 0.7 of the time.

    Args:
        of_every_size: Keep tensors above that limit as well. A training step asks for the same sizes again
            and again: it takes 0.85 to 0.9 of the time, for a tenth or two more memory. Inference would
            take a third more.
    """
    if sys.platform == "linux":
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has none
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**30)
            if of_every_size:
                libc.mallopt(_M_MMAP_MAX, 0)


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """Return a pool of worker processes that end when this process does, even if it is killed.

    They are not forked from this process: forking while libraries run threads can hang.
    """
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this worker as soon as its parent is gone; it would otherwise wait for work for ever."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def refuse_small_shared_memory(workers: int, size: Callable[[], int], folder: Path = SHARED) -> None:
    """Raise an InputError if the system's shared memory cannot hold what loader workers hand over.

    Workers would be killed by a bus error, or wait for ever. Containers often have 64 MiB.

    Args:
        workers: Number of loader processes.
        size: Function that returns the bytes of a batch; called only where shared memory is small.
        folder: Where the system shows its shared memory.
    """
    if not workers or not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    if free >= ENOUGH:
        return
    needed = (PREFETCHED * workers + 1) * size()  # every worker holds batches ready, one is in use
    if free < needed:
        raise InputError(
            f"workers: {workers} loader processes need {needed / 2**20:.0f} MiB of shared memory; {folder} "
            f"has {free / 2**20:.0f} MiB free; expected more (docker run --shm-size), or fewer workers "
            "(0 loads in the process itself)"
        )


def gpu_nodes(devices: Path = Path("/dev")) -> list[Path]:
    """Return the device nodes of this machine's NVIDIA GPUs, in the order in which CUDA numbers them.

    A container may hold ``/dev/nvidia3`` alone: that GPU is CUDA's device 0 there.
    """
    nodes = (path for path in devices.glob("nvidia[0-9]*") if path.name[6:].isdigit())
    return sorted(nodes, key=lambda path: int(path.name[6:]))


def lease_gpu(config: Config, devices: Path = Path("/dev"), locks: Path | None = None) -> None:
    """Take a GPU of this machine that no other job has, for as long as this process lives.

    Snakemake counts GPUs but does not hand them out. SLURM and torchrun do, in ``CUDA_VISIBLE_DEVICES`` and
    ``LOCAL_RANK``; then nothing is done. Call it before torch looks for GPUs.

    Args:
        config: Its `device` says whether a GPU is wanted.
        devices: Folder of the device nodes.
        locks: Folder of the lock files, one a node, shared by the machine's jobs; the system's temporary
            folder if None.

    Raises:
        InputError: every GPU is taken.
    """
    nodes = gpu_nodes(devices)
    if (
        config.device == "cpu"
        or not nodes
        or _leases
        or {"CUDA_VISIBLE_DEVICES", "LOCAL_RANK"} & os.environ.keys()
    ):
        return
    for number, node in enumerate(nodes):
        lock = _open((locks or Path(tempfile.gettempdir())) / f"clip2scene-gpu-{node.name[6:]}.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _leases.append(lock)
        # numbered as the nodes are, not the fastest first
        os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(number)}
        return
    raise InputError(
        f"device: {config.device}: all {len(nodes)} GPUs of this machine are taken by other jobs; expected "
        "one free (profiles/default/config.yaml, resources: gpu, is how many jobs may ask for one at a time)"
    )


def _open(path: Path) -> int:
    """Open a lock file, which may be another user's: a lock needs no permission to write."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
        with suppress(PermissionError):  # another user made it in this moment
            os.fchmod(lock, 0o644)  # whatever the umask: other users' jobs wait for this lock too
        return lock
    except PermissionError:  # another user's, made by a program that let nobody read it
        return _open(path.with_stem(f"{path.stem}-{os.getuid()}"))
