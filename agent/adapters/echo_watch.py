"""Whether a broker that says we are connected still routes our messages: a device's note to itself must come back."""

from __future__ import annotations


class EchoWatch:
    """For one connection; times in monotonic seconds. An echo is due each keepalive; two without life are too long.

    Whatever the broker routes or acknowledges counts as life, not echoes alone: behind a long upload they come late.
    MQTT's own ping answer does not count: brokers answer it that route nothing.
    """

    def __init__(self, keepalive_s: float, now_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._alive_s = now_s
        self.next_s = now_s
        self.sent = 0
        self.proven = False
        """An echo has come back on this connection, so the broker lets us hear ourselves."""

    def due(self, now_s: float) -> bool:
        """Whether to send one now; True once each keepalive."""
        if now_s < self.next_s:
            return False
        self.next_s = now_s + self._keepalive_s
        self.sent += 1
        return True

    def alive(self, now_s: float) -> None:
        """The broker has routed or acknowledged something."""
        self._alive_s = now_s

    def overdue(self, now_s: float) -> bool:
        return now_s - self._alive_s > 2 * self._keepalive_s
