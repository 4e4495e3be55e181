"""Real child processes: progress in, limits on, every way to end told apart, nothing left behind."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.adapters import trainer_process
from agent.adapters.trainer_group import GroupRefused, TrainerGroup
from agent.adapters.trainer_process import Exit, TrainerError, TrainerProcess
from agent.job import Progress
from agent.trainer import parent

ROOT = Path(__file__).resolve().parents[3]
PRELUDE = """
import os, signal, subprocess, sys, time
def say(n): print('{"stage":"x","done":%d,"total":9}' % n, flush=True)
"""


class Trainer:
    """A TrainerProcess around a script, and what it reported."""

    def __init__(self, folder: Path, script: str, **options: Any) -> None:
        self.progress: queue.Queue[Progress] = queue.Queue()
        self.exits: queue.Queue[Exit] = queue.Queue()
        self.folder = folder
        file = folder / "trainer.py"
        file.write_text(PRELUDE + script)
        self.process = TrainerProcess(self.progress.put, self.exits.put, argv=(sys.executable, str(file)), **options)

    def start(self, **limits: Any) -> Trainer:
        self.process.start(self.folder, **limits)
        return self

    def done(self) -> int:
        return self.progress.get(timeout=20).done

    def exit(self) -> Exit:
        return self.exits.get(timeout=20)


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    made: list[Trainer] = []

    def make(script: str, **options: Any) -> Trainer:
        made.append(Trainer(tmp_path, script, **options))
        return made[-1]

    yield make
    for each in made:
        each.process.close(0.0)


def gone(pid: int) -> bool:
    """No such process, or one that only waits to be reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_progress_and_a_good_end(trainer: Callable[[str], Trainer]) -> None:
    t = trainer("say(1); say(2); print(sys.argv[1], file=sys.stderr)").start()
    assert (t.done(), t.done()) == (1, 2)
    assert t.exit() == Exit("finished", 0, str(t.folder))
    assert not t.process.running


def test_what_is_no_progress_is_passed_over(trainer: Callable[[str], Trainer]) -> None:
    script = """
print('hello'); print('{"stage":1}'); sys.stdout.flush()
os.write(1, b'\\xff\\xfe\\n' + b'{"stage":"' + b'x' * 200_000 + b'","done":5,"total":9}\\n')
say(7)
"""
    t = trainer(script).start()
    assert t.done() == 7
    assert t.exit().reason == "finished" and t.progress.empty()


@pytest.mark.spec("11.3")
@pytest.mark.parametrize(
    ("script", "reason", "code"),
    [
        ("sys.exit(3)", "failed", 3),
        ("raise MemoryError", "out_of_memory", 1),
        ("os.kill(os.getpid(), signal.SIGILL)", "illegal_instruction", -signal.SIGILL),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed", -signal.SIGSEGV),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", -signal.SIGKILL),
    ],
)
def test_every_end_has_its_reason(trainer: Callable[[str], Trainer], script: str, reason: str, code: int) -> None:
    ended = trainer(script).start().exit()
    assert (ended.reason, ended.code) == (reason, code)


