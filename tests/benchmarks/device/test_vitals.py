"""Growth and slope of what a process holds, and what the kernel says it holds."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from benchmarks.device.vitals import growth, size_bytes, slope_per_hour, vitals


def test_what_is_filled_at_the_start_is_no_growth() -> None:
    assert growth([10, 20, 30, 40, 40, 40, 40, 40]) == 5  # 35 in the second quarter
    assert growth([0, 0, 0, 40, 40, 40, 40, 40, 40, 40, 40, 40, 41, 40, 40, 40]) == 0
    assert growth([1, 2, 3]) == 0


def test_a_leak_is_growth_and_a_peak_is_not() -> None:
    leaking = [10 + 0.1 * n for n in range(100)]
    assert growth(leaking) == pytest.approx(5.0)
    peaks = [10.0] * 100
    peaks[90] = 500.0
    assert growth(peaks) == 0


def test_the_slope_is_by_the_hour_and_after_the_start() -> None:
    times = [60.0 * n for n in range(100)]
    assert slope_per_hour(times, [5 + n / 60 for n in range(100)]) == pytest.approx(1.0)
    assert slope_per_hour(times, [n if n < 20 else 20.0 for n in range(100)]) == pytest.approx(0.0)
    assert slope_per_hour([1.0], [2.0]) == 0


def test_what_this_very_process_holds(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(bytes(3 * 2**20))
    before = vitals(os.getpid(), tmp_path, 1.0)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    # Of its own, for what the process has freed before may serve for a bytearray.
    ballast = mmap.mmap(-1, 20 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ballast.write(os.urandom(2**20) * 20)
    after = vitals(os.getpid(), tmp_path, 2.0)
    os.close(descriptor)
    assert after.fds == before.fds + 1
    assert after.rss_mib - before.rss_mib > 10 and after.anonymous_mib - before.anonymous_mib > 10
    assert len(ballast) == 20 * 2**20
    assert before.rss_mib >= before.pss_mib > 0 and before.threads >= 1
    assert before.disk_mib == pytest.approx(3, abs=0.1) and size_bytes(tmp_path / "none") == 0
    with pytest.raises(OSError):
        vitals(2**22 + 1, tmp_path, 0.0)
