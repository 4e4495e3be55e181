"""`understudy fleet watch`: a live table on a terminal, lines elsewhere, JSON lines for a program."""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from cloud_teacher.broker_link import BrokerAddress, BrokerLink
from cloud_teacher.fleet import COLUMNS, FleetView, Report, plain_line, watched
from transfer.wire import Topics

if TYPE_CHECKING:
    from rich.table import Table

Form = Literal["table", "lines", "json"]


def best_form(json: bool) -> Form:
    """A table needs a terminal and the library rich, which comes with the demo's extra."""
    if json:
        return "json"
    try:
        import rich  # noqa: F401
    except ImportError:
        return "lines"
    return "table" if sys.stdout.isatty() else "lines"


def watch(address: BrokerAddress, topics: Topics, form: Form, stop: threading.Event) -> None:
    """Show what the devices say until `stop`. Raises BrokerError if the broker cannot be reached."""
    view = FleetView()
    live = _live(view) if form == "table" else None

    def show(message: Report) -> None:
        if live is not None:
            live.update(table(view))
        elif form == "json":
            print(msgspec.json.encode(message).decode(), flush=True)
        else:
            print(plain_line(message), flush=True)

    def receive(topic: str, payload: bytes) -> None:
        message = view.take(topic, payload)
        if message is not None:
            show(message)

    link = BrokerLink(address, subscribe=lambda _: watched(topics), receive=receive)
    with live if live is not None else nullcontext():
        link.connect()
        try:
            stop.wait()
        finally:
            link.close()


def _live(view: FleetView) -> Any:
    from rich.live import Live

    return Live(table(view), refresh_per_second=4)


def table(view: FleetView) -> Table:
    from rich.table import Table
    from rich.text import Text

    shown = Table(*COLUMNS)
    for row in view.rows():
        shown.add_row(*(Text(cell) for cell in row))  # as Text: what devices write is no markup
    return shown
