from __future__ import annotations

import socket
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from demo.broker import Broker, BrokerError, mosquitto_path, start_broker

needs_mosquitto = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")


def round_trip(broker: Broker, payload: bytes) -> bytes:
    """Publish to ourselves through the broker, on MQTT 3.1.1, which both kinds speak."""
    received: list[bytes] = []
    subscribed: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    client.on_subscribe = lambda *_: subscribed.append(True)
    client.on_message = lambda _client, _userdata, message: received.append(bytes(message.payload))
    client.connect("127.0.0.1", broker.port)
    client.subscribe("a/b", qos=1)
    for _ in range(200):
        if subscribed:
            subscribed.clear()
            client.publish("a/b", payload, qos=1)
        if received:
            break
        client.loop(0.1)
    client.disconnect()
    return received[0]


@needs_mosquitto
def test_mosquitto_is_taken_where_it_is_installed(tmp_path: Path) -> None:
    broker = start_broker(tmp_path)
    try:
        assert broker.kind == "mosquitto"
        assert round_trip(broker, bytes(100_000)) == bytes(100_000)
    finally:
        broker.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port))
    broker.stop()  # again: harmless


def test_amqtt_serves_as_well(amqtt_broker: Broker) -> None:
    assert amqtt_broker.kind == "amqtt"
    assert round_trip(amqtt_broker, bytes(100_000)) == bytes(100_000)


def test_amqtt_is_taken_where_mosquitto_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.broker.mosquitto_path", lambda: None)
    broker = start_broker(tmp_path / "new" / "folder")
    broker.stop()
    assert broker.kind == "amqtt"
    with pytest.raises(BrokerError, match="mosquitto is not installed"):
        start_broker(tmp_path, kind="mosquitto")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"port {port}.*in use"):
            start_broker(tmp_path, port)


def test_an_amqtt_that_dies_is_said_with_the_end_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(BrokerError, match="amqtt ended with code 1"):
        start_broker(tmp_path, kind="amqtt")


@needs_mosquitto
def test_a_bad_option_is_said_with_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="no_such_option"):
        start_broker(tmp_path, kind="mosquitto", options=["no_such_option true"])
