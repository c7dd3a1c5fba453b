"""Time and memory that a cluster's job asks for, from what the pilot measured."""

import math
import sys
from collections.abc import Callable
from typing import Any

from clip2scene.errors import InputError
from clip2scene.planning.costs import Costs, plan_file
from clip2scene.workflow import Workflow

TIME, MEMORY = 1.5, 1.25
"""Factors over what was measured: nodes of a cluster differ, and share their disks."""
MINUTES, MIB = 15, 1000
"""Added to both: to start, and to save a state before the end."""


def planned(study: Workflow) -> dict[str, Callable[..., int]]:
    """Return the resources ``runtime`` (minutes) and ``mem_mb`` as functions of a rule's wildcards.

    Each attempt asks for as much memory again: a job that was killed for want of memory is retried with more.
    There are none without ``plan.json``, or if it is not this study's; then a profile's defaults hold.
    """
    path = plan_file(study.config)
    if not path.exists():
        return {}
    try:
        costs = Costs.read(path)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if unknown := sorted(study.runs.keys() - costs.runs.keys()):
        print(
            f"{path}: does not know {len(unknown)} of {len(study.runs)} runs, {unknown[0]} first: jobs ask "
            "for the profile's time and memory; expected a new `clip2scene pilot`",
            file=sys.stderr,
        )
        return {}

    def runtime(wildcards: Any) -> int:
        seconds = sum(costs.runs[key].seconds for key in study.keys(wildcards.job))
        part = getattr(wildcards, "scatteritem", "1-of-1")  # several machines may compute a run together
        return math.ceil(TIME * seconds / int(part.split("-of-")[1]) / 60) + MINUTES

    def mem_mb(wildcards: Any, attempt: int) -> int:
        kinds = (costs.kinds[costs.runs[key].kind] for key in study.keys(wildcards.job))
        return attempt * (math.ceil(MEMORY * costs.processes * max(kind.memory_mib for kind in kinds)) + MIB)

    return {"runtime": runtime, "mem_mb": mem_mb}
