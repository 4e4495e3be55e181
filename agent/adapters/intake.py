"""One file -> one checked image. Files come from scripts, cameras and network shares: nothing of them is believed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from transfer.preprocess import ImageError, Pixels, decode_image, fit
from transfer.spec import InputSpec

MIB = 1024 * 1024
EVIDENCE_BYTES = 1 * MIB
FRESH_S = 2.0


@dataclass(frozen=True, slots=True)
class Frame:
    """An image on its way in. `sample_id`: sha256 (hex) of the file's bytes, of the pixels for a camera. `image`:
    uint8 [h, w, 3], fitted to the network's input. `origin` is safe to log. `at`: monotonic seconds. `given`: the label
    that it came with, "" for none."""

    sample_id: str
    origin: str
    image: Pixels
    at: float
    given: str = ""


class IntakeError(ValueError):
    """A file that gives no image; `retry` where it may do so in a moment.

    `code`: empty | too_big_file | truncated | not_an_image | too_large (pixels) | changed_while_read | unreadable |
    vanished.
    """

    def __init__(self, code: str, path: Path, message: str, retry: bool) -> None:
        super().__init__(f"{printable(path)}: {message}")
        self.code = code
        self.path = path
        self.message = message
        self.retry = retry


def printable(path: Path | str) -> str:
    """A path as text that any log or message can carry: no undecodable bytes, no control characters, bounded."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[-255:]


def read_image(
    path: Path,
    spec: InputSpec,
    *,
    origin: str | None = None,
    given: str = "",
    max_bytes: int = 32 * MIB,
    max_pixels: int = 50_000_000,
) -> Frame:
    """The image in `path`, fitted to `spec`. Links to regular files are followed. Raises IntakeError.

    Never blocks on a FIFO or device, and never takes half a file for a whole one: what changes while it is read, and
    what is broken but was written a moment ago, is an error to be retried.
    """
    data, fresh = _read_unchanged(path, max_bytes)
    try:
        image = fit(decode_image(data, max_pixels=max_pixels, near=(spec.height, spec.width)), spec)
    except ImageError as error:
        retry = fresh and error.code != "too_large"
        raise IntakeError(error.code, path, str(error), retry) from error
    return Frame(hashlib.sha256(data).hexdigest(), origin or printable(path.name), image, time.monotonic(), given)


def _read_unchanged(path: Path, max_bytes: int) -> tuple[bytes, bool]:
    """The bytes, and whether the file was written so recently that its writer may not be done."""
    try:
        descriptor = _open_regular(path)
        with os.fdopen(descriptor, "rb", buffering=0):
            before = os.fstat(descriptor)
            if before.st_size > max_bytes:
                raise IntakeError(
                    "too_big_file", path, f"{before.st_size} bytes, more than {max_bytes} (source.max_file_mib)", False
                )
            data = _read_at_most(descriptor, before.st_size + 1)
            same = _version(before) == _version(os.fstat(descriptor)) == _version(path.stat())
    except FileNotFoundError as error:
        raise IntakeError("vanished", path, "removed before it was read", False) from error
    except OSError as error:
        raise IntakeError("unreadable", path, error.strerror or str(error), True) from error
    if not same or len(data) != before.st_size:
        raise IntakeError("changed_while_read", path, "written to or replaced while it was read", True)
    return data, abs(time.time() - before.st_mtime) < FRESH_S


def _open_regular(path: Path) -> int:
    # Looked at before it is opened, because opening is already an action on some devices and on a FIFO; looked at
    # again afterwards, because it may have been replaced between. O_NONBLOCK: a FIFO slipped in must not hang us.
    _require_regular(path, path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_regular(path, os.fstat(descriptor))
    except IntakeError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise IntakeError("unreadable", path, "not a regular file (folders behind links are not followed)", False)


def _read_at_most(descriptor: int, limit: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0 and (part := os.read(descriptor, limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Quarantine:
    """Evidence of refused files: up to 1 MiB of each, and a .json that says what, where and when.

    Bounded in files and bytes, the oldest goes first. One piece a path: a broken file that is rewritten every second
    must not wear out the card.
    """

    def __init__(self, directory: Path, *, max_files: int = 100, max_bytes: int = 16 * MIB) -> None:
        self.directory = directory
        self.max_files = max_files
        self.max_bytes = max_bytes

    def add(self, path: Path, error: IntakeError) -> bool:
        """True when the evidence of `path` is kept; False where it cannot be (disk full). Never raises OSError."""
        stem = hashlib.sha256(os.fsencode(path)).hexdigest()[:12] + "-" + _file_name(path)
        evidence, note = self.directory / stem, self.directory / f"{stem}.json"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if note.exists():
                return True
            # Evidence, not state: not worth an fsync each.
            # The note first: evidence without one would never be counted, nor evicted.
            note.write_bytes(msgspec.json.format(msgspec.json.encode(_note(path, error))))
            with contextlib.suppress(FileNotFoundError, IntakeError, PermissionError):
                evidence.write_bytes(_evidence(path))
            self._evict()
        except OSError:
            with contextlib.suppress(OSError):
                evidence.unlink(missing_ok=True)
                note.unlink(missing_ok=True)
            return False
        return True

    def _evict(self) -> None:
        """By order of arrival as the notes' times tell it; a clock that jumped makes the order odd, not the bound."""
        notes = sorted(self.directory.glob("*.json"), key=lambda note: (note.stat().st_mtime_ns, note.name))
        sizes = {note: note.stat().st_size + _size(note.with_suffix("")) for note in notes}
        total = sum(sizes.values())
        for position, note in enumerate(notes):
            if len(notes) - position <= self.max_files and total <= self.max_bytes:
                return
            note.with_suffix("").unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            total -= sizes[note]


def _evidence(path: Path) -> bytes:
    descriptor = _open_regular(path)
    try:
        return _read_at_most(descriptor, EVIDENCE_BYTES)
    finally:
        os.close(descriptor)


def _note(path: Path, error: IntakeError) -> dict[str, str]:
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"what": error.code, "message": error.message, "where": printable(path), "when_utc": when}


def _file_name(path: Path) -> str:
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in path.name)
    return safe[-80:].replace(".json", "_json") or "file"  # *.json are the notes


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
