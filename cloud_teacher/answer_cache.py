"""The last answers, so that a device that did not receive one whole gets the rest without it being computed again."""

from __future__ import annotations

from collections import OrderedDict


class AnswerCache:
    """The last answers by request, up to a number of bytes; the longest unused go first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> bytes | None:
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def put(self, key: str, answer: bytes) -> None:
        if key in self._answers or len(answer) > self._most_bytes:
            return
        self._answers[key] = answer
        self._bytes += len(answer)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._answers.popitem(last=False)[1])
