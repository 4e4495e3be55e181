"""predictions.jsonl: what was seen and what it was taken for, one JSON object a line, for people and `tail -f`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec


class PredictionLog:
    """A size-rotated JSONL file: `path`, then `path.1` (newest) to `path.<keep>`.

    Each batch is one write to the operating system, without fsync: it is a log, a power cut may take its last lines.
    With a full disk lines are lost and counted in `lost`; prediction goes on.
    """

    def __init__(self, path: Path, *, max_bytes: int = 8 * 1024 * 1024, keep: int = 2) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.keep = keep
        self.lost = 0
        self._failures = 0
        self._failure = ""
        self._descriptor = -1
        self._size = 0

    def append(self, record: Mapping[str, object]) -> bool:
        return self.append_batch([record])

    @property
    def trouble(self) -> tuple[int, str]:
        """How often the disk refused, and why it last did: "" once something was written since."""
        return self._failures, self._failure

    def append_batch(self, records: Iterable[Mapping[str, object]]) -> bool:
        """False where the disk refuses. A line is written whole or not at all."""
        lines = [msgspec.json.encode(record) + b"\n" for record in records]
        if not lines:
            return True
        data = b"".join(lines)
        try:
            self._open()
            if self._size and self._size + len(data) > self.max_bytes:
                self._rotate()
                self._open()
            written = os.write(self._descriptor, data)
            if written < len(data):  # the disk filled up in the middle
                os.ftruncate(self._descriptor, self._size)
                raise OSError("short write")
            self._size += written
        except OSError as error:
            self.lost += len(lines)
            self._failures, self._failure = self._failures + 1, f"{self.path}: {error.strerror or error}"
            return False
        self._failure = ""
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        if self._descriptor >= 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._descriptor).st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._size += os.write(self._descriptor, b"\n")  # a power cut tore the last line: do not continue it

    def _rotate(self) -> None:
        self.close()
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, self.keep + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer, older)
        if not self.keep:
            self.path.unlink(missing_ok=True)
