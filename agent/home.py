"""The state folder: what lies where, and the few small files that belong to no adapter."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from transfer import signing
from transfer.durable import write_atomic

if TYPE_CHECKING:
    from nacl.signing import SigningKey


class HomeError(RuntimeError):
    """The state folder cannot be used; the text says what to do."""


class Home:
    """`device.state_dir`, made on first use and held by one daemon at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = -1
        self.damaged: list[str] = []
        """Files of ours that could not be used or written at this start."""

    state = property(lambda self: self.folder / "state.json")
    samples = property(lambda self: self.folder / "samples.db")
    seen = property(lambda self: self.folder / "seen.db")
    outbox = property(lambda self: self.folder / "outbox.db")
    predictions = property(lambda self: self.folder / "predictions.jsonl")
    jobs = property(lambda self: self.folder / "jobs")
    teachers = property(lambda self: self.folder / "teachers")
    quarantine = property(lambda self: self.folder / "quarantine")
    control = property(lambda self: self.folder / "control.sock")
    ledger = property(lambda self: self.folder / "egress.json")
    written = property(lambda self: self.folder / "written.json")
    judgements = property(lambda self: self.folder / "judged.json")
    start_record = property(lambda self: self.folder / "start.json")

    def take(self) -> None:
        """Make the folder and hold it. Raises HomeError where that fails or another daemon has it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeError(f"{self.folder}: another daemon is using this state folder") from None
        except OSError as error:
            raise HomeError(
                f"{self.folder}: {error.strerror}; choose a folder this user may write with device.state_dir"
            ) from None
        self._remove_leftovers()

    def leave(self) -> None:
        """Let another have it."""
        os.close(self._lock)
        self._lock = -1

    def key(self) -> SigningKey:
        """The device's own key, made on first use: it signs what was learned here. One that is damaged is put aside
        for another (`damaged`): what it has signed stays valid here. Raises signing.KeyFileError, OSError."""
        path = self.folder / "device.key"
        try:
            return signing.load_key(path) if path.exists() else signing.generate(path)
        except signing.KeyFileError:
            if path.stat().st_mode & 0o077:  # not damaged, but open to others: for a person to decide
                raise
            path.replace(path.with_suffix(".key.corrupt"))
            self.damaged.append("device.key")
            return signing.generate(path)

    def next_session(self) -> int:
        """The number of this start; grows for ever, also over wrong clocks. A disk that refuses (`damaged`) keeps
        nobody from starting: then the next start may have the same number."""
        path = self.folder / "session"
        try:
            last = int(path.read_bytes()[:20])
        except (OSError, ValueError):
            last = 0
        try:
            write_atomic(path, b"%d\n" % (last + 1))
        except OSError:
            self.damaged.append("session")
        return last + 1

    def _remove_leftovers(self) -> None:
        """What a write that was cut off has left: under the name of a process that is no more, nobody else would."""
        for folder in (self.folder, self.folder / "models"):
            for file in folder.glob(".*.tmp"):
                with contextlib.suppress(OSError):
                    file.unlink()
