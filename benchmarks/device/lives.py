"""Starts the real daemon again and again, quickly: each life is forked from a process that has everything imported.

`python -m benchmarks.device.lives` is that process; `Lives` is its owner's side. One JSON line in for each life (its
`Beginning`), one line out when it has begun and one when it has ended and all its children with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.device.commit_points import (
    DAEMON_PID_VARIABLE,
    PLAN_VARIABLE,
    CommitPoints,
    Plan,
    die_as_daemon,
    trainer_command,
)

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN_TIMEOUT_S, END_TIMEOUT_S = 60.0, 30.0
PR_SET_CHILD_SUBREAPER = 36


class LivesError(RuntimeError):
    """The process that daemons are forked from has failed; the text says how."""


@dataclass(frozen=True)
class Beginning:
    """config: a configuration file; log: what the daemon's standard error is appended to."""

    config: str
    log: str
    plan: Plan


class Lives:
    """One life at a time."""

    def __init__(self, log: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.device.lives"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        self._rest = b""
        self._status: int | None = None
        self.pid = 0

    def begin(self, beginning: Beginning) -> None:
        assert self._process.stdin is not None
        self._status = None
        self._process.stdin.write(json.dumps(asdict(beginning)).encode() + b"\n")
        self._process.stdin.flush()
        self.pid = int(self._line(BEGIN_TIMEOUT_S)["pid"])

    def ended(self, within_s: float) -> int | None:
        """Its exit status (negative: the signal that ended it), or None where it goes on."""
        if self._status is None and (line := self._line_within(within_s)) is not None:
            self._status = int(line["status"])
        return self._status

    def kill(self) -> int:
        """Its exit status, whatever it ended by; its children are gone, too."""
        return self._end(signal.SIGKILL)

    def terminate(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, how)
            self._status = int(self._line(END_TIMEOUT_S)["status"])
        return self._status

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _line(self, within_s: float) -> dict[str, Any]:
        line = self._line_within(within_s)
        if line is None:
            raise LivesError(f"nothing was heard of process {self.pid} for {within_s:.0f} s")
        return line

    def _line_within(self, within_s: float) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        until = time.monotonic() + within_s
        while b"\n" not in self._rest:
            left = max(0.0, until - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                return None
            part = os.read(self._process.stdout.fileno(), 4096)
            if not part:
                raise LivesError(f"the process that daemons are forked from ended with {self._process.wait()}")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


def main() -> None:
    """Serve until standard input ends."""
    # What a killed daemon leaves behind becomes our child, and can be waited for.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    import agent.daemon  # noqa: F401  the whole of it, before the first fork

    for line in sys.stdin.buffer:
        told = json.loads(line)
        beginning = Beginning(told["config"], told["log"], Plan(**told["plan"]))
        pid = os.fork()
        if pid == 0:
            _live(beginning)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


def _live(beginning: Beginning) -> None:
    """The child: the daemon, as `understudy agent run` begins it. Does not return."""
    from agent import config_file
    from agent.adapters import start_record
    from agent.adapters.trainer_process import TrainerProcess
    from agent.daemon import Daemon

    code = 1
    try:
        log = os.open(beginning.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(log, 2)
        os.environ[PLAN_VARIABLE] = beginning.plan.encoded()
        os.environ[DAEMON_PID_VARIABLE] = str(os.getpid())
        defaults = TrainerProcess.__init__.__kwdefaults__
        assert defaults is not None
        defaults["argv"] = trainer_command()
        config = config_file.load(Path(beginning.config), environment={}, flags={})
        CommitPoints(beginning.plan, die_as_daemon).install()
        # After a power cut the machine boots anew; without that the model would be blamed for dying so often.
        start_record.boot_id = lambda: f"life {os.getpid()}"
        Daemon(config).run()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
