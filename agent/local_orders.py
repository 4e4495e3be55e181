"""Orders from this machine, over the control socket: accepted when they are written down, not before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.core import events as ev

WRITTEN_WITHIN_S = 5.0


class LocalOrders:
    """`give` is called by the control socket's thread, `taken` by the daemon's loop, after every event.

    `kinds`: what may be ordered, and the event that each order is.
    """

    def __init__(
        self,
        kinds: Mapping[str, Callable[[float, str], ev.Event]],
        session: int,
        put: Callable[[ev.Event], None],
        now: Callable[[], float],
    ) -> None:
        self._kinds, self._session, self._put, self._now = kinds, session, put, now
        self._awaited: dict[str, tuple[threading.Event, list[str]]] = {}

    def give(self, action: object) -> dict[str, Any]:
        """The answer for who ordered `action`; a power cut after it finds the order written down."""
        make = self._kinds.get(str(action))
        if make is None:
            return {"error": f"unknown request {action!r}; known are status, {', '.join(self._kinds)}"}
        identity = f"local-{self._session}-{time.monotonic_ns()}"
        written, objections = self._awaited.setdefault(identity, (threading.Event(), []))
        self._put(make(self._now(), identity))
        if not written.wait(WRITTEN_WITHIN_S):
            self._awaited.pop(identity, None)
            return {"error": f"{action}: the daemon is too busy to say whether it was taken; see status"}
        if objections:
            return {"error": f"{action}: begun, but not written down, so a restart may undo it: {objections[0]}"}
        return {"accepted": action, "order": identity}

    def taken(self, event: ev.Event, objection: str) -> None:
        """`event` has had its effect; `objection`: why that could not be written down, "" where it was."""
        awaited = self._awaited.pop(getattr(event, "command_id", ""), None)
        if awaited is not None:
            awaited[1].extend([objection] if objection else [])
            awaited[0].set()
