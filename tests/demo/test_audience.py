"""What the person watching reads, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import sys

import pytest

from demo.audience import Live, Plain, audience

ROWS = [("what", "before", "after"), ("old categories", "95 %", "94 %"), ("new", "0 %", "90 %")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def text_of(stream: io.StringIO) -> str:
    """Without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_plain_lines_carry_the_time_and_a_mark() -> None:
    stream = io.StringIO()
    see = Plain(stream)
    see.say("hello")
    see.say("learned", kind="good")
    see.say("lost", kind="bad")
    see.close()
    lines = stream.getvalue().splitlines()
    assert all(re.match(r" +\d+\.\d s  ", line) for line in lines)
    assert [line.split(" s  ")[1] for line in lines] == ["hello", "ok  learned", "!!  lost"]


def test_plain_bars_are_a_line_at_the_start_and_at_the_end() -> None:
    stream = io.StringIO()
    see = Plain(stream)
    for done in range(101):
        see.progress("collect", done, 100, "teal")
    see.progress("ask", 2, 2)
    told = [line.split(" s  ")[1] for line in stream.getvalue().splitlines()]
    assert told == ["collect: 0 of 100 (teal)", "collect: 100 of 100 (teal)", "ask: 2 of 2"]


def test_plain_bars_speak_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    see = Plain(stream)
    monkeypatch.setattr(Plain, "EVERY_S", 0.0)
    for done in range(3):
        see.progress("collect", done, 100)
    assert len(stream.getvalue().splitlines()) == 3


def test_a_plain_table_lines_up() -> None:
    stream = io.StringIO()
    Plain(stream).table("Result", ROWS)
    assert stream.getvalue().splitlines() == [
        "",
        "Result",
        "  what             before   after",
        "  --------------   ------   -----",
        "  old categories     95 %    94 %",
        "  new                 0 %    90 %",
        "",
    ]


def test_live_says_everything_too() -> None:
    pytest.importorskip("rich", reason="rich is not installed: the demo shows plain lines")
    stream = Terminal()
    see = Live(stream)
    see.say("learned [3 of 4]", kind="good")
    for done in range(3):
        see.progress("collect", done, 2, "teal")
    see.progress("collect", 2, 2)  # the stage comes again
    see.table("Result", ROWS)
    see.close()
    text = text_of(stream)
    for part in ("learned [3 of 4]", "collect: done (teal)", "Result", "old categories", "94 %"):
        assert part in text


def test_who_watches_decides_how(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich", reason="rich is not installed: the demo shows plain lines")
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, Terminal())
    live = audience(json_last=False)
    live.close()
    assert isinstance(live, Live) and isinstance(audience(json_last=False, plain=True), Plain)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert isinstance(audience(json_last=False), Plain)


def test_with_json_last_everything_else_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    see = audience(json_last=True)
    see.say("hello")
    see.table("Result", ROWS)
    told = capsys.readouterr()
    assert told.out == "" and "hello" in told.err and "Result" in told.err


def test_without_rich_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    assert isinstance(audience(json_last=False), Plain)
