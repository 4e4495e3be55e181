"""How long a training took, however often it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cloud_teacher.progress import Report
from transfer.durable import write_atomic
from transfer.networks import Network


class Stopwatch:
    """Counts the seconds of one `stage` as a training reports it; whatever is done before and between is not counted.

    Give `report` to the training as its Report and `keep` as its after_epoch: what was counted is kept in `path`
    together with the training's checkpoint, so that a resumed training counts on.
    """

    def __init__(self, path: Path, stage: str, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._stage, self._report, self._clock = path, stage, report, clock
        self._last: float | None = None
        self.seconds = _read(path)

    def report(self, stage: str, done: int, total: int, detail: str = "") -> None:
        now = self._clock()
        if stage == self._stage and self._last is not None:
            self.seconds += now - self._last
        self._last = now if stage == self._stage else None
        self._report(stage, done, total, detail)

    def keep(self, epochs: int, net: Network) -> None:
        """After an epoch, whose checkpoint has just been written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path, repr(self.seconds).encode())


def _read(path: Path) -> float:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0.0
