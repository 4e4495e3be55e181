"""sd_notify against a real datagram socket, as systemd holds one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from transfer.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket and what NOTIFY_SOCKET would say."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@understudy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(5)
        yield listener, name


def test_every_message_arrives(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": name})
    assert notifier.ready() and notifier.status("training\n3 of 12") and notifier.watchdog() and notifier.stopping()
    received = [listener.recv(1000) for _ in range(4)]
    assert received == [b"READY=1", b"STATUS=training 3 of 12", b"WATCHDOG=1", b"STOPPING=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_socket_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier.from_environment(environment)
    assert not notifier.ready() and not notifier.watchdog()


def test_a_socket_that_is_gone_is_no_error(tmp_path: Path) -> None:
    assert not Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier.from_environment(environment).watchdog_s == watchdog_s


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert Notifier.from_environment().watchdog_s == 1.0
