"""Requests to stop: a cluster's pre-emption, or the end of a job's time."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that ask a run to save its state and stop."""
RETRY = 75
"""Exit code of a run that was asked to stop: EX_TEMPFAIL of sysexits.h, "the user is invited to retry"."""


@contextmanager
def noticing() -> Iterator[list[signal.Signals]]:
    """Note the signals of `SIGNALS` while the body runs; yields the list of those that came."""
    came: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield came  # only the main thread is told of signals
        return
    before = {
        number: signal.signal(number, lambda number, _: came.append(signal.Signals(number)))
        for number in SIGNALS
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore(_worker: int = 0) -> None:
    """Ignore the signals in a loader process: a signal to a whole group of processes is the run's to answer.

    They end when their loader is closed or their parent is gone, and by SIGKILL; not by torch's SIGTERM.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def stop(what: str, came: signal.Signals, steps: int, total: int) -> NoReturn:
    """End the process with the code `RETRY`; its state after `steps` of `total` steps is saved."""
    print(
        f"{what}: stopped by {came.name} after step {steps} of {total}, which is saved; started again, it "
        f"continues there (exit code {RETRY})",
        file=sys.stderr,
        flush=True,
    )
    raise SystemExit(RETRY)
