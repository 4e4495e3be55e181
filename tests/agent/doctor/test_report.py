"""What a person sees: aligned, folded, coloured on a terminal only, with a line of progress that goes away again."""

from __future__ import annotations

import io

import pytest

from agent.doctor.finding import fails, limited, works
from agent.doctor.report import Progress, colour_wanted, render

BROKER, DISK = limited("broker", "refused", "check mqtt.host"), works("disk", "1.0 ms")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_findings_are_aligned_with_the_advice_beneath() -> None:
    assert render([BROKER, DISK], colour=False).splitlines() == [
        "limited  broker   refused",
        "                  -> check mqtt.host",
        "works    disk     1.0 ms",
        "",
        "The daemon works here; 1 of 2 checks found something that is lost.",
    ]


def test_a_verdict_ends_it() -> None:
    assert render([DISK], colour=False).endswith("All 1 checks passed.")
    assert "cannot do its work" in render([DISK, BROKER, fails("bundle", "x", "y")], colour=False)


def test_long_lines_are_folded_within_the_terminal_and_stay_aligned() -> None:
    long = limited("sensors", "many words " * 20, "do this " * 20)
    for line in render([long], colour=False, width=70).splitlines()[:-2]:
        assert len(line) <= 70 and (line.startswith("limited  sensors  ") or line.startswith(" " * 18))


def test_colour_is_around_the_state_only_and_changes_no_column() -> None:
    coloured = render([BROKER], colour=True).splitlines()[0]
    assert coloured == "\033[33mlimited\033[0m  broker   refused"
    assert "\033" not in render([BROKER, DISK], colour=False)


def test_progress_is_shown_on_a_terminal_and_wiped_away() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = Progress(stream)
        progress.trying("torch")
        progress.done()
    assert file.getvalue() == ""
    assert "trying torch" in terminal.getvalue() and terminal.getvalue().endswith("\r\033[K")


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colour_wanted(Terminal()) and not colour_wanted(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour_wanted(Terminal())
