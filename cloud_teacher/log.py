"""Logs of the cloud's services: lines for a person, or JSON for a program, on standard output."""

from __future__ import annotations

import sys

import structlog
from structlog.typing import FilteringBoundLogger, Processor


def logger(json: bool) -> FilteringBoundLogger:
    """A service's log is what it has to say, so it goes to standard output; each line leaves at once."""
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    structlog.configure(
        processors=[*shared, render],
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        wrapper_class=structlog.make_filtering_bound_logger(20),
    )
    log: FilteringBoundLogger = structlog.get_logger()
    return log
