"""What the person watching sees: stages with a bar, the device's own words as they come, a closing table.

On a terminal through rich, in colour; elsewhere plain lines. Everything goes to standard error when the last line of
standard output is to be JSON for a program.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol


class Audience(Protocol):
    def say(self, text: str, *, kind: str = "") -> None:
        """One line. `kind`: '' | 'good' | 'bad' | 'quiet' | 'title'."""

    def progress(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """A stage's progress; the same stage again moves its bar, done == total ends it."""

    def table(self, title: str, rows: Sequence[tuple[str, ...]]) -> None:
        """The first row is the head."""

    def close(self) -> None: ...


class Plain:
    """Lines, with the seconds since the start; bars become a line every few seconds."""

    EVERY_S = 3.0

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._began_s = time.monotonic()
        self._told_at: dict[str, float] = {}

    def say(self, text: str, *, kind: str = "") -> None:
        mark = {"good": "ok  ", "bad": "!!  "}.get(kind, "")
        print(f"{time.monotonic() - self._began_s:6.1f} s  {mark}{text}", file=self._stream, flush=True)

    def progress(self, stage: str, done: int, total: int, detail: str = "") -> None:
        now = time.monotonic()
        if done < total and now - self._told_at.get(stage, now - self.EVERY_S) < self.EVERY_S:
            return
        self._told_at[stage] = now
        self.say(f"{stage}: {done} of {total}" + (f" ({detail})" if detail else ""))

    def table(self, title: str, rows: Sequence[tuple[str, ...]]) -> None:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        print(f"\n{title}", file=self._stream)
        for number, row in enumerate(rows):
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            print("  " + "   ".join(cells).rstrip(), file=self._stream)
            if number == 0:
                print("  " + "   ".join("-" * w for w in widths), file=self._stream)
        print(file=self._stream, flush=True)

    def close(self) -> None:
        pass


class Live:
    """rich: one progress area below, everything said above it."""

    STYLES: ClassVar = {"good": "bold green", "bad": "bold red", "quiet": "dim", "title": "bold cyan"}

    def __init__(self, stream: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(file=stream, highlight=False)
        self._bars = Progress(
            TextColumn("  {task.description:<28}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._began_s = time.monotonic()
        self._bars.start()

    def say(self, text: str, *, kind: str = "") -> None:
        from rich.text import Text

        line = Text(f"{time.monotonic() - self._began_s:6.1f} s  ", style="dim")
        line.append(text, style=self.STYLES.get(kind, ""))
        self._bars.console.print(line)

    def progress(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, detail=detail)
        self._bars.update(self._tasks[stage], completed=done, total=total, detail=detail)
        if done >= total:
            self._bars.remove_task(self._tasks.pop(stage))
            self.say(f"{stage}: done" + (f" ({detail})" if detail else ""), kind="quiet")

    def table(self, title: str, rows: Sequence[tuple[str, ...]]) -> None:
        from rich.table import Table

        table = Table(title=title, title_style="bold", header_style="bold cyan", title_justify="left")
        for number, name in enumerate(rows[0]):
            table.add_column(name, justify="left" if number == 0 else "right")
        for row in rows[1:]:
            table.add_row(*row)
        self._bars.console.print()
        self._bars.console.print(table)

    def close(self) -> None:
        self._bars.stop()


def audience(*, json_last: bool, plain: bool = False) -> Audience:
    stream = sys.stderr if json_last else sys.stdout
    if stream.isatty() and not plain:
        try:
            return Live(stream)
        except ImportError:
            return Plain(stream)
    return Plain(stream)
