"""The trainer dies with its daemon: an orphan would go on heating the device, and hold the job's lock."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

DAEMON_PID_VARIABLE = "UNDERSTUDY_DAEMON_PID"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent() -> None:
    """Ask the kernel to SIGKILL this process when the daemon that started it ends, however it ends.

    Only where the daemon has left its pid in the environment: a trainer run by hand outlives its shell. Linux only
    (Android too); elsewhere nothing happens. Exits at once where the daemon died before the kernel was asked.
    """
    daemon_pid = os.environ.get(DAEMON_PID_VARIABLE, "")
    if not daemon_pid.isdigit() or sys.platform not in ("linux", "android"):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(daemon_pid):
        sys.exit("the daemon that started this trainer is gone")
