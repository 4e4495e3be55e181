"""Gives memory back to the system: what a start or a round has used. The daemon runs for months beside others."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h>
_MADV_DONTNEED = 4  # <sys/mman.h>
_LARGE_BYTES = 128 * 1024
_PROGRAM = os.path.realpath(sys.executable)


def one_heap() -> None:
    """Keep all threads on one heap, for their arenas would each hold what was freed in them, and large blocks out of
    it: glibc puts them in, too, once it has seen such a block freed, and what they leave are holes. Call before any
    thread starts.

    glibc only; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def settle() -> None:
    """Call once when all is loaded that stays: the garbage collector is not to go through it again and again, which
    would cost time, and what only the start needed is not to stay."""
    gc.collect()
    gc.freeze()
    give_back()
    give_back_code()


def give_back() -> None:
    """Return what is free to the system, after work that needed much for a moment."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back_code() -> None:
    """Return the pages of code, and what is left is soon what the daemon is using: a start or a round runs much that
    is not run again for days. Takes some 10 ms.

    They are only unmapped, and stay in the kernel's cache, whence the next use brings them back, unless the kernel has
    taken them for somebody else by then.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        with Path("/proc/self/smaps").open(encoding="utf-8", errors="replace") as smaps:
            for start, length in unchanged_code(smaps):
                libc.madvise(start, length, _MADV_DONTNEED)


def unchanged_code(smaps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Address and length of the read-only parts of libraries of which no page was changed, from /proc/PID/smaps.

    Libraries (and the interpreter) alone, for nothing unloads them: anything else could give way to another mapping
    while this is read. And only what is as in its file: a page that the loader has adjusted (or that was swapped out
    since) cannot be read again from there.
    """
    place, changed_kib = "", 0
    for line in smaps:
        name, *values = line.split(maxsplit=5)
        if not name.endswith(":"):  # 7f00-7f10 r-xp 00001000 fe:00 4711  /usr/lib/libz.so.1
            path = values[4].strip() if len(values) == 5 else ""
            code = ".so" in path.rpartition("/")[2] or path == _PROGRAM
            place, changed_kib = name if code and values[0].startswith("r-") else "", 0
        elif name in ("Anonymous:", "Swap:"):
            changed_kib += int(values[0])
        elif name == "VmFlags:" and place and not changed_kib:  # the last line of a mapping
            first, _, end = place.partition("-")
            yield int(first, 16), int(end, 16) - int(first, 16)
