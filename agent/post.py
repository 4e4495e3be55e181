"""What comes over the link: orders become events, the teacher's answers go where they were waited for.

The broker keeps an order until what follows from it is durable. Anything else it may forget at once: an answer that was
not stored is asked for again, and what was refused would be refused again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from agent.adapters.inbox import Inbox, OrderRefused
from agent.adapters.mqtt import Denied, Down, LinkEvent, Received, TooLarge, Up
from agent.adapters.receipts import Receipt
from agent.adapters.teacher_client import TeacherClient
from agent.announcer import Announcer
from agent.core import events as ev
from transfer import wire

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Put(Protocol):
    """Hands an event to the daemon's loop, from any thread. `safe` is called when what follows from it is durable."""

    def __call__(self, event: ev.Event, safe: Callable[[], None] | None = None) -> None: ...


class Post:
    """Called by the link's thread."""

    def __init__(
        self,
        topics: wire.Topics,
        inbox: Inbox,
        teacher: TeacherClient,
        announcer: Announcer,
        log: FilteringBoundLogger,
        put: Put,
        settle: Callable[[Receipt], None],
        now: Callable[[], float],
    ) -> None:
        self._topics, self._inbox, self._teacher, self._announcer = topics, inbox, teacher, announcer
        self._log, self._put, self._settle, self._now = log, put, settle, now

    def take(self, event: LinkEvent) -> None:
        order = None
        try:
            if isinstance(event, Received):
                order = self._open(event)
            else:
                self._take(event)
        except Exception:
            # A message of somebody else's must not end the link's thread, whatever defect of ours it has found.
            self._log.exception("link_event_failed", event_type=type(event).__name__)
        if order is not None and isinstance(event, Received):
            self._put(order, partial(self._settle, event.receipt))
        elif isinstance(event, Received):
            self._settle(event.receipt)

    def _take(self, event: Up | Down | Denied | TooLarge) -> None:
        if isinstance(event, Up):
            self._log.info("link_up", protocol=event.protocol)
            self._put(ev.LinkCame(self._now()))
        elif isinstance(event, Down):
            self._log.warning("link_down", reason=event.reason)
            self._put(ev.LinkWent(self._now(), event.reason))
        elif isinstance(event, Denied):
            self._log.warning("broker_denied", topic=event.topic, reason=event.reason)
        else:
            self._log.warning("message_too_large", topic=event.topic, size=event.size_bytes, limit=event.limit_bytes)

    def _open(self, message: Received) -> ev.Event | None:
        """The event that an order means."""
        try:
            if message.topic == self._topics.teacher_reply:
                self._teacher.take(message.payload)
            else:
                return self._inbox.read(message.topic, message.payload)
        except (wire.WireError, OrderRefused) as error:
            self._announcer.event("message_refused", {"topic": message.topic, "code": error.code, "error": str(error)})
        except OSError as error:
            self._log.error("answer_not_stored", error=str(error))
        return None
