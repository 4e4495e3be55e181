"""Whatever a probe does, its caller learns of it and goes on. The probes here are real processes that misbehave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agent.doctor.probe import ask


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that does not exist yet; write it into `tmp_path`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "misbehaving"


@pytest.mark.spec("12.1")
def test_an_illegal_instruction_is_the_probes_end_only(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    answer = ask("import", {"module": module})
    assert (answer.said, answer.died, answer.signal) == ({}, "killed by SIGILL", signal.SIGILL)


def test_one_that_hangs_is_given_up_with_all_it_has_started(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text(
        "import subprocess\n"
        f"child = subprocess.Popen(['sleep', '60'])\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "child.wait()\n"
    )
    answer = ask("import", {"module": module}, timeout_s=3)
    assert answer.died == "no end within 3 s"
    assert _gone(int((tmp_path / "pid").read_text()))


def _gone(pid: int) -> bool:
    """Dead, be it that nobody has reaped it yet."""
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_one_that_fails_says_why_in_its_last_line(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("raise RuntimeError('no such luck')\n")
    assert ask("import", {"module": module}).died == "RuntimeError: no such luck"


def test_one_that_talks_before_it_answers_is_understood(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("print('a banner')\nprint('{}')\n__version__ = '7'\n")
    assert ask("import", {"module": module}).said == {"imported": True, "version": "7"}


def test_an_answer_that_is_none_is_told(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("import os\nprint('[1]', flush=True)\nos._exit(0)\n")
    answer = ask("import", {"module": module})
    assert answer.said == {} and answer.died == "[1]"


def test_requests_are_not_seen_by_other_users(module: str, tmp_path: Path) -> None:
    """Passwords are in them; arguments are for everybody to read."""
    out = tmp_path / "arguments"
    (tmp_path / f"{module}.py").write_text(f"open({str(out)!r}, 'wb').write(open('/proc/self/cmdline', 'rb').read())\n")
    assert ask("import", {"module": module, "secret": "open sesame"}).said["imported"]
    assert b"sesame" not in out.read_bytes() and b"try_import" in out.read_bytes()
    assert "sesame" not in str(os.environ)
