"""The page stays and is drawn anew in place; without a terminal there is a line for each change."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import follow as module
from agent.follow import HIDE_CURSOR, SHOW_CURSOR, follow

STATUS: dict[str, Any] = {
    "device": "cam",
    "online": False,
    "phase": "idle",
    "generation": 1,
    "labels": ["a"],
    "privacy": "local",
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.0)


def then_leaving(*answers: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Gives the answers in turn; then the person presses Ctrl-C."""
    left = iter(answers)

    def ask() -> dict[str, Any]:
        for answer in left:
            return answer
        raise KeyboardInterrupt

    return ask


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_a_line_for_each_change() -> None:
    out = io.StringIO()
    training = {**STATUS, "phase": "training", "categories": ["lime"]}
    follow(then_leaving(STATUS, STATUS, training, training, STATUS), out, as_json=False, colour=False)
    lines = [line.partition(" ")[2] for line in out.getvalue().splitlines()]
    assert lines == ["idle | generation 1", "training 'lime' | generation 1", "idle | generation 1"]
    assert "\033" not in out.getvalue()


def test_for_a_program_there_is_an_object_a_line() -> None:
    out = Terminal()
    follow(then_leaving(STATUS, STATUS), out, as_json=True, colour=True)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [STATUS, STATUS]


def test_on_a_terminal_each_page_covers_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    taller = {**STATUS, "reason": "a word", "phase": "training"}
    follow(then_leaving(taller, STATUS), out, as_json=False, colour=False)
    text = out.getvalue()
    assert text.startswith(HIDE_CURSOR) and text.endswith(SHOW_CURSOR)
    first, second = re.split(r"\033\[\d+F", text)
    climbed = re.search(r"\033\[(\d+)F", text)
    assert climbed is not None and int(climbed[1]) == first.count("\n")
    assert "\033[J" in second  # what the longer page left below is gone


def test_a_page_never_scrolls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "get_terminal_size", lambda: os.terminal_size((80, 4)))
    out = Terminal()
    follow(then_leaving(STATUS), out, as_json=False, colour=False)
    assert out.getvalue().count("\n") == 3


def test_a_reader_that_has_gone_ends_it() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    follow(lambda: STATUS, Gone(), as_json=False, colour=False)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield ours, theirs
    os.close(ours)


@pytest.mark.spec("18.3")
def test_ctrl_c_on_a_real_terminal_leaves_the_page_and_no_error(
    tmp_path: Path, root: Path, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    command = [sys.executable, "-m", "agent", "status", "-f", "--set", f"device.state_dir={tmp_path}"]
    command += ["--set", f"source.folder={tmp_path}", "--set", "device.name=cam"]
    process = subprocess.Popen(
        command,
        cwd=root,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        # A suite that was started in the background has Ctrl-C ignored, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    seen = b""
    until_s = time.monotonic() + 30
    while seen.count(b"not running") < 2 and time.monotonic() < until_s:  # drawn, and drawn again
        if select.select([ours], [], [], 0.2)[0]:
            seen += os.read(ours, 65_536)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    while select.select([ours], [], [], 0.2)[0]:
        try:
            seen += os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
    assert seen.count(b"not running") >= 2 and b"Traceback" not in seen
    assert seen.endswith(SHOW_CURSOR.encode())
