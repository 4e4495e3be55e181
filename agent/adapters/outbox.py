"""What must reach the broker though it is away now: rows in an SQLite file, bounded in bytes and in age.

A row is durable when `add` returns True, and leaves by its acknowledgement, by age, or by eviction. Rows are aged by a
clock that runs only while the machine is known to run: many boards boot with a wrong date, and a clock that jumps must
not expire anything. A broken file is put aside and never keeps the agent from starting.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from agent.adapters.sqlite_file import DatabaseUnavailable, SqliteFile

Until = Literal["acknowledged", "puback"]
T = TypeVar("T")

CLOCK_SAVE_S = 600.0
"""How often the clock is written when nothing else is; also how late an expiry may be."""

_SCHEMA = """
PRAGMA journal_size_limit = 4194304;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    egress TEXT NOT NULL,
    retain INTEGER NOT NULL,
    until TEXT NOT NULL,
    critical INTEGER NOT NULL,
    created_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS clock (only INTEGER PRIMARY KEY CHECK (only = 1), age_s REAL, boot TEXT, uptime_s REAL);
INSERT OR IGNORE INTO clock VALUES (1, 0, '', 0);
"""


@dataclass(frozen=True)
class Row:
    """One waiting message. `id` grows with every `add`; `until` says which acknowledgement ends it."""

    id: int
    key: str
    topic: str
    payload: bytes
    egress: str
    retain: bool
    until: Until


@dataclass(frozen=True)
class Uptime:
    """When it is, by a clock no one can set: which boot ('' = unknown), and seconds since it, sleep included."""

    boot: str
    seconds: float


def uptime() -> Uptime:
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Uptime(boot, time.clock_gettime(clock))


class Outbox:
    """Thread-safe. An error of the disk is never raised: it is kept in `failure`, and the call reports no success."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 16 * 1024 * 1024,
        max_age_s: float = 7 * 24 * 3600.0,
        now: Callable[[], Uptime] = uptime,
    ) -> None:
        self._file = SqliteFile(path, _SCHEMA, synchronous="FULL")
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._now = now
        self.evicted = 0
        """Rows lost to the byte or age cap since the start."""
        self.failure = ""
        """The last error of the disk, in words."""
        self.size()  # opens the file, so that `quarantined` is known from the start

    @property
    def quarantined(self) -> Path | None:
        """Where a broken file was put, if there was one."""
        return self._file.quarantined

    def add(
        self,
        key: str,
        topic: str,
        payload: bytes,
        egress: str,
        *,
        retain: bool = False,
        until: Until = "acknowledged",
        critical: bool = False,
    ) -> bool:
        """Store a message durably. The same `key` again replaces the row and puts it last: one row, the newest content.

        Makes room by evicting the oldest rows that are not critical. False: there was no room, or the disk failed.
        """

        def store(db: sqlite3.Connection) -> bool:
            age_s = self._tick(db, save=True)
            if not self._make_room(db, key, len(payload)):
                return False
            db.execute("DELETE FROM outbox WHERE key = ?", (key,))
            db.execute(
                "INSERT INTO outbox (key, topic, payload, egress, retain, until, critical, created_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, topic, payload, egress, retain, until, critical, age_s),
            )
            return True

        return self._run(store, False)

    def pending(self, limit: int = 20, *, after_id: int = 0) -> list[Row]:
        """The oldest rows with an id beyond `after_id`, in order; what has grown too old is dropped first."""

        def select(db: sqlite3.Connection) -> list[Row]:
            self._tick(db)
            rows = db.execute(
                "SELECT id, key, topic, payload, egress, retain, until FROM outbox WHERE id > ? ORDER BY id LIMIT ?",
                (after_id, limit),
            )
            return [
                Row(row_id, key, topic, payload, egress, bool(retain), until)
                for row_id, key, topic, payload, egress, retain, until in rows
            ]

        return self._run(select, [])

    def done(self, key: str) -> bool:
        """Forget `key`. False where there is no such row."""
        return self._delete("key = ?", key) > 0

    def delivered(self, row: Row) -> bool:
        """Forget exactly this row; a newer one under the same key stays."""
        return self._delete("id = ?", row.id) > 0

    def remove_egress(self, egress: str) -> int:
        """Forget all rows of one egress class; how many there were."""
        return self._delete("egress = ?", egress)

    def size(self) -> tuple[int, int]:
        """(rows, payload bytes)."""

        def count(db: sqlite3.Connection) -> tuple[int, int]:
            rows, size_bytes = db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM outbox").fetchone()
            return rows, size_bytes

        return self._run(count, (0, 0))

    def close(self) -> None:
        self._file.close()

    def _delete(self, condition: str, value: str | int) -> int:
        return self._run(lambda db: db.execute(f"DELETE FROM outbox WHERE {condition}", (value,)).rowcount, 0)

    def _make_room(self, db: sqlite3.Connection, key: str, size_bytes: int) -> bool:
        """Evict until a row of `size_bytes` under `key` fits; nothing is evicted where that cannot be reached."""
        query = "SELECT id, length(payload), critical FROM outbox WHERE key != ? ORDER BY id"
        rows = db.execute(query, (key,)).fetchall()
        excess = sum(length for _, length, _ in rows) + size_bytes - self._max_bytes
        victims: list[tuple[int]] = []
        for row_id, length, critical in rows:
            if excess > 0 and not critical:
                victims.append((row_id,))
                excess -= length
        if excess > 0:
            return False
        db.executemany("DELETE FROM outbox WHERE id = ?", victims)
        self.evicted += len(victims)
        return True

    def _tick(self, db: sqlite3.Connection, *, save: bool = False) -> float:
        """The clock, in seconds that have surely passed since the file was made; expires what is too old.

        Within one boot they are the difference of uptimes, whether this program ran or not. After a reboot they are the
        time since the boot: how long the machine was off cannot be known, so it does not count.
        """
        now = self._now()
        age_s, boot, uptime_s = db.execute("SELECT age_s, boot, uptime_s FROM clock").fetchone()
        same_boot = boot == now.boot and now.seconds >= uptime_s
        passed_s = now.seconds - uptime_s if same_boot else now.seconds
        age_s += passed_s
        if save or not same_boot or passed_s >= CLOCK_SAVE_S:
            db.execute("UPDATE clock SET age_s = ?, boot = ?, uptime_s = ?", (age_s, now.boot, now.seconds))
            oldest_s = age_s - self._max_age_s
            self.evicted += db.execute("DELETE FROM outbox WHERE created_s < ?", (oldest_s,)).rowcount
        return float(age_s)

    def _run(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        try:
            return self._file.run(work)
        except DatabaseUnavailable as error:
            self.failure = f"outbox: {error}"
            return otherwise
