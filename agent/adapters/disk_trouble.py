"""Says once that the disk refuses something, and once that it takes it again, however often it is tried in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

QUIET_S = 10.0
"""A disk that has refused nothing for so long is well again; one that fails now and then is not called so often."""

Trouble = tuple[int, str]
"""How often the disk has refused, and why it last did: "" once something was written since."""


class DiskTrouble:
    """`look` is called by the daemon's loop, `refused` from any thread. `parts`: what is stored -> its `Trouble`."""

    def __init__(
        self,
        parts: Mapping[str, Callable[[], Trouble]],
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts, self._log, self._now = parts, log, now
        self._counts = dict.fromkeys(parts, 0)
        self._failed_at: dict[str, float] = {}

    def look(self) -> None:
        now = self._now()
        for part, trouble in self._parts.items():
            count, why = trouble()
            if count != self._counts[part]:
                self._counts[part] = count
                if part not in self._failed_at:
                    self._log.error("disk_refuses", which=part, error=why)
                self._failed_at[part] = now
            elif part in self._failed_at and not why and now - self._failed_at[part] >= QUIET_S:
                del self._failed_at[part]
                self._log.warning("disk_takes_again", which=part, refused=count)

    def refused(self) -> dict[str, int]:
        """How often the disk has refused each part since the start; parts without trouble are left out."""
        counts = {part: trouble()[0] for part, trouble in self._parts.items()}
        return {part: count for part, count in counts.items() if count}
