"""Resources that a study needs, beside those that the machine has."""

import os
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path

from clip2scene.config import Config
from clip2scene.machine import PREFETCHED, SHARED
from clip2scene.planning.costs import Kind, Need, RunCost

STATES = 3
"""States of a training on the disk at a time: the newest, the one before, and one that is being written."""


def needs(config: Config, kinds: Mapping[str, Kind], runs: Mapping[str, RunCost]) -> list[Need]:
    """Return disk, memory, GPU memory, shared memory and open files, each as needed and as available.

    Args:
        config: The configuration.
        kinds: What was measured.
        runs: Every run's cost.
    """
    measured = list(kinds.values())
    trained = max((kind.bytes for kind in measured if kind.unit == "step"), default=0)
    disk = sum(run.bytes for run in runs.values()) + 2 * STATES * trained  # weights and their momentum
    found = [
        Need(what="disk", needed=disk / 2**30, available=_free(config.results) / 2**30, unit="GiB"),
        Need(
            what="memory",
            needed=max(kind.memory_mib for kind in measured) / 2**10,
            available=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
            unit="GiB",
        ),
    ]
    if gpu := max(kind.gpu_memory_mib for kind in measured):
        import torch

        there = torch.cuda.get_device_properties(0).total_memory / 2**30
        found.append(Need(what="GPU memory", needed=gpu / 2**10, available=there, unit="GiB"))
    if config.workers and SHARED.is_dir():
        batches = PREFETCHED * config.workers + 1
        shared = batches * max(kind.batch_mib for kind in measured) / 2**10
        there = shutil.disk_usage(SHARED).free / 2**30
        found.append(Need(what=str(SHARED), needed=shared, available=there, unit="GiB"))
    files = max(kind.open_files for kind in measured)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    found.append(Need(what="open files", needed=files, available=limit, unit="files"))
    return found


def _free(folder: Path) -> int:
    """Return the free bytes of the disk that a folder will be on."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free
