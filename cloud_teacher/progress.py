"""How a long computation tells a person or a program how far it is.

Everything that takes long accepts a `Report` and calls it as it goes; where that ends up is decided once, here: a bar
on a terminal, a plain line every few seconds elsewhere, JSON lines for a program.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

PLAIN_EVERY_S = 3.0
BAR_EVERY_S = 0.1
BAR_WIDTH = 28


class Report(Protocol):
    """`done` of `total` units of `stage` are finished; `done == total` is always shown."""

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None: ...


def silent(stage: str, done: int, total: int, detail: str = "") -> None:
    """A Report that tells nobody."""


def json_lines(stream: TextIO) -> Report:
    """One object a call: {"stage", "done", "total", "detail"}."""

    def report(stage: str, done: int, total: int, detail: str = "") -> None:
        line = json.dumps({"stage": stage, "done": done, "total": total, "detail": detail})
        print(line, file=stream, flush=True)

    return report


def for_person(stream: TextIO, clock: Callable[[], float] = time.monotonic) -> Report:
    """A bar where `stream` is a terminal, lines a few seconds apart where it is not; both with the time left."""
    bar = stream.isatty()
    every_s = BAR_EVERY_S if bar else PLAIN_EVERY_S
    started: dict[str, tuple[float, int]] = {}
    shown_at = float("-inf")
    shown_width = 0

    def report(stage: str, done: int, total: int, detail: str = "") -> None:
        nonlocal shown_at, shown_width
        now = clock()
        first = stage not in started
        # Work restored from a checkpoint took no time now, so the speed counts from the first call on.
        started_at, started_done = started.setdefault(stage, (now, done))
        last = done >= total
        if not (first or last) and now - shown_at < every_s:
            return
        shown_at = now
        left = _left(now - started_at, done - started_done, total - done)
        if bar:
            filled = BAR_WIDTH * done // max(total, 1)
            text = f"{stage} [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done}/{total} {left} {detail}".rstrip()
            stream.write("\r" + text.ljust(shown_width) + ("\n" if last else ""))
            shown_width = 0 if last else len(text)
        else:
            stream.write(f"{stage}: {done}/{total} {left} {detail}".rstrip() + "\n")
        stream.flush()
        if last:
            started.pop(stage)

    return report


def _left(elapsed_s: float, done: int, remaining: int) -> str:
    if remaining <= 0:
        return f"in {elapsed_s:.1f} s"
    if done <= 0 or elapsed_s <= 0:
        return ""
    left_s = int(elapsed_s / done * remaining + 0.5)
    return f"about {left_s // 60}:{left_s % 60:02d} left"


def standard(json_progress: bool) -> Report:
    """JSON lines on standard output, or for a person on standard error."""
    return json_lines(sys.stdout) if json_progress else for_person(sys.stderr)
