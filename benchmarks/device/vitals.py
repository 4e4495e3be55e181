"""What a long-lived process holds at one moment, as the kernel counts it, and whether that stays flat."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True)
class Vitals:
    """`anonymous_mib`: of the resident memory what is in no file, where leaks are. `disk_mib`: of its state folder."""

    at_s: float
    rss_mib: float
    pss_mib: float
    anonymous_mib: float
    fds: int
    threads: int
    disk_mib: float


def vitals(pid: int, folder: Path, at_s: float) -> Vitals:
    """Raises OSError where there is no such process."""
    proc = Path("/proc") / str(pid)
    memory = _fields((proc / "smaps_rollup").read_text())
    status = _fields((proc / "status").read_text())
    return Vitals(
        at_s=at_s,
        rss_mib=memory["Rss"] / 1024,
        pss_mib=memory["Pss"] / 1024,
        anonymous_mib=memory["Anonymous"] / 1024,
        fds=len(os.listdir(proc / "fd")),
        threads=status["Threads"],
        disk_mib=size_bytes(folder) / MIB,
    )


def _fields(text: str) -> dict[str, int]:
    """The numbers of "Name:   123 kB" lines."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            found[name] = int(number[0])
    return found


def size_bytes(folder: Path) -> int:
    """Of all files in it; what disappears meanwhile is nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:
            continue
    return total


def growth(values: Sequence[float]) -> float:
    """What the last quarter lies above the second: medians, so that neither the start nor a single peak counts."""
    quarter = len(values) // 4
    if not quarter:
        return 0.0
    return statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter])


def slope_per_hour(times_s: Sequence[float], values: Sequence[float]) -> float:
    """By the least squares of all but the first quarter, where a process fills what it keeps."""
    start = len(values) // 4
    times, rest = times_s[start:], values[start:]
    if len(rest) < 2 or times[0] == times[-1]:
        return 0.0
    return 3600 * statistics.linear_regression(times, rest).slope
