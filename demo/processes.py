"""The demo's child processes: the same commands a person would type, each with a log of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

STOP_TIMEOUT_S = 15.0


class ProcessError(RuntimeError):
    """A child ended that should not have; the text ends with the last lines of its log."""


class Child:
    """A long-lived child; its standard error goes to `log`. `under`: a command that starts it, such as nice."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: Path, under: Sequence[str] = ()) -> None:
        self.name, self.log = name, log
        self._file = log.open("wb")
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env=_environment(),
        )

    def check(self) -> None:
        """Raises ProcessError where it has ended."""
        code = self.process.poll()
        if code is not None:
            raise ProcessError(f"the {self.name} ended with status {code}:\n{tail(self.log)}")

    def wait_for(self, needle: str, timeout_s: float) -> None:
        """Until its log holds `needle`. Raises ProcessError where that takes too long or it ends before."""
        until_s = time.monotonic() + timeout_s
        while needle not in self.log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > until_s:
                raise ProcessError(f"the {self.name} was not ready within {timeout_s:.0f} s:\n{tail(self.log)}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT_S)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._file.close()


def run_with_progress(
    module: str, arguments: Sequence[str], report: Callable[[str, int, int, str], None], log: Path
) -> None:
    """Run to the end, passing on its JSON progress lines. Raises ProcessError unless it succeeds."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                errors.write(line)
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    told = json.loads(line)
                    report(told["stage"], int(told["done"]), int(told["total"]), str(told.get("detail", "")))
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.wait() != 0:
        raise ProcessError(f"`{module} {' '.join(arguments[:2])}` failed:\n{tail(log)}")


def tail(log: Path, lines: int = 12) -> str:
    text = log.read_text(errors="replace").strip().splitlines()
    return "\n".join(f"  {line}" for line in text[-lines:])


def _environment() -> dict[str, str]:
    """Children find the packages where this process did, installed or not."""
    here = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{path}" if path else here, "PYTHONUNBUFFERED": "1"}
