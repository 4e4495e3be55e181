from __future__ import annotations

import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_teacher.broker_link import BrokerAddress, BrokerError, BrokerLink, parse_broker
from demo.broker import Broker
from transfer.wire import MAX_MESSAGE_BYTES

TIMEOUT_S = 10.0


def address(broker: Broker) -> BrokerAddress:
    return BrokerAddress("127.0.0.1", broker.port)


def listening(broker: Broker, topic: str) -> tuple[BrokerLink, queue.Queue[tuple[str, bytes]]]:
    heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
    link = BrokerLink(address(broker), subscribe=lambda _: [topic], receive=lambda t, p: heard.put((t, p)))
    link.connect()
    return link, heard


def test_mqtt5_where_the_broker_speaks_it(mosquitto: Broker) -> None:
    link, heard = listening(mosquitto, "a/+")
    assert link.protocol == "5"
    assert link.publish("a/b", b"x", timeout_s=TIMEOUT_S) is True
    assert heard.get(timeout=TIMEOUT_S) == ("a/b", b"x")
    assert link.publish("nobody/listens", b"x", timeout_s=TIMEOUT_S) is False
    link.close()


def test_mqtt_3_1_1_where_it_does_not(amqtt_broker: Broker) -> None:
    link, heard = listening(amqtt_broker, "a/+")
    assert link.protocol == "3.1.1"
    link.publish("a/b", b"x", timeout_s=TIMEOUT_S)
    assert heard.get(timeout=TIMEOUT_S) == ("a/b", b"x")
    link.close()


@pytest.mark.spec("15.1")
def test_the_brokers_packet_limit_is_respected(start_mosquitto: Callable[..., Broker]) -> None:
    broker = start_mosquitto("max_packet_size 2000")
    link, heard = listening(broker, "a/b")
    limit = link.payload_limit_bytes("a/b")
    assert 1900 < limit < 2000
    link.publish("a/b", b"x" * limit, timeout_s=TIMEOUT_S)
    assert len(heard.get(timeout=TIMEOUT_S)[1]) == limit
    link.close()


def test_our_own_limit_where_the_broker_has_none(mosquitto: Broker) -> None:
    link, _ = listening(mosquitto, "a/b")
    assert link.payload_limit_bytes("a/b") == MAX_MESSAGE_BYTES
    link.close()


def test_nobody_there_is_said_with_the_address(free_port: int) -> None:
    with pytest.raises(BrokerError, match=rf"cannot reach mqtt://127\.0\.0\.1:{free_port}"):
        BrokerLink(BrokerAddress("127.0.0.1", free_port)).connect()


def test_a_wrong_password_is_said_without_showing_it(start_mosquitto: Callable[..., Broker], tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("somebody:$7$101$AAAA$AAAA\n")
    passwords.chmod(0o600)
    broker = start_mosquitto("allow_anonymous false", f"password_file {passwords}")
    stranger = BrokerAddress("127.0.0.1", broker.port, "somebody", "secret-word")
    with pytest.raises(BrokerError, match="refuses us") as caught:
        BrokerLink(stranger).connect()
    assert "secret-word" not in str(caught.value)


def test_patience_ends_when_asked_to(free_port: int) -> None:
    stop = threading.Event()
    complaints: list[str] = []

    def complain(reason: str) -> None:
        complaints.append(reason)
        stop.set()

    link = BrokerLink(BrokerAddress("127.0.0.1", free_port))
    assert link.connect_patiently(stop, complain) is False
    assert len(complaints) == 1


def test_the_link_comes_back_and_subscribes_again(start_mosquitto: Callable[..., Broker], free_port: int) -> None:
    first = start_mosquitto(port=free_port)
    link, heard = listening(first, "a/b")
    first.stop()
    second = start_mosquitto(port=free_port)
    give_up_s = time.monotonic() + 30
    while True:
        try:
            link.publish("a/b", b"again", timeout_s=TIMEOUT_S)
            break
        except BrokerError:
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
    assert heard.get(timeout=TIMEOUT_S) == ("a/b", b"again")
    link.close()
    second.stop()


def test_tls_is_used_and_the_brokers_certificate_checked(
    start_mosquitto: Callable[..., Broker], tmp_path: Path
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate to test with")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    key.chmod(0o644)  # mosquitto drops root before it reads the key
    tmp_path.chmod(0o755)
    broker = start_mosquitto(f"certfile {certificate}", f"keyfile {key}")
    trusting = BrokerLink(BrokerAddress("127.0.0.1", broker.port, tls=True, ca_file=certificate))
    trusting.connect()
    trusting.publish("a/b", b"x", timeout_s=TIMEOUT_S)
    trusting.close()
    with pytest.raises(BrokerError, match=r"cannot reach mqtts://.*certificate"):
        BrokerLink(BrokerAddress("127.0.0.1", broker.port, tls=True)).connect()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://host", BrokerAddress("host", 1883)),
        ("mqtts://host", BrokerAddress("host", 8883, tls=True)),
        ("mqtt://me:p%40ss@10.0.0.1:99/", BrokerAddress("10.0.0.1", 99, "me", "p@ss")),
        ("mqtt://[::1]:1884", BrokerAddress("::1", 1884)),
    ],
)
def test_urls(url: str, expected: BrokerAddress) -> None:
    assert parse_broker(url) == expected


@pytest.mark.parametrize(
    "url", ["host:1883", "http://host", "mqtt://", "mqtt://host:port", "mqtt://h:99999", "mqtt://h/x"]
)
def test_what_is_no_broker_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected mqtt://"):
        parse_broker(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(ValueError) as caught:
        parse_broker("http://me:secret-word@host")
    assert "secret-word" not in str(caught.value)


def test_addresses_are_shown_without_the_password() -> None:
    assert str(parse_broker("mqtts://me:secret@host")) == "mqtts://me@host:8883"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_link_whose_thread_has_died_is_known(mosquitto: Broker) -> None:
    def fail(topic: str, payload: bytes) -> None:
        raise RuntimeError("a defect in what receives")

    link = BrokerLink(address(mosquitto), subscribe=lambda _: ["a/b"], receive=fail)
    link.connect()
    assert link.alive()
    link.send("a/b", b"x")
    until_s = time.monotonic() + TIMEOUT_S
    while link.alive():
        assert time.monotonic() < until_s, "the thread outlived its callback's error"
        time.sleep(0.01)
    link.close()
