"""The doctor at real brokers: open, closed, with passwords, with rules, with TLS; each failure with its own advice."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.config import Config, Device, Mqtt
from agent.doctor import broker
from agent.doctor.broker import examine_broker
from agent.doctor.finding import Finding
from demo.broker import Broker

pytestmark = pytest.mark.spec("12.2")

DEVICE = Device(name="cam", fleet="home", prefix="understudy")
TREE = "understudy/v1/home/cam/"


def finding(port: int, **mqtt: Any) -> Finding:
    found = examine_broker(Config(device=DEVICE, mqtt=Mqtt(host="127.0.0.1", port=port, **mqtt)))
    assert found["what"] == "broker" and (found["state"] == "works") == (found["advice"] == "")
    return found


def test_the_way_to_the_broker_and_back(mosquitto: Broker) -> None:
    found = finding(mosquitto.port)
    assert found["state"] == "works" and "MQTT 5, echo after" in found["detail"], found


def test_a_broker_that_speaks_the_older_version_only(amqtt_broker: Broker) -> None:
    found = finding(amqtt_broker.port)
    assert found["state"] == "works" and "MQTT 3.1.1" in found["detail"], found


def test_the_brokers_limit_is_told(start_mosquitto: Callable[..., Broker]) -> None:
    found = finding(start_mosquitto("max_packet_size 30000").port)
    assert "at most 30,000 bytes" in found["detail"]


def test_no_session_is_left_behind(mosquitto: Broker) -> None:
    """A broker would keep for it, for ever, what the daemon is told."""
    finding(mosquitto.port)
    present: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, "understudy-home-cam-doctor", protocol=paho.MQTTv5)
    client.on_connect = lambda client, data, flags, code, properties: present.append(flags.session_present)
    client.connect("127.0.0.1", mosquitto.port, clean_start=False)
    while not present:
        client.loop(1)
    client.disconnect()
    assert present == [False]


def test_a_closed_port_says_what_may_be_wrong(free_port: int) -> None:
    found = finding(free_port)
    assert found["state"] == "limited" and "efused" in found["detail"]
    assert "mqtt.port" in found["advice"] and "running" in found["advice"]


def test_an_unknown_name_says_so() -> None:
    found = examine_broker(Config(device=DEVICE, mqtt=Mqtt(host="no-such-broker.invalid")))
    assert found["state"] == "limited" and "mqtt.host 'no-such-broker.invalid' is not known here" in found["advice"]


def test_something_that_is_no_broker_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        found = finding(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
    assert found["state"] == "limited" and "not be MQTT" in found["advice"]


# ------------------------------------------------------------------------------------------------ who may do what


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed: apt install mosquitto")
    path = tmp_path / "accounts"
    subprocess.run(["mosquitto_passwd", "-b", "-c", path, "cam", "open sesame"], check=True, capture_output=True)
    return path


def test_passwords(accounts: Path, start_mosquitto: Callable[..., Broker], free_port: int, tmp_path: Path) -> None:
    start_mosquitto("allow_anonymous false", f"password_file {accounts}", port=free_port)
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("open sesame\n")
    wrong.write_text("sesame\n")
    assert finding(free_port, username="cam", password_file=str(right))["state"] == "works"
    for login in ({"username": "cam", "password_file": str(wrong)}, {"username": "who"}, {}):
        found = finding(free_port, **login)
        assert found["state"] == "limited" and "uthorized" in found["detail"]
        assert "mqtt.username" in found["advice"] and "mqtt.password_file" in found["advice"]


def test_a_password_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    found = finding(1883, username="cam", password_file=str(tmp_path / "none"))
    assert found["state"] == "fails" and "mqtt.password_file" in found["detail"]
    (tmp_path / "empty").write_text("")
    assert "empty" in finding(1883, username="cam", password_file=str(tmp_path / "empty"))["detail"]


@pytest.mark.parametrize(
    ("rules", "advice"),
    [
        (f"topic read {TREE}#\n", f"not write {TREE}#"),
        (f"topic write {TREE}#\n", f"reading and writing of {TREE}#"),
        (f"topic deny {TREE}#\n", f"{TREE}#"),
        (f"topic readwrite {TREE}#\n", ""),
    ],
)
def test_rules(rules: str, advice: str, start_mosquitto: Callable[..., Broker], tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(rules)
    found = finding(start_mosquitto(f"acl_file {tmp_path / 'acl'}").port)
    assert found["state"] == ("limited" if advice else "works") and advice in found["advice"], found


# ------------------------------------------------------------------------------------------------ TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt install openssl")
    key, path = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", path),
        ],
        check=True,
        capture_output=True,
    )
    return path, key


def test_tls(certificate: tuple[Path, Path], start_mosquitto: Callable[..., Broker], mosquitto: Broker) -> None:
    path, key = certificate
    port = start_mosquitto(f"certfile {path}", f"keyfile {key}").port
    assert "TLS, MQTT 5" in finding(port, tls=True, ca_file=str(path))["detail"]
    unknown = finding(port, tls=True)
    assert "self" in unknown["detail"] and "mqtt.ca_file" in unknown["advice"]
    plain = finding(port)
    assert "mqtt.tls: true" in plain["advice"], plain
    assert "mqtt.tls: false" in finding(mosquitto.port, tls=True)["advice"]
    absent = finding(port, tls=True, ca_file=str(path.parent / "none.pem"))
    assert "PEM files" in absent["advice"]
    other = examine_broker(Config(device=DEVICE, mqtt=Mqtt(host="localhost", port=port, tls=True, ca_file=str(path))))
    assert "'localhost' must be a name that stands in the broker's certificate" in other["advice"], other


def test_a_broker_that_wants_a_client_certificate(
    certificate: tuple[Path, Path], start_mosquitto: Callable[..., Broker]
) -> None:
    path, key = certificate
    options = (f"certfile {path}", f"keyfile {key}", f"cafile {path}", "require_certificate true")
    port = start_mosquitto(*options).port
    assert "mqtt.cert_file" in finding(port, tls=True, ca_file=str(path))["advice"]
    with_one = {"tls": True, "ca_file": str(path), "cert_file": str(path), "key_file": str(key)}
    assert finding(port, **with_one)["state"] == "works"


@pytest.mark.spec("8.2")
@pytest.mark.parametrize("message", ["certificate is not yet valid", "certificate has expired"])
def test_a_certificate_out_of_its_time_puts_the_clock_under_suspicion(message: str) -> None:
    assert "clock says 20" in broker._certificate_advice(message, Mqtt(host="x"))
