"""What the broker holds for us until we say that it is safe here."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import count

_numbers = count(1)
"""One count for all connections of a process: what arrived on one is never taken for what arrived on another."""


@dataclass(frozen=True)
class Receipt:
    """Of one message that arrived and was not acknowledged yet. 0: of none."""

    number: int


class Receipts:
    """Messages are acknowledged in the order in which they arrived, as MQTT wants it (MQTT 5, section 4.6): one that is
    not settled yet holds back those behind it. What a lost connection owed is void, for the broker sends it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owed: dict[int, int] = {}  # number -> message id, as they arrived
        self._settled: set[int] = set()

    def begin(self) -> None:
        """A new connection."""
        with self._lock:
            self._owed.clear()
            self._settled.clear()

    def arrived(self, message_id: int) -> Receipt:
        with self._lock:
            number = next(_numbers)
            self._owed[number] = message_id
            return Receipt(number)

    def settle(self, receipt: Receipt) -> None:
        """The message need not come again. From any thread."""
        with self._lock:
            if receipt.number in self._owed:
                self._settled.add(receipt.number)

    def due(self) -> list[int]:
        """Ids of the messages to be acknowledged now, each once."""
        with self._lock:
            ids = []
            for number in list(self._owed):
                if number not in self._settled:
                    break
                self._settled.discard(number)
                ids.append(self._owed.pop(number))
            return ids
