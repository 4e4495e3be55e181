"""systemd's readiness, status and watchdog protocol (sd_notify(3)): datagrams to a socket. Without one, nothing.

The daemon and the teacher worker both speak it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

SEND_TIMEOUT_S = 1.0


class Notifier:
    """`watchdog_s`: systemd restarts us when `watchdog()` is not called this often; None where it does not watch."""

    def __init__(self, address: str | None, watchdog_s: float | None) -> None:
        self.watchdog_s = watchdog_s
        # A leading '@' stands for the NUL of an abstract address.
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Notifier:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        return cls(address if address.startswith(("/", "@")) else None, _watchdog_s(environment))

    def ready(self) -> bool:
        return self._send("READY=1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("STATUS=" + " ".join(text.split()))

    def stopping(self) -> bool:
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        return self._send("WATCHDOG=1")

    def _send(self, message: str) -> bool:
        """True when systemd took it. Its trouble is never ours: no error leaves."""
        if self._address is None:
            return False
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.settimeout(SEND_TIMEOUT_S)
            s.sendto(message.encode(), self._address)
            return True
        return False


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    interval, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (interval.isascii() and interval.isdigit()) or int(interval) == 0:
        return None
    if pid and pid != str(os.getpid()):  # meant for another process of the unit
        return None
    return int(interval) / 1e6
