"""The daemon's log: structlog, one event id a kind of line; JSON where a program reads, words where a person does."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal, cast

# structlog imports rich where it is installed, which costs 12 MiB that the daemon never uses.
if "rich" not in sys.modules:
    sys.modules["rich"] = cast("object", None)  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]
else:
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
