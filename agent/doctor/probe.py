"""Runs a `try_*` program: an illegal instruction, a hang or a leak is to be the probe's end, not the doctor's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0
LAST_WAIT_S = 5.0
MAX_LINE = 200
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Answer:
    """`said`: the probe's JSON object; empty where it gave none, and then `died` says why in a few words."""

    said: dict[str, Any] = field(default_factory=dict)
    died: str = ""
    signal: int = 0


def ask(name: str, request: dict[str, Any] | None = None, *, timeout_s: float | None = None) -> Answer:
    """Run `agent.doctor.try_<name>` with `request` on its standard input (where no other user can read it, unlike
    arguments) and take the last line it prints."""
    timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
    process = subprocess.Popen(
        [sys.executable, "-m", f"agent.doctor.try_{name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(json.dumps(request or {}).encode(), timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return Answer(died=f"no end within {timeout_s:g} s")
    if process.returncode < 0:
        number = -process.returncode
        names = {known.value: known.name for known in signal.Signals}
        return Answer(died=f"killed by {names.get(number, number)}", signal=number)
    last = out.decode("utf-8", "replace").strip().rpartition("\n")[2]
    with contextlib.suppress(ValueError):
        said = json.loads(last)
        if isinstance(said, dict) and process.returncode == 0:
            return Answer(said)
    words = (err.decode("utf-8", "replace").strip() or last or f"ended with status {process.returncode}").splitlines()
    return Answer(died=words[-1][:MAX_LINE])


def request() -> dict[str, Any]:
    """For the program itself: what `ask` was given."""
    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    return dict(asked)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With whatever it has started. A process that waits for a broken disk cannot be killed; it is left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=LAST_WAIT_S)
