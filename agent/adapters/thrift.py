"""What is left unwritten while the card is to be spared, and how much that was."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Thrift:
    """`why`: the core's reason to spare the card, "" for none. State, orders and reports never ask here."""

    def __init__(self, why: Callable[[], str] = lambda: "") -> None:
        self._why = why
        self._left_out: dict[str, int] = {}

    def skips(self, what: str, count: int = 1) -> bool:
        """Whether these are not to be written now; then they are counted. Each `what` belongs to one thread."""
        if not self._why():
            return False
        self._left_out[what] = self._left_out.get(what, 0) + count
        return True

    @property
    def left_out(self) -> Mapping[str, int]:
        """Since the start, by what they were."""
        return dict(self._left_out)
