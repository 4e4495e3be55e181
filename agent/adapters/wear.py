"""How much daemon and trainers have written to the card in a day.

The kernel counts what each process causes to be written (/proc/PID/io, write_bytes); a parent's count takes over its
children's when it reaps them. Flash wears out by this, not by what files hold in the end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from transfer.durable import write_atomic

MIB = 1024 * 1024
HOUR_S = 3600.0
HOURS = 24
SAVE_EVERY_S, SAVE_FROM_BYTES = 600.0, MIB
"""The tally is saved no more often, and not for less: what keeps count of writes is to write little itself. So much is
forgotten at a power cut."""
MAX_FILE_BYTES = 64 * 1024

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Tally(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. `age_s`: for how long, in all, the machine was on while something was counted here; `hours`: bytes
    written, by the hour of that age."""

    boot_id: Annotated[str, Meta(max_length=64)] = ""
    uptime_s: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    age_s: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    hours: Annotated[dict[int, Count], Meta(max_length=HOURS + 2)] = {}


class Wear:
    """A day is 24 hours for which the machine was on: nothing here looks at the time of day, which may jump. Used by
    one thread.

    `path`: where the tally is kept over restarts; one that cannot be read is begun anew (`unreadable` says why).
    """

    def __init__(
        self, path: Path, *, proc: Path = Path("/proc"), uptime_s: Callable[[], float] = lambda: _uptime_s()
    ) -> None:
        self._path, self._proc, self._uptime_s = path, proc, uptime_s
        self._boot_id = _boot_id(proc)
        self.unreadable = ""
        self._tally = self._load()
        self._counted = _written(proc, "self") or 0  # what was written before the first look is the start's
        self._add(self._counted)
        self._unsaved = self._counted
        self._saved_at_s = uptime_s()

    def measure(self, trainer_pid: int | None = None) -> float | None:
        """MiB written in the last 24 hours; None where the kernel does not tell."""
        own = _written(self._proc, "self")
        if own is None:
            return None
        running = (_written(self._proc, str(trainer_pid)) or 0) if trainer_pid is not None else 0
        # Never less than before: between its end and its being reaped a trainer is in neither count.
        grown = max(0, own + running - self._counted)
        self._counted += grown
        self._unsaved += grown
        self._add(grown)
        if self._unsaved >= SAVE_FROM_BYTES and self._uptime_s() - self._saved_at_s >= SAVE_EVERY_S:
            self.save()
        return sum(self._tally.hours.values()) / MIB

    def save(self) -> None:
        """Where anything was counted since the last time. A disk that refuses costs the count, not the daemon."""
        if self._unsaved:
            with contextlib.suppress(OSError):
                write_atomic(self._path, msgspec.json.encode(self._tally))
                self._unsaved = 0
        self._saved_at_s = self._uptime_s()

    def _add(self, count: int) -> None:
        uptime_s = self._uptime_s()
        age_s = self._tally.age_s + max(0.0, uptime_s - self._tally.uptime_s)
        hour = int(age_s // HOUR_S)
        hours = {number: each for number, each in self._tally.hours.items() if hour - HOURS <= number <= hour}
        if count:
            hours[hour] = hours.get(hour, 0) + count
        self._tally = Tally(self._boot_id, uptime_s, age_s, hours)

    def _load(self) -> Tally:
        try:
            with self._path.open("rb") as file:
                found = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=Tally)
        except FileNotFoundError:
            return Tally(self._boot_id, self._uptime_s())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self.unreadable = str(error)
            return Tally(self._boot_id, self._uptime_s())
        if found.boot_id and found.boot_id == self._boot_id:
            return found
        # Since then it was off for nobody knows how long, and has been on for its uptime.
        return msgspec.structs.replace(found, uptime_s=0.0)


def _written(proc: Path, pid: str) -> int | None:
    """Bytes; None where the kernel does not tell (Android, a hidden /proc, a process that is gone)."""
    with contextlib.suppress(OSError, ValueError):
        for line in (proc / pid / "io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split(":")[1])
    return None


def _uptime_s() -> float:
    """Since the machine was started, sleep included where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _boot_id(proc: Path) -> str:
    """Another one after each start of the machine; "" where there is none."""
    with contextlib.suppress(OSError):
        return (proc / "sys/kernel/random/boot_id").read_text().strip()[:64]
    return ""
