"""What must reach the broker though it is away now: rows in an SQLite file, bounded in bytes and in age.

A row is durable when `add` returns True, and leaves by its acknowledgement, by age, or because a newer one needs the
room. Rows are aged by a clock that runs only while the machine is known to run: many boards boot with a wrong date, and
a clock that jumps must not expire anything. A broken file is put aside and never keeps the agent from starting.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from agent.adapters.sqlite_file import DatabaseUnavailable, SqliteFile

Until = Literal["acknowledged", "puback"]
T = TypeVar("T")

CLOCK_SAVE_S = 600.0
"""How often the clock is written while rows wait and nothing else is written."""

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
-- Kept, not counted: after a day offline there are tens of thousands of rows, and each new one asks for room.
CREATE INDEX IF NOT EXISTS outbox_order ON outbox (critical, id);
CREATE INDEX IF NOT EXISTS outbox_age ON outbox (created_s);
CREATE TABLE IF NOT EXISTS total (critical INTEGER PRIMARY KEY, waiting INTEGER NOT NULL, size INTEGER NOT NULL);
INSERT OR IGNORE INTO total
    SELECT kind, count(outbox.id), coalesce(sum(length(payload)), 0)
    FROM (SELECT 0 AS kind UNION SELECT 1) LEFT JOIN outbox ON critical = kind GROUP BY kind;
CREATE TRIGGER IF NOT EXISTS outbox_more AFTER INSERT ON outbox BEGIN
    UPDATE total SET waiting = waiting + 1, size = size + length(NEW.payload) WHERE critical = NEW.critical;
END;
CREATE TRIGGER IF NOT EXISTS outbox_less AFTER DELETE ON outbox BEGIN
    UPDATE total SET waiting = waiting - 1, size = size - length(OLD.payload) WHERE critical = OLD.critical;
END;
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
class Dropped:
    """Rows that were given up since the start: waited too long, made room for a newer one, found no room."""

    too_old: int = 0
    made_room: int = 0
    refused: int = 0


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
        self.dropped = Dropped()
        self.failure = ""
        """The last error of the disk, in words."""
        self.size()  # opens the file, so that `quarantined` is known from the start

    @property
    def quarantined(self) -> Path | None:
        """Where a broken file was put, if there was one."""
        return self._file.quarantined

    @property
    def trouble(self) -> tuple[int, str]:
        """How often the disk refused, and why it last did: "" once something was written since."""
        return self._file.failures, self._file.failure

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

        Where there is no room, the oldest rows go that are not critical; for a critical one, the oldest critical ones
        go after them. False: there was no room, or the disk failed.
        """

        def store(db: sqlite3.Connection) -> bool:
            age_s = self._tick(db, save=True)
            if not self._make_room(db, key, len(payload), critical):
                self.dropped = replace(self.dropped, refused=self.dropped.refused + 1)
                return False
            db.execute("DELETE FROM outbox WHERE key = ?", (key,))
            db.execute(
                "INSERT INTO outbox (key, topic, payload, egress, retain, until, critical, created_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, topic, payload, egress, retain, until, critical, age_s),
            )
            return True

        return self._run(store, False)

    def pending(self, limit: int = 20, *, after_id: int = 0, critical: bool | None = None) -> list[Row]:
        """The oldest rows with an id beyond `after_id`, in order: all, those that are `critical`, or those that are
        not. What has grown too old is dropped first."""

        def select(db: sqlite3.Connection) -> list[Row]:
            self._tick(db)
            kind = "" if critical is None else f"critical = {critical:d} AND "
            rows = db.execute(
                "SELECT id, key, topic, payload, egress, retain, until FROM outbox"
                f" WHERE {kind}id > ? ORDER BY id LIMIT ?",
                (after_id, limit),
            )
            return [
                Row(row_id, key, topic, payload, egress, bool(retain), until)
                for row_id, key, topic, payload, egress, retain, until in rows
            ]

        return self._run(select, [])

    def expire(self) -> None:
        """Drop what has grown too old, and keep the clock: for times when nobody asks for rows."""
        self._run(self._tick, 0.0)

    def done(self, key: str) -> bool:
        """Forget `key`. False where there is no such row."""
        return self._delete("key = ?", key) > 0

    def delivered(self, row: Row) -> bool:
        """Forget exactly this row; a newer one under the same key stays."""
        return self._delete("id = ?", row.id) > 0

    def postpone(self, row: Row) -> None:
        """Put exactly this row last; it keeps its age."""

        def move(db: sqlite3.Connection) -> None:
            columns = "key, topic, payload, egress, retain, until, critical, created_s"
            found = db.execute(f"SELECT {columns} FROM outbox WHERE id = ?", (row.id,)).fetchone()
            if found is not None:
                db.execute("DELETE FROM outbox WHERE id = ?", (row.id,))
                db.execute(f"INSERT INTO outbox ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", found)

        self._run(move, None)

    def remove_egress(self, egress: str) -> int:
        """Forget all rows of one egress class; how many there were."""
        return self._delete("egress = ?", egress)

    def size(self) -> tuple[int, int]:
        """(rows, payload bytes)."""

        def count(db: sqlite3.Connection) -> tuple[int, int]:
            rows, size_bytes = db.execute("SELECT sum(waiting), sum(size) FROM total").fetchone()
            return rows, size_bytes

        return self._run(count, (0, 0))

    def close(self) -> None:
        self._file.close()

    def _delete(self, condition: str, value: str | int) -> int:
        return self._run(lambda db: db.execute(f"DELETE FROM outbox WHERE {condition}", (value,)).rowcount, 0)

    def _make_room(self, db: sqlite3.Connection, key: str, size_bytes: int, critical: bool) -> bool:
        """Drop rows until one of `size_bytes` under `key` fits; none is dropped where that cannot be reached."""
        sizes: dict[int, int] = dict(db.execute("SELECT critical, size FROM total"))
        own = db.execute("SELECT critical, length(payload) FROM outbox WHERE key = ?", (key,)).fetchone()
        if own is not None:  # it goes anyway
            sizes[own[0]] -= own[1]
        excess = sum(sizes.values()) + size_bytes - self._max_bytes
        if excess > (sum(sizes.values()) if critical else sizes[0]):
            return False
        oldest = "SELECT id, length(payload) FROM outbox WHERE key != ? AND critical <= ? ORDER BY critical, id"
        victims: list[tuple[int]] = []
        for row_id, length in db.execute(oldest, (key, int(critical))):
            if excess <= 0:
                break
            victims.append((row_id,))
            excess -= length
        db.executemany("DELETE FROM outbox WHERE id = ?", victims)
        self.dropped = replace(self.dropped, made_room=self.dropped.made_room + len(victims))
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
        (oldest_s,) = db.execute("SELECT min(created_s) FROM outbox").fetchone()
        # With nothing waiting there is nothing to age, and an idle device writes nothing.
        if save or (oldest_s is not None and (not same_boot or passed_s >= CLOCK_SAVE_S)):
            db.execute("UPDATE clock SET age_s = ?, boot = ?, uptime_s = ?", (age_s, now.boot, now.seconds))
        if oldest_s is not None and oldest_s < age_s - self._max_age_s:
            gone = db.execute("DELETE FROM outbox WHERE created_s < ?", (age_s - self._max_age_s,)).rowcount
            self.dropped = replace(self.dropped, too_old=self.dropped.too_old + gone)
        return float(age_s)

    def _run(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        try:
            return self._file.run(work)
        except DatabaseUnavailable as error:
            self.failure = f"outbox: {error}"
            return otherwise
