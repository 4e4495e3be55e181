"""The daemon's local door: a Unix socket for `understudy agent status` and `rollback`. One JSON line in, one out.

Only this machine and this user reach it (mode 0600 in the state folder), so it needs no signature.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_REQUEST_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a status names every label, and there may be thousands
Answer = dict[str, Any]


class Control:
    """Serves `answer(request) -> reply` on `path` until closed."""

    def __init__(self, path: Path, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self._path = path
        self._answer = answer
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A path beyond 107 bytes does not fit the kernel's address; reached through the folder's descriptor it does.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.bind(_address(directory, path.name))
        finally:
            os.close(directory)
        path.chmod(0o600)
        self._socket.listen(4)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                connection.sendall(self._handle(_read_line(connection, MAX_REQUEST_BYTES)) + b"\n")

    def _handle(self, line: bytes) -> bytes:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("expected an object")
            return json.dumps(self._answer(request)).encode()
        except Exception as error:
            # The caller is a person at a terminal: whatever went wrong is theirs to read, and the door stays open.
            return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()


def ask(path: Path, request: dict[str, Any], timeout_s: float = 10.0) -> Answer | None:
    """The daemon's answer, or None where no daemon listens at `path`. Raises PermissionError where it is not ours."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(_address(directory, path.name))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_read_line(connection, MAX_ANSWER_BYTES))
            return answer if isinstance(answer, dict) else None
    except PermissionError:
        raise
    except (OSError, ValueError):
        return None
    finally:
        os.close(directory)


def _address(directory: int, name: str) -> str:
    return f"/proc/self/fd/{directory}/{name}"


def _read_line(connection: socket.socket, max_bytes: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < max_bytes:
        part = connection.recv(65_536)
        if not part:
            break
        line += part
    return bytes(line)
