"""Metrics for Prometheus: a file for node_exporter's textfile collector, or a port of this machine. Imported where one
of them is configured only: it costs two threads and what http.server needs."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

EVERY_S = 15.0
PATIENCE_S = 5.0
LOOPBACK = "127.0.0.1"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Text = Callable[[], str]


class MetricsFile:
    """Writes `text()` to `path` every EVERY_S. Whole or not at all for who reads it, but not synced: it is nothing
    after a power cut, and a card does not last for ever."""

    def __init__(self, path: Path, text: Text, log: FilteringBoundLogger, every_s: float = EVERY_S) -> None:
        self._path, self._text, self._log, self._every_s = path, text, log, every_s
        self._failing = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-file", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The file goes: figures of a daemon that does not run would be taken for its present ones."""
        self._closing.set()
        self._thread.join(PATIENCE_S)
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            self._write()
            if self._closing.wait(self._every_s):
                return

    def _write(self) -> None:
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(self._text(), encoding="utf-8")
            temporary.chmod(0o644)  # node_exporter is another user
            temporary.replace(self._path)
        except Exception as error:
            # Whatever is wrong, with the disk or with a figure: it is said once, and the next time may be better.
            if not self._failing:
                self._log.warning("metrics_not_written", error=f"{type(error).__name__}: {error}")
            self._failing = True
            return
        self._failing = False


class _Server(TCPServer):
    """Not http.server's own: that asks the domain name system who 127.0.0.1 is."""

    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a reader that hung up


class MetricsPort:
    """Answers GET /metrics on the loopback interface, one reader at a time. Raises OSError where the port is taken."""

    def __init__(self, port: int, text: Text) -> None:
        self._server = _Server((LOOPBACK, port), _handler(text))
        self.port = int(self._server.server_address[1])
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="metrics-port", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)  # ends the wait for a reader
        self._thread.join(PATIENCE_S)
        self._server.server_close()

    def _serve(self) -> None:
        """Not serve_forever: that looks twice a second whether it is to end, and an idle device is to stay idle."""
        while not self._closing:
            self._server.handle_request()


def _handler(text: Text) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_S
        server_version, sys_version = "understudy", ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/", "/metrics"):
                self.send_error(404)
                return
            try:
                body = text().encode()
            except Exception as error:  # the reader is told, and the door stays open
                self.send_error(500, explain=f"{type(error).__name__}: {error}")
                return
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # the daemon's log is about images

    return Handler
