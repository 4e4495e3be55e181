"""How fast what has waited is sent: some at once, then so many a second."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """`burst` things at once; the right to more comes back at `per_s`. Times in monotonic seconds."""

    def __init__(self, per_s: float, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._now = now
        self._left = float(burst)
        self._counted_at = now()

    def take(self) -> bool:
        """Whether one more may go now; True counts it as gone."""
        if self.wait_s() > 0:
            return False
        self._left -= 1
        return True

    def wait_s(self) -> float:
        """Until one more may go; 0 where one may go now."""
        now = self._now()
        self._left = min(self._burst, self._left + (now - self._counted_at) * self._per_s)
        self._counted_at = now
        return 0.0 if self._left >= 1 - 1e-9 else (1 - self._left) / self._per_s
