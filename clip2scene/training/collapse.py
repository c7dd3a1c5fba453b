"""Recognise, from what a run logs, that it is failing."""

import sys
from collections import deque

WINDOW = 20
"""Logged steps whose mean loss is compared: 2 % of a long run, which logs about 1,000."""


class Collapse:
    """Says so, in one line, when the loss or the validation's mIoU of a run collapses.

    The loss has collapsed when its mean over the last `WINDOW` logged steps is above that of the first ones
    and more than twice the lowest one so far. The mIoU has when it is less than half of the best so far. Each
    is said once, until it has recovered.

    Args:
        name: Name of the run, for the line.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._first = self._lowest = self._best = None
        self._said: set[str] = set()

    def add(self, line: dict[str, float], tell: bool = True) -> None:
        """Take the next logged step into account; `tell` is False for those that another process logged."""
        step = int(line["step"])
        self._losses.append(line["loss"])
        if len(self._losses) == WINDOW:
            mean = sum(self._losses) / WINDOW
            self._first = mean if self._first is None else self._first
            self._lowest = mean if self._lowest is None else min(self._lowest, mean)
            failing = mean > self._first and mean > 2 * self._lowest
            found = f"its mean is {mean:.4g}, after {self._first:.4g} at first and {self._lowest:.4g} at best"
            self._judge("loss", failing, f"the loss has risen by step {step}: {found}", tell)
        if (miou := line.get("validation_miou")) is not None:
            self._best = miou if self._best is None else max(self._best, miou)
            found = f"{100 * miou:.1f} %, after {100 * self._best:.1f} % at best"
            self._judge("mIoU", miou < self._best / 2, f"the mIoU has fallen at step {step}: {found}", tell)

    def _judge(self, what: str, failing: bool, found: str, tell: bool) -> None:
        if failing and what not in self._said and tell:
            print(f"warning: {self._name}: {found}", file=sys.stderr, flush=True)
        (self._said.add if failing else self._said.discard)(what)
