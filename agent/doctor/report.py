"""Findings as a person reads them: aligned, the advice beneath, in colour on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from agent.doctor.finding import Finding

COLOURS = {"works": "\033[32m", "limited": "\033[33m", "fails": "\033[31m"}
PLAIN, CLEAR_LINE = "\033[0m", "\r\033[K"
STATE_WIDTH, WHAT_WIDTH = 8, 8
LEAST_WIDTH, MOST_WIDTH = 60, 100


def render(findings: Sequence[Finding], *, colour: bool, width: int = MOST_WIDTH) -> str:
    """`width`: columns of the terminal; text is folded within them, words are never cut."""
    indent = " " * (STATE_WIDTH + WHAT_WIDTH + 2)
    fold = textwrap.TextWrapper(
        max(LEAST_WIDTH, min(width, MOST_WIDTH)), break_long_words=False, break_on_hyphens=False
    )
    lines = []
    for finding in findings:
        state = finding["state"]
        head = f"{state:<{STATE_WIDTH}} {finding['what']:<{WHAT_WIDTH}} "
        fold.initial_indent, fold.subsequent_indent = head, indent
        text = fold.fill(finding["detail"])
        lines.append(f"{COLOURS[state]}{state}{PLAIN}{text[len(state) :]}" if colour else text)
        if finding["advice"]:
            fold.initial_indent, fold.subsequent_indent = f"{indent}-> ", f"{indent}   "
            lines.append(fold.fill(finding["advice"]))
    return "\n".join([*lines, "", verdict(findings)])


def verdict(findings: Sequence[Finding]) -> str:
    count = Counter(finding["state"] for finding in findings)
    if count["fails"]:
        return f"The daemon cannot do its work here: {count['fails']} of {len(findings)} checks failed."
    if count["limited"]:
        return f"The daemon works here; {count['limited']} of {len(findings)} checks found something that is lost."
    return f"All {len(findings)} checks passed."


class Progress:
    """Says on a terminal what is being tried, in one line that is wiped away again; elsewhere it is silent."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._shown = stream.isatty()

    def trying(self, what: str) -> None:
        self._write(f"{CLEAR_LINE}trying {what} ...")

    def done(self) -> None:
        self._write(CLEAR_LINE)

    def _write(self, text: str) -> None:
        if self._shown:
            self._stream.write(text)
            self._stream.flush()


def colour_wanted(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def columns() -> int:
    return shutil.get_terminal_size().columns
