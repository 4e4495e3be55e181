"""Starts, limits, pauses, kills and reaps the training process.

It is niced, last in line for the disk, the first to go when memory runs out, and in a control group of its own where
the daemon may make one.

The thread that starts the process also waits for it: the kernel's "die with the parent" means the parent *thread*
(prctl(2), PR_SET_PDEATHSIG), so it has to live as long as the trainer.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import msgspec

from agent.adapters.trainer_group import GroupRefused, TrainerGroup, make_trainer_group
from agent.job import Progress

MAX_LINE_BYTES = 64 * 1024
STDERR_TAIL_BYTES = 8 * 1024
OOM_SCORE_ADJUSTMENT = 800  # short of memory, the kernel is to take the trainer, never the service
DAEMON_PID_VARIABLE = "UNDERSTUDY_DAEMON_PID"  # as agent.trainer.parent reads it
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# PYTHONOPTIMIZE: nobody has compiled torch without docstrings, and every training would, for seconds.
_SERVICE_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "PYTHONOPTIMIZE")
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "can't allocate memory", "Cannot allocate memory", "out of memory")

Reason = Literal["finished", "failed", "killed", "out_of_memory", "illegal_instruction", "stopped", "hung"]


@dataclass(frozen=True, slots=True)
class Exit:
    """How the process ended. `code` is negative for a signal; `detail` is the end of its standard error.

    stopped: as `stop` asked; hung: asked, it did not, and was killed, or `kill` was called; killed: by a signal not of
    ours; out_of_memory: killed by the kernel for want of memory, in its group or at all, or ended by it itself.
    """

    reason: Reason
    code: int
    detail: str


class TrainerError(RuntimeError):
    """The process cannot be started."""


class TrainerProcess:
    """At most one process at a time. Callbacks come from this object's threads; `report_exit` is the last of them."""

    def __init__(
        self,
        report_progress: Callable[[Progress], None],
        report_exit: Callable[[Exit], None],
        *,
        argv: Sequence[str] = (sys.executable, "-m", "agent.trainer"),
        make_group: Callable[[int, float], TrainerGroup] = make_trainer_group,
    ) -> None:
        self._report_progress = report_progress
        self._report_exit = report_exit
        self._argv = tuple(argv)
        self._make_group = make_group
        self.uncontained = ""
        """Why the last one had no control group of its own; "" where it had, or none has run."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None  # None as soon as it may no longer be signalled
        self._running = False
        self._stopping = False
        self._killed_by_us = False
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """A process is there (paused or not) whose exit has not been reported."""
        return self._running

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None else None

    def start(
        self,
        job_dir: Path,
        *,
        nice: int = 10,
        memory_mib: int | None = None,
        cpu_percent: float = 0.0,
        threads: int = 1,
    ) -> None:
        """Run the trainer on `job_dir`. `memory_mib` bounds its data (RLIMIT_DATA, Linux) and its group's memory,
        `cpu_percent` (0: nothing) its group's share of the machine's processors. Raises TrainerError."""
        with self._lock:
            if self._running:
                raise TrainerError("a trainer is running already")
            self._running = True
        self._stopping = self._killed_by_us = False
        started: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

        def run() -> None:
            group = self._group(memory_mib, cpu_percent)
            try:
                process = subprocess.Popen(
                    [*self._argv, str(job_dir)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=_environment(threads),
                    start_new_session=True,
                )
            except OSError as error:
                if group is not None:
                    group.remove()
                started.put(error)
                return
            _limit(process.pid, nice, memory_mib)
            if group is not None:
                self._take_in(group, process.pid)
            with self._lock:
                self._process = process
            started.put(None)
            self._watch(process, group)

        self._thread = threading.Thread(target=run, name="trainer", daemon=True)
        self._thread.start()
        error = started.get()
        if error is not None:
            self._running = False
            raise TrainerError(f"cannot start {self._argv[0]}: {error}") from error

    def pause(self) -> bool:
        """Stop it where it is, in memory. False where nothing runs."""
        return self._signal(signal.SIGSTOP)

    def resume(self) -> bool:
        return self._signal(signal.SIGCONT)

    def kill(self) -> bool:
        """End it at once: it hangs. Its exit is reported as `hung`. False where nothing runs."""
        with self._lock:
            self._killed_by_us = self._process is not None
        return self._signal(signal.SIGKILL)

    def stop(self, grace_s: float = 10.0) -> bool:
        """Ask it to end (paused or not) and return at once; after `grace_s` it is killed. The exit is reported as
        ever. False where nothing runs."""
        with self._lock:
            process = self._process
            self._stopping = self._stopping or process is not None
        if process is None or not (self._signal(signal.SIGTERM) and self._signal(signal.SIGCONT)):
            return False
        timer = threading.Timer(grace_s, self._kill, (process,))
        timer.name, timer.daemon = "trainer-grace", True
        timer.start()
        return True

    def close(self, grace_s: float = 4.0) -> None:
        """Stop it and wait until its exit has been reported."""
        self.stop(grace_s)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(grace_s + 1)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if self._process is not process:
                return
            self._killed_by_us = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> bool:
        with self._lock:
            if self._process is None:
                return False
            # The group, not the process: whatever the trainer has started is stopped and killed with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            return True

    def _group(self, memory_mib: int | None, cpu_percent: float) -> TrainerGroup | None:
        try:
            group = self._make_group(memory_mib or 0, cpu_percent)
        except GroupRefused as error:
            self.uncontained = str(error)
            return None
        self.uncontained = ""
        return group

    def _take_in(self, group: TrainerGroup, pid: int) -> None:
        # From outside, as `_limit`: the interpreter has hardly begun.
        try:
            group.take(pid)
        except OSError as error:
            self.uncontained = f"the trainer cannot be moved into its control group: {error}"

    def _watch(self, process: subprocess.Popen[bytes], group: TrainerGroup | None) -> None:
        oom_kills = _oom_kills()
        tail = bytearray()
        readers = [
            threading.Thread(target=self._read_progress, args=(process.stdout,), name="trainer-out", daemon=True),
            threading.Thread(target=_read_tail, args=(process.stderr, tail), name="trainer-err", daemon=True),
        ]
        for reader in readers:
            reader.start()
        # Known to have ended but not yet reaped, its pid cannot be anybody else's: now its group can be killed safely.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._process = None
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        for reader in readers:
            reader.join(5)
        detail = bytes(tail).decode("utf-8", "replace").strip()
        oom_killed = _oom_kills() > oom_kills
        if group is not None:
            oom_killed = group.out_of_memory_kills() > 0 or oom_killed
            group.remove()
        reason = self._reason(code, detail, oom_killed)
        self._running = False  # before the report: whoever gets it may start the next one at once
        self._report_exit(Exit(reason, code, detail))

    def _reason(self, code: int, detail: str, oom_killed: bool) -> Reason:
        if self._killed_by_us and code == -signal.SIGKILL:
            return "hung"
        if self._stopping:
            return "stopped"
        if code == 0:
            return "finished"
        if code == -signal.SIGILL:
            return "illegal_instruction"
        if code == -signal.SIGKILL:
            return "out_of_memory" if oom_killed else "killed"
        if any(words in detail for words in _OUT_OF_MEMORY):
            return "out_of_memory"
        return "killed" if code < 0 else "failed"

    def _read_progress(self, stream: IO[bytes]) -> None:
        """One Progress a line. Anything else (a library that prints, a line too long) is passed over."""
        whole = True
        while line := stream.readline(MAX_LINE_BYTES):
            complete = line.endswith(b"\n")
            if whole and complete:
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                    self._report_progress(msgspec.json.decode(line, type=Progress))
            whole = complete
        stream.close()


def _read_tail(stream: IO[bytes], tail: bytearray) -> None:
    while part := stream.read1(4096):  # type: ignore[attr-defined]
        tail += part
        del tail[:-STDERR_TAIL_BYTES]
    stream.close()


def _environment(threads: int) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _SERVICE_VARIABLES}
    environment.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    environment[DAEMON_PID_VARIABLE] = str(os.getpid())
    # The trainer is to be the code that the daemon is, wherever the daemon was started.
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return environment


def _limit(pid: int, nice: int, memory_mib: int | None) -> None:
    """From outside, so that no code of ours runs between fork and exec. What the system does not grant is left."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE_ADJUSTMENT))
    with contextlib.suppress(Exception):  # psutil may be absent, or raise errors of its own
        import psutil

        psutil.Process(pid).ionice(psutil.IOPRIO_CLASS_IDLE)  # last in line for the disk
    if memory_mib and sys.platform == "linux":
        import resource

        limit = memory_mib * 1024 * 1024
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))


def _oom_kills() -> int:
    """How often the kernel has killed for want of memory since boot; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
