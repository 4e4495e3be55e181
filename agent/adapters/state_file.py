"""The core's state on disk: replaced atomically, with a last-good copy beside it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from agent.core.state import State
from transfer.durable import write_atomic

MAX_BYTES = 4 * 1024 * 1024
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class StateFile:
    """`state.json` and `state.json.bak`. A file that cannot be read is put aside, never a reason not to start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._backup = path.with_suffix(path.suffix + ".bak")
        self._last = b""
        self.quarantined: list[Path] = []

    def load(self) -> State | None:
        """The newest state that can be read, or None. For the one who owns the file: what is corrupt is put aside."""
        for path in (self._path, self._backup):
            try:
                state = _read(path)
                if path == self._path:
                    self._last = path.read_bytes()
                return state
            except FileNotFoundError:
                continue
            except (OSError, *_UNREADABLE):
                aside = path.with_suffix(path.suffix + ".corrupt")
                with contextlib.suppress(OSError):
                    path.replace(aside)
                    self.quarantined.append(aside)
        return None

    def peek(self) -> State | None:
        """The same for somebody who only looks: nothing is moved. Raises PermissionError."""
        for path in (self._path, self._backup):
            try:
                return _read(path)
            except PermissionError:
                raise
            except (OSError, *_UNREADABLE):
                continue
        return None

    def save(self, state: State) -> bool:
        """Make `state` durable; False where it is what is on disk already. Raises OSError (disk full, read-only)."""
        data = msgspec.json.format(msgspec.json.encode(state), indent=1)
        if data == self._last:
            return False
        if self._last:
            self._keep_last()
        write_atomic(self._path, data)
        self._last = data
        return True

    def _keep_last(self) -> None:
        """What lies on the disk becomes the copy; it may lag one step behind, for every step can be done again.

        By a second name for the same bytes: they are durable already, and a full disk or a card that wears out is
        asked for nothing. Some file systems have no such names; there it is written.
        """
        temporary = self._backup.with_name(f".{self._backup.name}.tmp")
        try:
            temporary.unlink(missing_ok=True)
            os.link(self._path, temporary)
            os.replace(temporary, self._backup)
        except OSError:
            with contextlib.suppress(OSError):
                write_atomic(self._backup, self._last)


def _read(path: Path) -> State:
    if path.stat().st_size > MAX_BYTES:
        raise msgspec.DecodeError(f"larger than {MAX_BYTES} bytes")
    return msgspec.json.decode(path.read_bytes(), type=State)
