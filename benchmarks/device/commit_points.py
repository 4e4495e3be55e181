"""Makes visible where a process commits something to the disk, so that it can be killed there and its power cut.

Installed into the daemon and its trainer by the benchmark's own launcher; the product knows nothing of it. Python's
audit events tell of every file that is opened, renamed or removed, before it happens; fsync and SQLite's COMMIT are
wrapped, before and after. Each such point has a label ("rename state.json"), the same in every life.

What happened is written to a journal outside the state folder: what `benchmarks.device.unsynced` needs to take back
all that was not synced. What a rename or a removal would destroy is given a second name beside it first.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PLAN_VARIABLE = "UNDERSTUDY_POWERCUT_PLAN"
DAEMON_PID_VARIABLE = "UNDERSTUDY_POWERCUT_DAEMON"
NOT_OURS = (".db", ".db-wal", ".db-shm", "/lock", "/control.sock")
"""SQLite's own files, of which it takes care itself, and those that hold nothing."""


@dataclass(frozen=True)
class Plan:
    """A life in the state folder `root`. It ends at the `visit`-th passing of the point `label` ("" = at none)."""

    root: str
    journal: str
    side: str
    label: str = ""
    visit: int = 1

    def encoded(self) -> str:
        return json.dumps(asdict(self))


def from_environment() -> Plan:
    return Plan(**json.loads(os.environ[PLAN_VARIABLE]))


def label_of(kind: str, path: str) -> str:
    """The same for all generations, jobs, processes and requests: numbers, hashes and random names are one, and so are
    a bundle's files."""
    name = re.sub(r"\.[a-z0-9_]{8}\.tmp", ".X.tmp", path)
    name = re.sub(r"(model|candidate|[0-9]+|tmp)/(manifest|weights|model|statistics|holdout)\.[a-z]+$", r"\1/*", name)
    name = re.sub(r"[0-9a-f]{12,}", "H", name)
    return f"{kind} {re.sub('[0-9]+', 'N', name)}"


class CommitPoints:
    """Once a process; it stays until its end."""

    def __init__(self, plan: Plan, die: Callable[[], None]) -> None:
        self._plan, self._die = plan, die
        self._left = plan.visit
        self._journal = os.open(plan.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._busy = threading.local()
        self._count = 0

    def install(self) -> None:
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._synced(getattr(os, name)))
        self._watch_databases()
        sys.addaudithook(self._heard)

    # ------------------------------------------------------------------------------------------------ what happens

    def _passed(self, kind: str, path: str, *rest: object) -> None:
        """The point is reached, and what it stands for has not happened yet."""
        label = label_of(kind, os.path.relpath(path, self._plan.root))
        os.write(self._journal, (json.dumps([kind, path, *rest, label]) + "\n").encode())
        if label == self._plan.label:
            self._left -= 1
            if self._left == 0:
                self._die()

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        listener = _LISTENERS.get(event)
        if listener is None or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            listener(self, *arguments)
        finally:
            self._busy.now = False

    def _ours(self, path: str) -> bool:
        return path.startswith(self._plan.root + os.sep) and not path.endswith(NOT_OURS)

    def _opened(self, name: object, mode: object, flags: int) -> None:
        if isinstance(name, int) or not flags & (os.O_WRONLY | os.O_RDWR):
            return
        path = _absolute(name)
        if self._ours(path):
            size = os.path.getsize(path) if os.path.exists(path) else None
            self._passed("create" if size is None else "write", path, size)

    def _renamed(self, source: object, target: object, source_folder: int, target_folder: int) -> None:
        old, new = _absolute(source, source_folder), _absolute(target, target_folder)
        if self._ours(new):
            self._passed("rename", new, old, self._aside(new))

    def _removed(self, name: object, folder: int = -1) -> None:
        path = _absolute(name, folder)
        if self._ours(path) and os.path.lexists(path):
            self._passed("remove", path, self._aside(path))

    def _made(self, name: object, mode: int, folder: int = -1) -> None:
        path = _absolute(name, folder)
        if self._ours(path) and not os.path.exists(path):
            self._passed("mkdir", path)

    def _unmade(self, name: object, folder: int = -1) -> None:
        path = _absolute(name, folder)
        if self._ours(path) and os.path.isdir(path):
            self._passed("rmdir", path)

    def _linked(self, source: object, target: object, source_folder: int = -1, target_folder: int = -1) -> None:
        path = _absolute(target, target_folder)
        if self._ours(path):
            self._passed("link", path)

    def _symlinked(self, source: object, target: object, folder: int = -1) -> None:
        path = _absolute(target, folder)
        if self._ours(path):
            self._passed("link", path)

    def _aside(self, path: str) -> str:
        """A second name for the file at `path`, which is about to be lost; "" where there is none to keep."""
        if not os.path.lexists(path) or os.path.isdir(path):
            return ""
        self._count += 1
        kept = os.path.join(self._plan.side, f"{os.getpid()}-{self._count}")
        os.link(path, kept, follow_symlinks=False)
        return kept

    def _synced(self, sync: Callable[[int], None]) -> Callable[[Any], None]:
        def watched(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            path = os.readlink(f"/proc/self/fd/{number}")
            kind = "sync folder" if os.path.isdir(path) else "sync"
            mine = path == self._plan.root or self._ours(path)
            if mine:
                self._passed(f"before {kind}", path)
            sync(file)
            if mine:
                self._passed(kind, path)

        return watched

    def _watch_databases(self) -> None:
        points, connect = self, sqlite3.connect

        class Watched(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql != "COMMIT" or self.total_changes == self.changes_before:
                    if sql == "BEGIN IMMEDIATE":
                        self.changes_before = self.total_changes
                    return super().execute(sql, *parameters)
                points._passed("before commit", self.name)
                cursor = super().execute(sql, *parameters)
                points._passed("commit", self.name)
                return cursor

            changes_before = 0
            name = ""

        def watched(path: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(path, **options, factory=Watched)
            connection.name = os.fspath(path)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]


_LISTENERS: dict[str, Callable[..., None]] = {
    "open": CommitPoints._opened,
    "os.rename": CommitPoints._renamed,
    "os.remove": CommitPoints._removed,
    "os.mkdir": CommitPoints._made,
    "os.rmdir": CommitPoints._unmade,
    "os.link": CommitPoints._linked,
    "os.symlink": CommitPoints._symlinked,
}


def _absolute(name: Any, folder: int = -1) -> str:
    path = os.fsdecode(name)
    if folder != -1:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    return os.path.abspath(path)


def die_as_daemon() -> None:
    """The trainer dies with its daemon: the kernel sees to that."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_as_trainer() -> None:
    os.kill(int(os.environ[DAEMON_PID_VARIABLE]), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def trainer_command() -> tuple[str, ...]:
    return (sys.executable, "-m", "benchmarks.device.cut_trainer")


def folder_for_journals(folder: Path) -> Path:
    """An empty folder beside the state folder and on its file system, for second names."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        entry.unlink()
    return folder
