"""`understudy agent status --follow`: the page in place, a line for each change where there is no terminal."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TextIO

from agent.status_page import render, summary

EVERY_S = 1.0
HIDE_CURSOR, SHOW_CURSOR = "\033[?25l", "\033[?25h"

Status = dict[str, Any]


def follow(ask: Callable[[], Status], out: TextIO, *, as_json: bool, colour: bool) -> None:
    """Until Ctrl-C, which ends it without an error and leaves the last page standing."""
    try:
        if as_json:
            _each(ask, lambda status: json.dumps(status), out)
        elif not out.isatty():
            _changes(ask, out)
        else:
            _in_place(ask, out, colour)
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the reader has seen enough


def _seconds() -> Iterator[None]:
    while True:
        yield
        time.sleep(EVERY_S)


def _each(ask: Callable[[], Status], line: Callable[[Status], str], out: TextIO) -> None:
    for _ in _seconds():
        print(line(ask()), file=out, flush=True)


def _changes(ask: Callable[[], Status], out: TextIO) -> None:
    said = ""
    for _ in _seconds():
        line = summary(ask())
        if line != said:
            print(f"{time.strftime('%H:%M:%S')} {line}", file=out, flush=True)
        said = line


def _in_place(ask: Callable[[], Status], out: TextIO, colour: bool) -> None:
    """Each page over the one before, without a flash: line by line, each cleared to its end."""
    height = 0
    out.write(HIDE_CURSOR)
    try:
        for _ in _seconds():
            size = shutil.get_terminal_size()
            page = render(ask(), colour=colour, width=size.columns)
            # A line more than the screen would scroll, and the way back up would miss.
            lines = list(islice(page.splitlines(), size.lines - 1))
            back = f"\033[{height}F" if height else ""
            out.write(back + "".join(f"{line}\033[K\n" for line in lines) + "\033[J")
            out.flush()
            height = len(lines)
    finally:
        out.write(SHOW_CURSOR)
        out.flush()
