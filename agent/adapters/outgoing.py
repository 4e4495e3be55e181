"""The one door for messages, and what waits behind it: live messages in memory, durable ones in the outbox.

Nothing gets in without the gate having seen its type, and nothing stored earlier gets out without the gate having seen
its class again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.adapters.egress import EgressDenied, EgressGate
from agent.adapters.link_events import TooLarge
from agent.adapters.outbox import Outbox, Row, Until
from transfer import wire

MAX_LIVE = 200
"""Live messages accepted for a connection that is slower than its callers."""


@dataclass(frozen=True)
class Sealed:
    """A message the gate has let through, encoded. `row` is where it came from, if that was the outbox."""

    topic: str
    payload: bytes
    egress: str
    qos: int
    retain: bool
    row: Row | None = None


class Outgoing:
    """Callers put messages in from any thread; the link's thread takes them out."""

    def __init__(self, gate: EgressGate, outbox: Outbox, limit_bytes: int, report: Callable[[TooLarge], None]) -> None:
        self.limit_bytes = limit_bytes
        """Largest payload let in or out; the link lowers it to what the broker takes."""
        self._gate = gate
        self._outbox = outbox
        self._report = report
        self._live: deque[Sealed] = deque()
        self._after_id = 0
        self._outbox_has_news = True

    def seal(self, message: wire.AnyMessage, topic: str, *, retain: bool, key: str | None = None) -> Sealed | None:
        """Gate, encoding, size. Raises EgressDenied; None where the message is too large (reported)."""
        if not topic or "+" in topic or "#" in topic:
            raise ValueError(f"{topic!r} is not a topic that can be published to")
        self._gate.check(message)
        payload = wire.encode(message, limit_bytes=wire.MAX_TRANSFER_BYTES)
        if len(payload) > self.limit_bytes:
            self._report(TooLarge(topic, len(payload), self.limit_bytes, key))
            return None
        # Predictions are many and soon stale, an echo that needs repeating has failed: neither is worth a PUBACK.
        qos = 0 if isinstance(message, wire.Prediction | wire.Echo) else 1
        return Sealed(topic, payload, type(message).egress.value, qos, retain)

    def add_live(self, sealed: Sealed) -> bool:
        """For the present connection only. False where too many wait already."""
        if len(self._live) >= MAX_LIVE:
            return False
        self._live.append(sealed)
        return True

    def add_durable(self, sealed: Sealed, key: str, *, until: Until, critical: bool) -> bool:
        """Into the outbox. False where there is no room or the disk failed."""
        added = self._outbox.add(
            key, sealed.topic, sealed.payload, sealed.egress, retain=sealed.retain, until=until, critical=critical
        )
        self._outbox_has_news = True
        return added

    def next(self) -> Sealed | None:
        """What to send next on this connection: live messages first, then the outbox, each row once and in order."""
        if self._live:
            return self._live.popleft()
        while self._outbox_has_news:
            self._outbox_has_news = False  # before the look: what is added meanwhile raises it again
            for row in self._outbox.pending(1, after_id=self._after_id):
                self._outbox_has_news = True
                self._after_id = row.id
                if self._may_leave(row):
                    return Sealed(row.topic, row.payload, row.egress, 1, row.retain, row)
                self._outbox.delivered(row)
        return None

    def sent(self, sealed: Sealed) -> None:
        """`sealed` was handed to the connection."""
        self._gate.ledger.allowed(sealed.egress, len(sealed.payload))

    def taken(self, sealed: Sealed) -> None:
        """The broker has acknowledged `sealed`."""
        if sealed.row is not None and sealed.row.until == "puback":
            self._outbox.delivered(sealed.row)

    def acknowledged(self, key: str) -> None:
        """The application got its answer."""
        self._outbox.done(key)

    def connection_lost(self) -> None:
        """Live messages are lost with their connection; the next one begins the outbox from its beginning."""
        self._live.clear()
        self._after_id = 0
        self._outbox_has_news = True

    def _may_leave(self, row: Row) -> bool:
        if len(row.payload) > self.limit_bytes:
            self._report(TooLarge(row.topic, len(row.payload), self.limit_bytes, row.key))
            return False
        try:
            self._gate.check_stored(row.egress, len(row.payload))
        except EgressDenied:  # the settings have become stricter; the gate has counted it
            return False
        return True
