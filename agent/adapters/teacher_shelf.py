"""Teachers that were fetched: bundles under the names of their digests, bounded in bytes."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from transfer import bundle
from transfer.bundle import Bundle, BundleError
from transfer.durable import sync_directory

MAX_BYTES = 1024 * 1024 * 1024
"""VGG-16 fits beside WRN-28-10 and a few small ones."""


class TeacherShelf:
    """`teachers/<digest>/`. Under a digest lies only what has that digest, even if the power goes in between.

    Beyond `max_bytes` the oldest go; the newest stays whatever its size, for a round waits for it.
    """

    def __init__(self, folder: Path, trusted: tuple[str, ...], *, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._trusted, self._max_bytes = folder, trusted, max_bytes
        self._remove_leftovers()

    def path(self, digest: str) -> Path:
        return self._folder / digest

    def find(self, digest: str) -> Path | None:
        """Where it lies, every byte verified; None where it is not here. What is damaged goes, to be fetched again."""
        home = self.path(digest)
        if not home.exists():
            return None
        try:
            if bundle.load(home, trusted=self._trusted).digest == digest:
                return home
        except BundleError:
            pass
        _remove(home)
        return None

    def take_in(self, packed: bytes, digest: str) -> Path:
        """Unpack what was sent. Raises BundleError where it is not what was asked for, OSError (disk full)."""
        home = self.path(digest)
        arrived = home.with_name(f"{digest}.arrived")
        _remove(arrived)
        found: Bundle = bundle.unpack(packed, arrived, trusted=self._trusted)
        if found.digest != digest:
            _remove(arrived)
            raise BundleError("hash_mismatch", "the bundle sent is not the teacher asked for")
        arrived.rename(home)
        sync_directory(self._folder)
        self._make_room(home)
        return home

    def _make_room(self, newest: Path) -> None:
        others = [entry for entry in self._folder.iterdir() if entry != newest and entry.is_dir()]
        left_bytes = self._max_bytes - _size(newest)
        for entry in sorted(others, key=lambda entry: entry.stat().st_mtime_ns, reverse=True):
            left_bytes -= _size(entry)
            if left_bytes < 0:
                _remove(entry)

    def _remove_leftovers(self) -> None:
        """What was half unpacked, or not yet known to be what was asked for, when the power went."""
        with contextlib.suppress(OSError):
            for entry in self._folder.iterdir():
                if entry.name.startswith(".") or entry.suffix == ".arrived":
                    _remove(entry)


def _remove(folder: Path) -> None:
    """Renamed first: half of it must not be found under its name."""
    if not folder.exists():
        return
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
