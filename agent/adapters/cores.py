"""Keeps two threads on different cores for a while."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def apart(other: int | None) -> Iterator[None]:
    """Meanwhile this thread and the thread with the native id `other` do not share a core, where there are two.

    A kernel may wake a thread on the core where this one computes, though another core is idle; it then waits for a
    time slice (seen on a virtual machine; `python -m benchmarks swap` shows what is left of it). A lower priority for
    this thread would be wrong: it holds Python's lock now and then, and beside busy processes it would keep it.

    Threads started meanwhile inherit the restriction. Where there is one core, or no such system call, nothing happens.
    """
    mine = threading.get_native_id()
    before: dict[int, set[int]] = {}
    with contextlib.suppress(OSError, AttributeError):
        cores = sorted(os.sched_getaffinity(mine) & os.sched_getaffinity(other)) if other else []
        # Every second one, so that both get fast cores where there are fast and slow ones.
        if len(cores) > 1 and other is not None and other != mine:
            for thread, some in ((mine, cores[0::2]), (other, cores[1::2])):
                now = os.sched_getaffinity(thread)
                os.sched_setaffinity(thread, some)
                before[thread] = now
    try:
        yield
    finally:
        for thread, those in before.items():
            with contextlib.suppress(OSError):  # the other thread may have ended
                os.sched_setaffinity(thread, those)
