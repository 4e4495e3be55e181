"""Which files have been handled, surviving restarts: without it every start would classify the whole folder again."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from agent.adapters.sqlite_file import DatabaseUnavailable, SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    path BLOB PRIMARY KEY, -- bytes: a file name need not be text
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL
) WITHOUT ROWID;
"""

Stamp = tuple[int, int, int]


def stamp_of(status: os.stat_result) -> Stamp:
    """What tells one version of a file from another."""
    return status.st_size, status.st_mtime_ns, status.st_ino


class SeenFiles:
    """A file is (path, size, mtime, inode): replaced or rewritten, it is another one and not seen.

    `add` only remembers; `flush` writes what was added in one transaction, as SD cards like it. What was not flushed
    at a power cut is handled again. With an unusable disk it works from memory; a corrupt file is moved aside
    (`quarantined`).

    After `follow`, a file is written down only when its image is done with: seen, but neither recorded nor stored, it
    would be lost for good by a power cut.
    """

    def __init__(self, db_path: Path) -> None:
        self._file = SqliteFile(db_path, _SCHEMA, synchronous="NORMAL")
        self._added: dict[bytes, tuple[int, Stamp]] = {}
        self._taken: Callable[[], int] = lambda: 0
        self._done: Callable[[], int] = lambda: 0
        self._lock = threading.Lock()
        self.contains(Path(os.sep), 0, 0, 0)  # opens the file, so that `quarantined` is known from the start

    @property
    def quarantined(self) -> Path | None:
        return self._file.quarantined

    @property
    def trouble(self) -> tuple[int, str]:
        """How often the disk refused, and why it last did: "" once something was written since."""
        return self._file.failures, self._file.failure

    def follow(self, taken: Callable[[], int], done: Callable[[], int]) -> None:
        """`taken`: images handed on so far, before the file of each is added; `done`: how many of these, in the same
        order, have been recorded or given up."""
        self._taken, self._done = taken, done

    def contains(self, path: Path | str, size: int, mtime_ns: int, inode: int) -> bool:
        return not self.new_among([(os.fspath(path), (size, mtime_ns, inode))])

    def new_among(self, files: Sequence[tuple[str, Stamp]]) -> list[str]:
        """The paths of those that are not seen, looked up in one transaction."""
        keys = [os.fsencode(path) for path, _ in files]
        with self._lock:
            added = [waiting[1] if (waiting := self._added.get(key)) else None for key in keys]

        def find(db: sqlite3.Connection) -> list[Stamp | None]:
            known = "SELECT size, mtime_ns, inode FROM seen WHERE path = ?"
            return [mine or db.execute(known, (key,)).fetchone() for key, mine in zip(keys, added, strict=True)]

        try:
            found = self._file.run(find)
        except DatabaseUnavailable:
            found = added
        return [path for (path, stamp), known in zip(files, found, strict=True) if known != stamp]

    def add(self, path: Path | str, size: int, mtime_ns: int, inode: int) -> None:
        with self._lock:
            self._added[os.fsencode(path)] = self._taken(), (size, mtime_ns, inode)

    def flush(self) -> bool:
        """Write what was added and is done with. False where the disk refuses: it stays in memory for the next one."""
        done = self._done()
        with self._lock:
            written = {path: waiting for path, waiting in self._added.items() if waiting[0] <= done}
        if not written:
            return True
        rows = [(path, *stamp) for path, (_, stamp) in written.items()]
        try:
            self._file.run(lambda db: db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", rows))
        except DatabaseUnavailable:
            return False
        with self._lock:
            for path, waiting in written.items():
                if self._added.get(path) == waiting:
                    del self._added[path]
        return True

    def prune(self, existing: Iterable[Path | str]) -> int:
        """Forget all files but the `existing` ones (taken one by one, never as a list). Returns how many went: none
        where the disk refuses, or where `existing` ends in an OSError."""

        def forget(db: sqlite3.Connection) -> int:
            db.execute("CREATE TEMP TABLE existing (path BLOB PRIMARY KEY) WITHOUT ROWID")
            db.executemany("INSERT OR IGNORE INTO existing VALUES (?)", ((os.fsencode(path),) for path in existing))
            gone = db.execute("DELETE FROM seen WHERE path NOT IN (SELECT path FROM existing)").rowcount
            db.execute("DROP TABLE existing")
            return gone

        try:
            return self._file.run(forget)
        except DatabaseUnavailable:
            return 0

    def close(self) -> None:
        self.flush()
        self._file.close()
