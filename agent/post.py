"""What comes over the link: orders become events, the teacher's answers go where they were waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.adapters.inbox import Inbox, OrderRefused
from agent.adapters.mqtt import Denied, Down, LinkEvent, Received, TooLarge, Up
from agent.adapters.teacher_client import TeacherClient
from agent.announcer import Announcer
from agent.core import events as ev
from transfer import wire

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Post:
    """Called by the link's thread."""

    def __init__(
        self,
        topics: wire.Topics,
        inbox: Inbox,
        teacher: TeacherClient,
        announcer: Announcer,
        log: FilteringBoundLogger,
        put: Callable[[ev.Event], None],
        now: Callable[[], float],
    ) -> None:
        self._topics, self._inbox, self._teacher, self._announcer = topics, inbox, teacher, announcer
        self._log, self._put, self._now = log, put, now

    def take(self, event: LinkEvent) -> None:
        try:
            self._take(event)
        except Exception:
            # A message of somebody else's must not end the link's thread, whatever defect of ours it has found.
            self._log.exception("link_event_failed", event_type=type(event).__name__)

    def _take(self, event: LinkEvent) -> None:
        if isinstance(event, Up):
            self._log.info("link_up", protocol=event.protocol)
            self._put(ev.LinkCame(self._now()))
        elif isinstance(event, Down):
            self._log.warning("link_down", reason=event.reason)
            self._put(ev.LinkWent(self._now(), event.reason))
        elif isinstance(event, Denied):
            self._log.warning("broker_denied", topic=event.topic, reason=event.reason)
        elif isinstance(event, TooLarge):
            self._log.warning("message_too_large", topic=event.topic, size=event.size_bytes, limit=event.limit_bytes)
        elif isinstance(event, Received):
            self._open(event)

    def _open(self, message: Received) -> None:
        try:
            if message.topic == self._topics.teacher_reply:
                self._teacher.take(message.payload)
                return
            order = self._inbox.read(message.topic, message.payload)
        except (wire.WireError, OrderRefused) as error:
            self._announcer.event("message_refused", {"topic": message.topic, "code": error.code, "error": str(error)})
            return
        except OSError as error:
            self._log.error("answer_not_stored", error=str(error))
            return
        if order is not None:
            self._put(order)
