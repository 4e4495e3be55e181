"""A TCP proxy for tests: records every byte that passes, and can stall, cut and change what passes, as networks do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Literal

import mqtt_packets

HOST = "127.0.0.1"
Direction = Literal["up", "down"]


class TcpTap:
    """Connect to `port` instead of `target_port`. `upstream` is what clients sent, `downstream` what they got.

    With `change`, each MQTT packet is replaced by what change(direction, packet) makes of it: none, one or several.
    """

    def __init__(self, target_port: int, change: Callable[[Direction, bytes], Iterable[bytes]] | None = None) -> None:
        self.target_port = target_port
        self.change = change
        self.connections = 0
        self._upstream = bytearray()
        self._downstream = bytearray()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="tap", daemon=True).start()

    @property
    def upstream(self) -> bytes:
        with self._lock:
            return bytes(self._upstream)

    @property
    def downstream(self) -> bytes:
        with self._lock:
            return bytes(self._downstream)

    def stall(self) -> None:
        """Keep every connection open and pass nothing on, as a half-open link does."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Close all connections now; new ones are served."""
        with self._lock:
            doomed, self._sockets = self._sockets, []
        for one in doomed:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._listener.close()
        self._flowing.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection((HOST, self.target_port), timeout=5)
            except OSError:  # nobody there: the client sees what it would see without us
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self.connections += 1
                self._sockets += [client, server]
            for way in (("up", client, server, self._upstream), ("down", server, client, self._downstream)):
                threading.Thread(target=self._pump, args=way, name="tap", daemon=True).start()

    def _pump(self, direction: Direction, source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        waiting = bytearray()
        with suppress(OSError):
            while data := source.recv(65_536):
                self._flowing.wait()
                if self.change is not None:
                    waiting += data
                    data = b"".join(
                        made for packet in mqtt_packets.cut(waiting) for made in self.change(direction, packet)
                    )
                with self._lock:
                    record += data
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
