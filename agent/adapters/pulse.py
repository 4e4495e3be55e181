"""Whether the daemon still serves, and systemd's watchdog, which is fed only as long as it does.

A loop that turns proves little: what matters is that images come in, are classified and are recorded. So every part
of that chain gives a sign, and one that is missing lets the watchdog bite: systemd starts the daemon anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from transfer.notify import Notifier

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SILENCE_S = 30.0
"""The slowest image takes seconds. A part that was silent for so long hangs."""
LEAST_SILENCE_S = 2.0
"""The serving thread shows itself every second while no image comes."""


class Pulse:
    """`beat` is called by the daemon's loop, `serving` from any thread. `signs`: part -> whether it is at work."""

    def __init__(
        self,
        notifier: Notifier,
        signs: Mapping[str, Callable[[], bool]],
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier, self._signs, self._log, self._now = notifier, signs, log, now
        self._missing: list[str] = []
        self._beaten_at = now()

    def beat(self) -> None:
        """Feed the watchdog if every part is at work; say once which one is not."""
        missing = [part for part, at_work in self._signs.items() if not at_work()]
        if missing != self._missing:
            if missing:
                self._log.error("not_serving", missing=missing)
                self._notifier.status("not serving: " + ", ".join(missing))
            else:
                self._log.info("serving_again")
                self._notifier.status("serving")
            self._missing = missing
        if not missing:
            self._beaten_at = self._now()
            self._notifier.watchdog()

    def serving(self) -> bool:
        """Also false when the loop itself hangs."""
        return not self._missing and self._now() - self._beaten_at < silence_s(self._notifier)


def silence_s(notifier: Notifier) -> float:
    """How long a part may be silent: where systemd watches, half its patience is left for it to be told."""
    if notifier.watchdog_s is None:
        return SILENCE_S
    return max(LEAST_SILENCE_S, min(SILENCE_S, notifier.watchdog_s / 2))
