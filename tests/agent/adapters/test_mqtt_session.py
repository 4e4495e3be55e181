from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.mqtt_session import Accepted, Acknowledged, Arrived, LinkConfig, Session, SessionEnded
from agent.adapters.reconnect import Protocol
from demo.broker import Broker

WILL = ("a/will", b"gone")


def a_config(port: int = 1883, **changes: Any) -> LinkConfig:
    return LinkConfig(**{"host": "127.0.0.1", "port": port, "client_id": "cam-1", **changes})


class Drive:
    """A session and the loop around it."""

    def __init__(self, config: LinkConfig, protocol: Protocol) -> None:
        self.wake, self.waker = socket.socketpair()
        self.wake.setblocking(False)
        self.session = Session(config, protocol, *WILL)
        self.happened: list[Any] = []

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(300):
            if condition():
                return
            self.happened += self.session.step(self.wake, 0.05)
        raise AssertionError(f"waited in vain; happened: {self.happened}")

    def saw(self, kind: type) -> bool:
        return any(isinstance(item, kind) for item in self.happened)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"host": ""}, "host"),
        ({"port": 0}, "port"),
        ({"port": 65_536}, "port"),
        ({"client_id": ""}, "client_id"),
        ({"keepalive_s": 0}, "keepalive_s"),
        ({"max_message_bytes": 0}, "max_message_bytes"),
        ({"tls": True, "cert_file": "cert.pem"}, "key_file"),
        ({"ca_file": "ca.pem"}, "tls"),
    ],
)
def test_a_config_that_cannot_work_is_refused_by_name(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        a_config(**changes)


def test_the_password_is_not_shown() -> None:
    assert "sesame" not in repr(a_config(password="open sesame"))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_session_from_beginning_to_end(mosquitto: Broker, protocol: Protocol) -> None:
    drive = Drive(a_config(mosquitto.port), protocol)
    drive.session.begin()
    drive.until(lambda: drive.saw(Accepted))
    assert drive.happened == [Accepted(None, 20)]
    assert drive.session.accepted
    assert not drive.session.subscribed
    drive.session.subscribe(["a/b"])
    assert not drive.session.subscribed
    drive.until(lambda: drive.session.subscribed)
    mid = drive.session.publish("a/b", b"hello", qos=1, retain=False)
    drive.until(lambda: drive.saw(Acknowledged) and drive.saw(Arrived))
    assert Arrived("a/b", b"hello") in drive.happened
    assert Acknowledged(mid, 0, "") in drive.happened
    drive.session.disconnect()
    with pytest.raises(SessionEnded):
        drive.until(lambda: False)


def test_only_an_abandoned_session_leaves_its_will(mosquitto: Broker) -> None:
    witness = Drive(a_config(mosquitto.port, client_id="witness"), "5")
    witness.session.begin()
    witness.until(lambda: witness.saw(Accepted))
    witness.session.subscribe(["a/will"])
    witness.until(lambda: witness.session.subscribed)
    for end, wills in ((Session.disconnect, 0), (Session.abandon, 1)):
        drive = Drive(a_config(mosquitto.port), "5")
        drive.session.begin()
        drive.until(lambda drive=drive: drive.saw(Accepted))  # type: ignore[misc]
        end(drive.session)
        mid = witness.session.publish("marker", b"", qos=1, retain=False)
        witness.until(lambda mid=mid: Acknowledged(mid, 0x10, "") in witness.happened)  # type: ignore[misc]
        if wills:
            witness.until(lambda: Arrived(*WILL) in witness.happened)
        assert witness.happened.count(Arrived(*WILL)) == wills


def test_waking_returns_at_once(mosquitto: Broker) -> None:
    drive = Drive(a_config(mosquitto.port), "5")
    drive.session.begin()
    drive.until(lambda: drive.saw(Accepted))
    drive.waker.send(b"\0" * 100)
    assert drive.session.step(drive.wake, 3_600) == []
    with pytest.raises(BlockingIOError):
        drive.wake.recv(1)


@pytest.mark.parametrize(
    ("protocol", "answer", "suspect"),
    [
        ("5", b"\x20\x02\x00\x01", True),  # a 3.1.1 broker: "unacceptable protocol version"
        ("3.1.1", b"\x20\x02\x00\x01", True),
        ("3.1.1", b"\x20\x02\x00\x05", False),  # not authorised: no other version would help
        ("5", b"\x20\x03\x00\x87\x00", False),
        ("5", b"", True),
        ("5", b"SSH-2.0-OpenSSH_9.2\r\n", True),
    ],
)
def test_whether_another_version_may_help(protocol: Protocol, answer: bytes, suspect: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        drive = Drive(a_config(listener.getsockname()[1]), protocol)
        drive.session.begin()
        connection, _ = listener.accept()
        with connection:
            connection.recv(1_000)
            connection.sendall(answer)
        with pytest.raises(SessionEnded) as caught:
            drive.until(lambda: False)
    assert caught.value.version_suspect == suspect
    assert caught.value.reason


def test_an_unreachable_broker_is_named(free_port: int) -> None:
    with pytest.raises(SessionEnded, match=rf"127\.0\.0\.1:{free_port}.*refused") as caught:
        Drive(a_config(free_port), "5").session.begin()
    assert not caught.value.version_suspect


LOADED = "import sys, agent.adapters.mqtt_session\nprint('http.client' in sys.modules, 'urllib.request' in sys.modules)"


def loaded(*more: str, path: Path) -> list[str]:
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": str(path)}
    code = "\n".join([LOADED, *more])
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    return ran.stdout.decode().split()


def test_the_http_library_is_not_loaded_but_can_be(tmp_path: Path) -> None:
    """paho finds out about proxies through it, and has no use for the answer without PySocks."""
    connect = (
        "import socket, urllib.request\nfrom paho.mqtt.client import CallbackAPIVersion, Client",
        "with socket.create_server(('127.0.0.1', 0)) as server:",
        "    print(Client(CallbackAPIVersion.VERSION2).connect('127.0.0.1', server.getsockname()[1]))",
        "print(urllib.request.Request('http://x/').host)",
    )
    assert loaded(*connect, path=tmp_path) == ["False", "False", "0", "x"]


def test_with_pysocks_paho_may_ask_for_a_proxy(tmp_path: Path) -> None:
    (tmp_path / "socks.py").write_text("")
    assert loaded(path=tmp_path) == ["True", "True"]
