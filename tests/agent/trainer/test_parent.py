"""A trainer of a daemon dies with it (tests/agent/adapters/test_trainer_process.py); one run by hand does not care."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import ctypes
from agent.trainer.parent import die_with_parent
die_with_parent()
asked = ctypes.c_int(-1)
ctypes.CDLL(None).prctl(2, ctypes.byref(asked))  # PR_GET_PDEATHSIG
print("signal", asked.value)
"""

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux")


def run(daemon_pid: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "UNDERSTUDY_DAEMON_PID"}
    if daemon_pid is not None:
        environment["UNDERSTUDY_DAEMON_PID"] = daemon_pid
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


@linux_only
def test_under_a_daemon_the_kernel_is_asked_for_sigkill() -> None:
    assert run(str(os.getpid())).stdout == "signal 9\n"


@linux_only
@pytest.mark.parametrize("daemon_pid", [None, "", "none"])
def test_run_by_hand_nothing_is_asked(daemon_pid: str | None) -> None:
    assert run(daemon_pid).stdout == "signal 0\n"


@linux_only
def test_a_daemon_that_is_gone_already_ends_it_at_once() -> None:
    ended = run("1" if os.getpid() != 1 else "2")
    assert ended.returncode == 1 and ended.stdout == "" and "daemon" in ended.stderr
