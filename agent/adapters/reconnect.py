"""When to try the broker again, and with which version of MQTT. Pure but for the dice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

Protocol = Literal["5", "3.1.1"]


class Backoff:
    """Waits that double from `base_s` to `cap_s`, each shortened by up to half at random.

    The dice keep a fleet that lost its broker at one moment from returning at one moment.
    """

    def __init__(self, base_s: float, cap_s: float, roll: Callable[[], float] = random.random) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._roll = roll
        self._failures = 0

    def next_s(self) -> float:
        """How long to wait before the next attempt."""
        longest_s = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return longest_s * (0.5 + 0.5 * self._roll())

    def reset(self) -> None:
        self._failures = 0


class Versions:
    """Which MQTT version to try: 5 first, 3.1.1 where 5 is not understood, and what worked from then on.

    A broker that does not speak 5 may say so, hang up, or say nothing at all. So every connection that ends before it
    was answered makes us try the other version next; 5 is also tried again after some connections, for the broker may
    be a new one.
    """

    TRY_5_AGAIN_AFTER = 10

    def __init__(self) -> None:
        self._current: Protocol = "5"
        self._connections = 0
        self._unanswered = 0

    @property
    def current(self) -> Protocol:
        return self._current

    @property
    def patience_s(self) -> float:
        """How long to wait for an answer. Some brokers (amqtt) just fall silent on a 5, so its first try is short."""
        return 2.0 if self._current == "5" and self._unanswered == 0 else 10.0

    def connected(self) -> None:
        """The current version works."""
        self._connections += 1
        self._unanswered = 0

    def unanswered(self) -> bool:
        """The connection ended before the broker accepted it. True where the other version is worth trying at once."""
        self._connections = 0
        self._unanswered += 1
        self._current = "3.1.1" if self._current == "5" else "5"
        return self._current == "3.1.1"

    def lost(self) -> None:
        """An accepted connection ended."""
        if self._current == "3.1.1" and self._connections >= self.TRY_5_AGAIN_AFTER:
            self._current, self._connections = "5", 0
