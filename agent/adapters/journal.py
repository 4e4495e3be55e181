"""The daemon's log: structlog, one event id a kind of line; JSON where a program reads, words where a person does."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal, cast

from agent.adapters.lean_import import standing_in

# structlog imports asyncio (for its async methods) and rich (for colour) where it finds them. The daemon uses neither,
# and together they cost it 6 MiB (measured on x86-64, of 52 after its imports).
with standing_in("asyncio", "rich", "rich.console", "rich.traceback"):
    try:
        import structlog
    except ImportError:  # a later structlog that takes more of them than a name: memory is then the lesser evil
        structlog = None  # type: ignore[assignment]
if structlog is None:
    import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def open_journal(level: str, style: Literal["auto", "json", "console"]) -> FilteringBoundLogger:
    """A logger to standard error, where systemd's journal and a terminal both read."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    render = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return cast("FilteringBoundLogger", structlog.get_logger())
