"""How a service of the cloud is asked to end."""

from __future__ import annotations

import signal
import threading


def stop_on_signals() -> threading.Event:
    """Set by SIGTERM or SIGINT; the service then finishes what it has begun."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
