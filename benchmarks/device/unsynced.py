"""What a power cut may leave of a killed process's files: all that was not synced is taken back, in whole or in part.

A SIGKILL alone loses nothing that was written: the kernel still holds it. So after each kill the journal of
`benchmarks.device.commit_points` is replayed, and what no fsync had made durable is undone as POSIX allows it:

- names (made, renamed, removed, linked) that their folder's fsync has not made durable: in each folder the last so many
  of them never happened, a random number from none to all;
- contents that were written since the file was last synced: all there, cut off anywhere, or empty;
- the write-ahead log of a database that is not synced at every commit (`seen.db`): cut off anywhere.

Files of databases that are synced at every commit stay as they are: that SQLite's COMMIT is durable is SQLite's to
prove, and it is well tested there. What the disk itself does (lying about fsync, torn sectors) is not simulated.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MADE, TAKEN = ("create", "mkdir", "link"), ("remove", "rename")
UNSYNCED_LOGS = ("seen.db-wal",)
CHECKPOINT_BYTES = 3_900_000
"""A log of about a thousand pages is being copied into its database, and was synced before that began."""


@dataclass(frozen=True)
class Change:
    """One change of a name. kind: create, mkdir, link, remove, rename; source: of a rename; kept: where the file that
    was there before has its second name, "" where there was none."""

    kind: str
    path: str
    source: str = ""
    kept: str = ""


@dataclass
class Ledger:
    """Changes of names that are not durable, by folder, in order; and files that hold what was not synced, with the
    bytes that they had before."""

    changes: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    dirty: dict[str, int] = field(default_factory=dict)


def read(journal: Path) -> Ledger:
    """What the lives that wrote `journal` have left unsynced. The last line may be of what did not happen any more."""
    ledger = Ledger()
    for line in journal.read_text().splitlines():
        kind, path, *rest, _ = json.loads(line)
        folder = os.path.dirname(path)
        if kind == "write":
            ledger.dirty.setdefault(path, int(rest[0]))
        elif kind == "sync":
            ledger.dirty.pop(path, None)
        elif kind == "sync folder":
            ledger.changes.pop(path, None)
        elif kind == "commit" and not path.endswith("seen.db"):
            ledger.changes.pop(folder, None)  # SQLite syncs the folder of a log that it has made
        elif kind in MADE:
            ledger.changes[folder].append(Change(kind, path))
            if kind == "create":
                ledger.dirty[path] = 0
        elif kind == "remove":
            ledger.changes[folder].append(Change(kind, path, kept=rest[0]))
            ledger.dirty.pop(path, None)
        elif kind == "rename":
            ledger.changes[folder].append(Change(kind, path, rest[0], rest[1]))
            _moved(ledger, rest[0], path)
        elif kind == "rmdir":
            ledger.changes.pop(path, None)
    return ledger


def _moved(ledger: Ledger, source: str, target: str) -> None:
    """Files of a folder that is renamed go with it, and so does what is unsynced in them."""
    for path in list(ledger.dirty):
        if path == source or path.startswith(source + os.sep):
            ledger.dirty[target + path[len(source) :]] = ledger.dirty.pop(path)
    for folder in list(ledger.changes):
        if folder == source or folder.startswith(source + os.sep):
            moved = [_within(change, source, target) for change in ledger.changes.pop(folder)]
            ledger.changes[target + folder[len(source) :]] += moved


def _within(change: Change, source: str, target: str) -> Change:
    def there(path: str) -> str:
        return target + path[len(source) :] if path.startswith(source + os.sep) else path

    return Change(change.kind, there(change.path), there(change.source), change.kept)


def lose(root: Path, ledger: Ledger, rng: random.Random) -> list[str]:
    """Take back below `root` what a power cut might; what was lost, by its kind."""
    lost = ["content cut off" for path, size in ledger.dirty.items() if _cut_off(Path(path), size, rng)]
    # Deepest first: a folder that is going to vanish must not vanish before what happened in it was undone.
    for folder in sorted(ledger.changes, key=len, reverse=True):
        changes = ledger.changes[folder]
        for change in reversed(changes[rng.randint(0, len(changes)) :]):
            if _undo(change):
                lost.append(f"{change.kind} undone")
    for name in UNSYNCED_LOGS:
        log = root / name
        if log.exists() and 0 < log.stat().st_size < CHECKPOINT_BYTES:
            os.truncate(log, rng.choice((0, rng.randint(0, log.stat().st_size), log.stat().st_size)))
            (root / "seen.db-shm").unlink(missing_ok=True)
    return lost


def _cut_off(path: Path, synced_bytes: int, rng: random.Random) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size <= synced_bytes:
        return False
    size = path.stat().st_size
    left = rng.choice((synced_bytes, rng.randint(synced_bytes, size), size))
    os.truncate(path, left)
    return left < size


def _undo(change: Change) -> bool:
    """False where there is nothing (any more) to undo: what was announced last may not have happened."""
    path = Path(change.path)
    with suppress(FileNotFoundError, NotADirectoryError):
        if change.kind in ("create", "link"):
            path.unlink()
        elif change.kind == "mkdir":
            shutil.rmtree(path)
        elif change.kind == "rename":
            if os.path.lexists(change.source):
                return False
            os.rename(path, change.source)
        if change.kept and not os.path.lexists(path):
            os.link(change.kept, path, follow_symlinks=False)
        return True
    return False


def labels(journal: Path) -> Sequence[str]:
    """The commit points that were passed, in order."""
    return [json.loads(line)[-1] for line in journal.read_text().splitlines()]