def test_sigkill_with_an_oom_kill_counted_is_out_of_memory(
    trainer: Callable[[str], Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([4, 5])
    monkeypatch.setattr(trainer_process, "_oom_kills", lambda: next(counts))
    assert trainer("os.kill(os.getpid(), signal.SIGKILL)").start().exit().reason == "out_of_memory"


def test_the_detail_is_the_end_of_standard_error(trainer: Callable[[str], Trainer]) -> None:
    ended = trainer("sys.stderr.write('x' * 300_000 + 'the cause'); sys.exit(1)").start().exit()
    assert ended.detail.endswith("the cause") and len(ended.detail) == 8 * 1024


# ------------------------------------------------------------------------------------------------ its control group


@dataclass
class Groups:
    """Makes groups that are folders, and remembers what was asked. A file of the kernel's is never made by us."""

    folder: Path
    made: list[tuple[int, float]] = field(default_factory=list)
    taken: str = ""

    def __call__(self, memory_mib: int, cpu_percent: float) -> TrainerGroup:
        self.made.append((memory_mib, cpu_percent))
        self.folder.mkdir()
        for name in ("cgroup.procs", "memory.events"):
            (self.folder / name).write_text("")
        groups = self

        class Group(TrainerGroup):
            def remove(self) -> None:
                groups.taken = (self.folder / "cgroup.procs").read_text()
                shutil.rmtree(self.folder)

        return Group(self.folder)


@pytest.mark.spec("11.2")
def test_it_runs_in_a_group_that_is_made_before_it_and_removed_after_it(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    groups = Groups(tmp_path / "group")
    t = trainer("say(os.getpid())", make_group=groups).start(memory_mib=700, cpu_percent=40.0)
    pid = t.done()
    assert t.exit().reason == "finished"
    assert groups.made == [(700, 40.0)] and groups.taken == str(pid) and not groups.folder.exists()
    assert t.process.uncontained == ""


@pytest.mark.spec("11.3")
def test_killed_by_the_kernel_in_its_group_it_was_out_of_memory(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    events = tmp_path / "group" / "memory.events"
    script = f"open({str(events)!r}, 'w').write('oom 1\\noom_kill 1\\n'); os.kill(os.getpid(), signal.SIGKILL)"
    assert trainer(script, make_group=Groups(tmp_path / "group")).start().exit().reason == "out_of_memory"


@pytest.mark.spec("11.2")
def test_where_no_group_is_allowed_it_runs_without_and_the_reason_is_known(trainer: Callable[..., Trainer]) -> None:
    def refuse(memory_mib: int, cpu_percent: float) -> TrainerGroup:
        raise GroupRefused("no control group for the trainer: not ours")

    t = trainer("say(1)", make_group=refuse).start(memory_mib=512)
    assert t.done() == 1 and t.exit().reason == "finished"
    assert t.process.uncontained == "no control group for the trainer: not ours"


def test_a_group_that_does_not_take_it_is_removed_all_the_same(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    class Closed(TrainerGroup):
        def take(self, pid: int) -> None:
            raise PermissionError("cgroup.procs")

        def remove(self) -> None:
            self.folder.rmdir()

    def closed(memory_mib: int, cpu_percent: float) -> TrainerGroup:
        (tmp_path / "group").mkdir()
        return Closed(tmp_path / "group")

    t = trainer("say(1)", make_group=closed).start()
    assert t.exit().reason == "finished" and "cannot be moved" in t.process.uncontained
    assert not (tmp_path / "group").exists()


def test_what_cannot_be_started_leaves_no_group(tmp_path: Path) -> None:
    groups = Groups(tmp_path / "group")
    process = TrainerProcess(lambda _: None, lambda _: None, argv=(str(tmp_path / "no-python"),), make_group=groups)
    with pytest.raises(TrainerError):
        process.start(tmp_path)
    assert groups.made and not groups.folder.exists()


@pytest.mark.spec("11.3")
def test_a_hanging_one_is_killed_paused_or_not(trainer: Callable[..., Trainer]) -> None:
    for paused in (False, True):
        t = trainer("signal.signal(signal.SIGTERM, signal.SIG_IGN); say(1); time.sleep(60)").start()
        assert t.done() == 1 and t.process.pid is not None
        if paused:
            t.process.pause()
        assert t.process.kill()
        ended = t.exit()
        assert (ended.reason, ended.code) == ("hung", -signal.SIGKILL)
        assert t.process.pid is None and not t.process.kill()
    t.start()  # the flags of that run do not colour the next
    os.kill(t.process.pid or 0, signal.SIGKILL)
    assert t.exit().reason == "killed"


@pytest.mark.spec("11.2")
@pytest.mark.skipif(not hasattr(psutil, "IOPRIO_CLASS_IDLE"), reason="classes of input and output are Linux's")
def test_it_is_last_in_line_for_the_disk(trainer: Callable[..., Trainer]) -> None:
    t = trainer("time.sleep(0.2); say(1); time.sleep(60)").start()
    assert t.done() == 1 and t.process.pid is not None
    assert psutil.Process(t.process.pid).ionice().ioclass == psutil.IOPRIO_CLASS_IDLE


def test_stop_lets_it_end_in_its_own_way(trainer: Callable[[str], Trainer]) -> None:
    script = """
def leave(*_):
    say(8)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
say(1)
while True: time.sleep(0.01)
"""
    t = trainer(script).start()
    assert t.done() == 1
    assert t.process.stop()
    assert t.done() == 8
    assert t.exit() == Exit("stopped", 0, "")


def test_what_does_not_stop_is_killed_and_hung(trainer: Callable[[str], Trainer]) -> None:
    t = trainer("signal.signal(signal.SIGTERM, signal.SIG_IGN); say(1); time.sleep(60)").start()
    assert t.done() == 1
    t.process.stop(grace_s=0.1)
    ended = t.exit()
    assert (ended.reason, ended.code) == ("hung", -signal.SIGKILL)


def test_paused_it_stands_still_and_resumed_it_goes_on(trainer: Callable[[str], Trainer]) -> None:
    t = trainer("say(os.getpid())\nfor n in range(10**6): say(n); time.sleep(0.005)").start()
    pid = t.done()
    assert t.process.pause()
    assert until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    time.sleep(0.1)  # what it had said before still comes through the pipe
    while not t.progress.empty():
        t.progress.get()
    time.sleep(0.1)
    assert t.progress.empty() and t.process.running
    assert t.process.resume()
    first = t.done()
    assert t.done() == first + 1


def test_a_paused_trainer_can_be_stopped(trainer: Callable[[str], Trainer]) -> None:
    t = trainer("say(1); time.sleep(60)").start()
    assert t.done() == 1
    t.process.pause()
    t.process.stop()
    assert t.exit().reason == "stopped"


def test_its_children_go_with_it(trainer: Callable[[str], Trainer]) -> None:
    t = trainer("child = subprocess.Popen(['sleep', '60']); say(child.pid); sys.exit(2)").start()
    child = t.done()
    assert t.exit().reason == "failed"
    assert until(lambda: gone(child))


def test_one_at_a_time_and_again_after_the_end(trainer: Callable[[str], Trainer]) -> None:
    t = trainer("say(1); time.sleep(60)").start()
    with pytest.raises(TrainerError, match="already"):
        t.start()
    assert t.done() == 1
    t.process.stop()
    assert t.exit().reason == "stopped"
    t.start()
    assert t.done() == 1


def test_it_may_be_started_again_from_the_report_of_its_exit(tmp_path: Path) -> None:
    """The flags of the first run must not colour the second."""
    exits: queue.Queue[Exit] = queue.Queue()

    def on_exit(ended: Exit) -> None:
        exits.put(ended)
        if exits.qsize() == 1:
            process.start(tmp_path)

    process = TrainerProcess(lambda progress: None, on_exit, argv=(sys.executable, "-c", "pass"))
    process.start(tmp_path)
    assert until(lambda: exits.qsize() == 2)
    assert [exits.get().reason for _ in range(2)] == ["finished", "finished"]


def test_without_a_process_orders_do_nothing(trainer: Callable[[str], Trainer]) -> None:
    process = trainer("").process
    assert not (process.pause() or process.resume() or process.stop() or process.running)


def test_what_cannot_be_started_says_so(tmp_path: Path) -> None:
    process = TrainerProcess(lambda progress: None, lambda ended: None, argv=(str(tmp_path / "no-python"),))
    with pytest.raises(TrainerError, match="no-python"):
        process.start(tmp_path)
    assert not process.running


@pytest.mark.spec("11.2")
def test_the_limits_are_on(trainer: Callable[[str], Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    script = """
import json, resource
time.sleep(0.2)  # the limits come from outside, a moment after the start
print(json.dumps([os.environ["OMP_NUM_THREADS"], os.getpriority(os.PRIO_PROCESS, 0), os.getsid(0) == os.getpid(),
    resource.getrlimit(resource.RLIMIT_DATA)[0], "NOTIFY_SOCKET" in os.environ,
    sys.flags.optimize,
    int(open("/proc/self/oom_score_adj").read()), sys.stdin.read(), os.environ["UNDERSTUDY_DAEMON_PID"]]),
    file=sys.stderr)
import agent.job
"""
    ended = trainer(script).start(nice=7, memory_mib=512, threads=3).exit()
    assert ended.reason == "finished", ended.detail
    assert ended.detail == f'["3", 7, true, {512 * 1024 * 1024}, false, 0, 800, "", "{os.getpid()}"]'


@pytest.mark.spec("11.3")
def test_beyond_its_memory_it_fails_as_out_of_memory(trainer: Callable[[str], Trainer]) -> None:
    ended = trainer("time.sleep(0.2); bytearray(2 * 10**9)").start(memory_mib=256).exit()
    assert ended.reason == "out_of_memory"


def test_the_variable_is_the_one_the_trainer_reads() -> None:
    assert trainer_process.DAEMON_PID_VARIABLE == parent.DAEMON_PID_VARIABLE


DAEMON = """
import sys, threading, time
from pathlib import Path
from agent.adapters.trainer_process import TrainerProcess

def started(progress):
    if sys.argv[3] == "paused":
        process.pause()
    print(progress.done, flush=True)

process = TrainerProcess(started, print, argv=(sys.executable, sys.argv[1]))
process.start(Path(sys.argv[2]))
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux")
@pytest.mark.parametrize("state", ["running", "paused"])
def test_the_trainer_dies_with_a_killed_daemon(tmp_path: Path, state: str) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(
        PRELUDE
        + "from agent.trainer.parent import die_with_parent\ndie_with_parent()\nsay(os.getpid())\ntime.sleep(60)"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(script), str(tmp_path), state], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert daemon.stdout is not None
    pid = int(daemon.stdout.readline())
    if state == "paused":
        assert until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    daemon.kill()
    daemon.wait()
    assert until(lambda: gone(pid))
