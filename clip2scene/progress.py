"""Progress of the whole workflow: a line a finished job, with the time that is left.

Snakemake counts the steps that are done and estimates no time; snakemake-logger-plugin-rich 0.5 gives no time
left either, and writes nothing to a log file while jobs run. These lines are the same in both.
"""

import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake.settings.enums import Quietness

EVENTS = ("run_info", "job_info", "job_finished", "job_error", "progress")
"""Events of Snakemake's log (snakemake_interface_logger_plugins.common.LogEvent) that progress is made of."""
REPEATED = ("job_started", "job_finished", "progress")
"""Events that a line of ours says too."""


class Progress(logging.Handler):
    """Handler of Snakemake's log that writes a line for each job that ends.

    The time left is the sum over rules of the jobs to come times the mean duration of the rule's finished
    jobs, divided by the mean number of jobs that ran at once. Until each rule has finished a job, it is a
    lower bound and says so.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        """Store where lines go.

        Args:
            write: Writes a line.
        """
        super().__init__()
        self._write = write
        self._planned: Counter[str] = Counter()
        self._running: dict[int, tuple[str, str, float]] = {}  # rule, message, start
        self._spent: defaultdict[str, list[float]] = defaultdict(list)  # seconds of finished jobs
        self._ended = ""
        self._began: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of an event; write a line if a job ended."""
        event = str(getattr(record, "event", ""))
        if event in EVENTS:
            getattr(self, f"_{event}")(record)

    def _run_info(self, record: logging.LogRecord) -> None:
        self._planned = Counter({rule: count for rule, count in record.stats.items() if rule != "total"})
        self._spent.clear()
        self._began = record.created

    def _job_info(self, record: logging.LogRecord) -> None:
        message = " ".join((record.rule_msg or record.rule_name).split()).partition(" (progress: ")[0]
        self._running[record.jobid] = (record.rule_name, message, record.created)

    def _job_finished(self, record: logging.LogRecord) -> None:
        rule, message, start = self._running.pop(record.job_id, ("", "", record.created))
        self._spent[rule].append(record.created - start)
        self._ended = f"{message} took {duration(record.created - start)}" if message else ""

    def _job_error(self, record: logging.LogRecord) -> None:
        _, message, _ = self._running.pop(record.jobid, ("", record.rule_name, 0.0))
        self._write(f"failed: {message}")
        for path in map(Path, record.log or ()):
            lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
            if said := next((line for line in reversed(lines) if line.strip()), ""):
                self._write(f"  {path}: {said.strip()}")

    def _progress(self, record: logging.LogRecord) -> None:
        if self._began is None:
            return
        words = [f"{record.done} of {record.total} steps", duration(record.created - self._began)]
        if left := self._left(record.created):
            words.append(left)
        self._write(f"[{', '.join(words)}] {self._ended}".rstrip())

    def _left(self, now: float) -> str:
        """Return the time left in words; nothing if all is done or nothing is known."""
        waiting = self._planned - Counter({rule: len(spent) for rule, spent in self._spent.items()})
        waiting.pop("all", None)
        if not waiting or not any(self._spent.values()):
            return ""
        means = {rule: sum(spent) / len(spent) for rule, spent in self._spent.items()}
        seconds = sum(count * means.get(rule, 0.0) for rule, count in waiting.items())
        so_far = [(means.get(rule, 0.0), now - start) for rule, _, start in self._running.values()]
        seconds -= sum(min(mean, spent) for mean, spent in so_far)
        busy = sum(map(sum, self._spent.values())) + sum(spent for _, spent in so_far)
        at_once = max(busy / max(now - self._began, 1e-9), 1.0)
        bound = "about" if waiting.keys() <= means.keys() else "more than"
        return f"{bound} {duration(seconds / at_once)} left"


def duration(seconds: float) -> str:
    """Return a duration in words: ``42 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def watch(quiet: Any) -> None:
    """Write progress to standard error as Snakemake runs.

    Args:
        quiet: What Snakemake is quiet about (its option ``--quiet``). If that is rules, it leaves out as well
            what these lines repeat. If it is everything, or progress, nothing is written.
    """
    quiet = quiet or ()
    if Quietness.ALL in quiet or Quietness.PROGRESS in quiet:
        return
    logger = logging.getLogger("snakemake.logging")
    if Quietness.RULES in quiet:
        for handler in logger.handlers:
            handler.addFilter(_is_said_once)
    logger.addHandler(Progress(lambda line: print(line, file=sys.stderr, flush=True)))


def _is_said_once(record: logging.LogRecord) -> bool:
    selecting = record.getMessage() == "Select jobs to execute..."
    return not (selecting or str(getattr(record, "event", "")) in REPEATED)
