"""One line an event: JSON for programs, words for people, nothing to standard output, no rich in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from agent.adapters.journal import open_journal


def test_json_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log = open_journal("info", "json")
    log.info("started", labels=["a", "b"], path=Path("/x"))
    log.warning("file_refused", code="empty", text="ä\n\x00")
    told = capsys.readouterr()
    assert told.out == ""
    first, second = map(json.loads, told.err.splitlines())
    assert (first["event"], first["level"], first["labels"]) == ("started", "info", ["a", "b"])
    assert second["text"] == "ä\n\x00" and second["level"] == "warning"
    assert first["timestamp"].endswith("Z")


def test_auto_is_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    open_journal("info", "auto").info("x", n=1)
    assert json.loads(capsys.readouterr().err)["n"] == 1


def test_the_console_has_words(capsys: pytest.CaptureFixture[str]) -> None:
    open_journal("info", "console").info("started", device="cam")
    line = capsys.readouterr().err
    assert "started" in line and "device=cam" in line and "\033" not in line and "{" not in line


@pytest.mark.parametrize(("level", "told"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_silences_what_is_below(level: str, told: int, capsys: pytest.CaptureFixture[str]) -> None:
    log = open_journal(level, "json")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert len(capsys.readouterr().err.splitlines()) == told


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("style", ["json", "console"])
def test_an_exception_leaves_its_trace(style: Literal["json", "console"], capsys: pytest.CaptureFixture[str]) -> None:
    log = open_journal("info", style)
    try:
        raise RuntimeError("the cause")
    except RuntimeError:
        log.exception("command_failed", command="Promote")
    told = capsys.readouterr().err
    assert "RuntimeError: the cause" in told and "test_journal.py" in told
    assert style == "console" or len(told.splitlines()) == 1


def test_rich_stays_out_but_can_still_be_used_afterwards(root: Path) -> None:
    code = (
        "import sys; from agent.adapters.journal import open_journal; open_journal('info', 'console').info('x')\n"
        "print('rich' in sys.modules)\nimport structlog\ntry:\n    import rich.text\nexcept ModuleNotFoundError: pass"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n" and "x" in ran.stderr
