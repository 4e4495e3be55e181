"""The peak is the program's own, and the program runs as it would without being measured."""

from __future__ import annotations

import sys

import pytest

from benchmarks.device.peak import PeakError, peak_mib

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process held at most")


@linux
def test_what_was_held_for_a_moment_counts() -> None:
    little = peak_mib("timeit", "-n", "1", "-r", "1", "pass")
    much = peak_mib("timeit", "-n", "1", "-r", "1", "len(b'x' * 100 * 2**20)")
    assert little is not None and much is not None and 5 < little < 60
    assert much - little == pytest.approx(100, abs=8)


@linux
def test_what_this_process_holds_does_not() -> None:
    held = b"x" * 150 * 2**20
    peak = peak_mib("timeit", "-n", "1", "-r", "1", "pass")
    assert peak is not None and peak < 100 < len(held)


def test_a_program_that_fails_is_an_error_with_what_it_said() -> None:
    with pytest.raises(PeakError, match="there is no such job"):
        peak_mib("timeit", "-n", "1", "-r", "1", "raise SystemExit('there is no such job')")
    with pytest.raises(PeakError, match=r"agent\.trainer"):
        peak_mib("agent.trainer", "/nonexistent/job")
