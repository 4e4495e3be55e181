"""The one door for messages, and what waits behind it: live messages in memory, durable ones in the outbox.

Nothing gets in without the gate having seen its type, and nothing stored earlier gets out without the gate having seen
its class again. Who comes back after a day offline floods nobody: the outbox is emptied at a bounded pace, what an
operator waits for first, and what is new has its share meanwhile.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.adapters.egress import EgressDenied, EgressGate
from agent.adapters.link_events import TooLarge
from agent.adapters.outbox import Outbox, Row, Until
from agent.adapters.pace import Pace
from transfer import wire

MAX_LIVE = 200
"""Live messages accepted for a connection that is slower than its callers."""
STORED_PER_S = 50.0
"""Rows of the outbox sent in a second: a backlog of a day is gone in minutes, and a fleet of a thousand devices that
come back together is 50,000 messages a second, which a broker can take."""
BLOCKED_AFTER = 3
"""Connections in a row that ended with the same row as the first without its acknowledgement."""
STORED_AT_ONCE = 20
"""As many as may be in flight: the questions of a usual round are never held up."""


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

    def __init__(
        self,
        gate: EgressGate,
        outbox: Outbox,
        limit_bytes: int,
        report: Callable[[TooLarge], None],
        pace: Pace | None = None,
    ) -> None:
        self.limit_bytes = limit_bytes
        """Largest payload let in or out; the link lowers it to what the broker takes."""
        self._gate = gate
        self._outbox = outbox
        self._report = report
        self._live: deque[Sealed] = deque()
        self._live_is_next = True
        self._pace = pace or Pace(STORED_PER_S, STORED_AT_ONCE)
        self._after_id = {True: 0, False: 0}  # by whether it is critical
        self._has_news = {True: True, False: True}
        self._blocking: tuple[int, int] = (0, 0)  # the id of a row, and how many connections it was the first of
        self.live_dropped = 0
        """Live messages that found no room since the start."""

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
            self.live_dropped += 1
            return False
        self._live.append(sealed)
        return True

    def add_durable(self, sealed: Sealed, key: str, *, until: Until, critical: bool) -> bool:
        """Into the outbox. False where there is no room or the disk failed."""
        added = self._outbox.add(
            key, sealed.topic, sealed.payload, sealed.egress, retain=sealed.retain, until=until, critical=critical
        )
        self._has_news[critical] = True
        return added

    def next(self) -> Sealed | None:
        """What to send next on this connection: critical rows, then live messages and the other rows in turn; each row
        once, and each kind in order. None: nothing waits, or only rows that the pace holds back for `wait_s`."""
        if sealed := self._stored(critical=True):
            return sealed
        self._live_is_next = not self._live_is_next
        if self._live and not self._live_is_next:
            return self._live.popleft()
        if sealed := self._stored(critical=False):
            return sealed
        return self._live.popleft() if self._live else None

    @property
    def wait_s(self) -> float:
        """After `next` gave nothing: how long the pace holds the next row back."""
        return self._pace.wait_s() if any(self._has_news.values()) else math.inf

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

    def connection_lost(self, first_unacknowledged: Sealed | None = None) -> bool:
        """Live messages are lost with their connection; the next one begins the outbox from its beginning.

        Some brokers hang up on what they do not like, and would again and again, before the rest has had its turn. So
        the row that may be it goes last after BLOCKED_AFTER connections: True then.
        """
        row = first_unacknowledged.row if first_unacknowledged else None
        before, times = self._blocking
        if row is not None:
            self._blocking = (row.id, times + 1 if row.id == before else 1)
        blocked = row is not None and self._blocking[1] >= BLOCKED_AFTER
        if row is not None and blocked:
            self._outbox.postpone(row)
        self._live.clear()
        self._after_id = {True: 0, False: 0}
        self._has_news = {True: True, False: True}
        self._outbox.expire()
        return blocked

    def _stored(self, *, critical: bool) -> Sealed | None:
        """The next row of that kind, where there is one and the pace allows it."""
        while self._has_news[critical] and self._pace.wait_s() == 0:
            self._has_news[critical] = False  # before the look: what is added meanwhile raises it again
            for row in self._outbox.pending(1, after_id=self._after_id[critical], critical=critical):
                self._has_news[critical] = True
                self._after_id[critical] = row.id
                if self._may_leave(row):
                    self._pace.take()
                    return Sealed(row.topic, row.payload, row.egress, 1, row.retain, row)
                self._outbox.delivered(row)
        return None

    def _may_leave(self, row: Row) -> bool:
        if len(row.payload) > self.limit_bytes:
            self._report(TooLarge(row.topic, len(row.payload), self.limit_bytes, row.key))
            return False
        try:
            self._gate.check_stored(row.egress, len(row.payload))
        except EgressDenied:  # the settings have become stricter; the gate has counted it
            return False
        return True
