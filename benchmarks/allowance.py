"""Work in pieces: where a machine is lent for minutes at a time, a benchmark ends by itself before it is taken away."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.cells import Stopped
from cloud_teacher.progress import Report


class Allowance:
    """A Report that raises Stopped between two epochs of a training where the next would probably end after `minutes`;
    anything else (asking the teacher) it stops at once when they are over. Nothing is lost: an epoch's checkpoint is
    there before the next is reported. The first epoch is always let through, so that every piece makes progress.
    """

    def __init__(self, minutes: float, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._clock = report, clock
        self._ends_s = clock() + 60 * minutes
        self._current: tuple[str, str] = ("", "")
        self._since_s = clock()
        self._longest_s: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        self._report(stage, done, total, detail)
        epoch = detail.partition(",")[0] if detail.startswith("epoch ") else ""
        now_s = self._clock()
        begins = (stage, epoch) != self._current
        if begins:
            before, of = self._current
            if of:
                self._longest_s[before] = max(self._longest_s.get(before, 0.0), now_s - self._since_s)
            self._current, self._since_s = (stage, epoch), now_s
        if epoch:
            needed_s = self._longest_s.get(stage, 0.0)
            over = begins and needed_s > 0 and now_s + needed_s > self._ends_s
        else:
            # What only begins may be finished already, or the start of a training.
            over = not begins and done < total and now_s > self._ends_s
        if over:
            raise Stopped
