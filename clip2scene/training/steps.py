"""Runs on the CPU that write one checkpoint and return the metrics of their steps: teacher and encoder."""

from collections.abc import Callable

import pandas as pd

from clip2scene.portable.operators import begin
from clip2scene.task import Task


def run_on_cpu(task: Task, prepare: Callable[[], list[dict[str, float]]]) -> None:
    """Call `prepare`, which writes the run's checkpoint, and log the metrics that it returns.

    Args:
        task: The run.
        prepare: Returns the metrics of each step; none if nothing was trained.
    """
    begin(task.config)
    record = task.record
    record.begin(task.config, "cpu")
    record.rewind_log(0)
    steps = pd.DataFrame(prepare())
    for step, values in enumerate(steps.to_dict("records")):
        record.log({"step": step, **values})
    record.finish(steps.tail(max(1, len(steps) // 10)).mean().to_dict())
