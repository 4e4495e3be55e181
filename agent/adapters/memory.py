"""Gives memory back to the system: glibc keeps what a round has used, and the daemon runs for months beside others."""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8  # <malloc.h>


def one_arena() -> None:
    """Keep all threads on one heap: their arenas would each hold what was freed in them. Call before any thread starts.

    glibc only; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free to the system, after work that needed much for a moment."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
