"""A SQLite file that never stops the daemon: a corrupt one is moved aside and replaced, a full disk is an error value.

A corrupt buffer that stops the start is a classic of devices in the field (telegraf#18528); so is a database that
breaks while in use, on a worn SD card. Both end here in the same way: the evidence is kept, work goes on.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from transfer.durable import sync_directory

T = TypeVar("T")

KEPT_CORRUPT_FILES = 2
CACHE_KIB = 256
"""Pages kept in memory. SQLite's own 2 MiB a file would be filled within days, and the kernel keeps them anyway."""
MAX_WAL_BYTES = 4 * 1024 * 1024
"""What a large transaction leaves of the write-ahead log beyond this is given back to the disk."""


class DatabaseUnavailable(OSError):
    """The file cannot be read or written now (disk full, read-only, no permission); it may work later."""


class SqliteFile:
    """One WAL database, opened when first used and again after a failure; safe to use from several threads.

    `schema` is executed at every opening (CREATE ... IF NOT EXISTS); a file of another `version` counts as corrupt.
    `quarantined` names the last file moved aside. `failures` counts what the disk refused; `failure` says why it last
    did, "" once something has been written since.
    """

    def __init__(self, path: Path, schema: str, *, version: int = 1, synchronous: Literal["NORMAL", "FULL"]) -> None:
        self.path = path
        self.quarantined: Path | None = None
        self.failures = 0
        self.failure = ""
        self._checked = False
        self._schema = schema
        self._version = version
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work(connection)` as one transaction: committed when it returns, undone when it raises.

        On corruption the file is replaced by an empty one and `work` runs again. Raises DatabaseUnavailable.
        """
        with self._lock:
            try:
                try:
                    return self._transaction(work)
                except sqlite3.DatabaseError as error:
                    if not _is_corruption(error):
                        raise
                    self._move_aside()
                    return self._transaction(work)
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
                    raise  # a defect of the caller, not of the disk
                self.close()
                self.failures += 1
                self.failure = f"{self.path}: {error}"
                raise DatabaseUnavailable(self.failure) from error

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._open()
        connection = self._connection
        changes = connection.total_changes
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        if connection.total_changes > changes:
            self.failure = ""  # reading proves nothing about a full disk
        return result

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Rows may hold images: nobody else on the machine may read them. SQLite gives its -wal and -shm the same mode.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute(f"PRAGMA journal_size_limit={MAX_WAL_BYTES}")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            # It reads the whole file: once a life, not again for every image while the disk refuses.
            verdict = "ok" if self._checked else connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if verdict != "ok" or found not in (0, self._version):
                raise sqlite3.DatabaseError(f"quick_check says {verdict}, version {found}")
            # One transaction, and no write at all where everything is there: each costs a slow card a moment.
            version = f"PRAGMA user_version={self._version};" if found != self._version else ""
            connection.executescript(f"BEGIN; {self._schema} {version} COMMIT;")
            self._checked = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_aside(self) -> None:
        self.close()
        taken = sorted(
            (int(suffix), file)
            for file in self.path.parent.glob(f"{self.path.name}.corrupt-*")
            if (suffix := file.name.rpartition("-")[2]).isdigit()
        )
        for _, old in taken[: len(taken) + 1 - KEPT_CORRUPT_FILES]:
            for file in (old, _log_of(old)):
                file.unlink(missing_ok=True)
        aside = self.path.with_name(f"{self.path.name}.corrupt-{taken[-1][0] + 1 if taken else 1}")
        # The log first: cut off in between, a new file must not find the log of the old one and take it for its own.
        with contextlib.suppress(FileNotFoundError):
            os.replace(_log_of(self.path), _log_of(aside))
        self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)
        os.replace(self.path, aside)
        sync_directory(self.path.parent)
        self._checked = False
        self.quarantined = aside


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _is_corruption(error: sqlite3.DatabaseError) -> bool:
    # SQLITE_CORRUPT and SQLITE_NOTADB are exactly DatabaseError; a full disk, a lock and the like are subclasses of it.
    # (sqlite_errorcode says it better, but only since Python 3.11.)
    return type(error) is sqlite3.DatabaseError
