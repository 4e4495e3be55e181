"""The worker as a real process behind a real broker."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_teacher.broker_link import BrokerAddress, BrokerLink
from cloud_teacher.datasets import Dataset
from cloud_teacher.zoo import Teacher
from demo.broker import Broker
from transfer import wire
from transfer.activations import decode
from transfer.preprocess import encode_png

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
TOPICS = wire.Topics("understudy", "home", "edge-1")

Start = Callable[[Broker], "Served"]


class Served:
    """A worker process; `events` are the lines of its JSON log."""

    def __init__(self, port: int, bundle_dir: Path, **environment: str) -> None:
        command = ["-m", "cloud_teacher", "teacher", "serve", "--teacher", str(bundle_dir), "--threads", "1", "--json"]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--broker", f"mqtt://127.0.0.1:{port}"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, event: str) -> dict[str, object]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told: dict[str, object] = json.loads(line)
            if told["event"] == event:
                return told
        raise AssertionError(f"the worker ended without saying {event!r}")


@pytest.fixture
def start(bundle_dir: Path) -> Iterator[Start]:
    running: list[Served] = []

    def begin(broker: Broker) -> Served:
        running.append(Served(broker.port, bundle_dir))
        return running[-1]

    yield begin
    for served in running:
        served.process.kill()
        served.process.wait()
        assert served.process.stdout is not None
        served.process.stdout.close()


class Device:
    """Asks as a device does."""

    def __init__(self, broker: Broker) -> None:
        self.heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.link = BrokerLink(
            BrokerAddress("127.0.0.1", broker.port),
            subscribe=lambda _: ["understudy/#"],
            receive=lambda topic, payload: self.heard.put((topic, payload)),
        )
        self.link.connect()

    def send(self, payload: bytes) -> None:
        self.link.publish(TOPICS.teacher_request, payload, timeout_s=TIMEOUT_S)

    def reply(self) -> wire.Chunk | wire.Refusal:
        while True:
            topic, payload = self.heard.get(timeout=TIMEOUT_S)
            if topic == TOPICS.teacher_reply:
                return wire.decode_reply(payload)


def request(dataset: Dataset, request_id: str, reply_topic: str = TOPICS.teacher_reply) -> bytes:
    message = wire.ActivationRequest(
        request_id=request_id,
        reply_topic=reply_topic,
        expires_utc=time.time() + 600,
        sample_ids=("0" * 64,),
        images=(encode_png(dataset.test_images[0]),),
        views=(0, 1),
    )
    return wire.encode(message)


def test_a_device_is_answered_and_bad_messages_do_no_harm(
    mosquitto: Broker, start: Start, dataset: Dataset, teacher: Teacher
) -> None:
    served, device = start(mosquitto), Device(mosquitto)
    ready = served.wait_for("ready")
    assert (ready["protocol"], ready["teacher"]) == ("5", teacher.digest)
    device.send(b"\xff garbage")
    device.send(request(dataset, "elsewhere", reply_topic="understudy/v1/home/trigger"))
    device.send(request(dataset, "mine"))
    reply = device.reply()
    assert isinstance(reply, wire.Chunk) and reply.request_id == "mine"
    assert decode(reply.data).teacher == teacher.digest
    assert all(topic != "understudy/v1/home/trigger" for topic, _ in list(device.heard.queue))
    device.send(wire.encode(wire.BundleRequest(request_id="b", reply_topic=TOPICS.teacher_reply, expires_utc=1e10)))
    bundled = device.reply()
    assert isinstance(bundled, wire.Chunk) and bundled.content == "bundle"
    served.process.send_signal(signal.SIGTERM)
    stopped = served.wait_for("stopped")
    assert (stopped["requests"], stopped["malformed"]) == (2, 1)
    assert served.process.wait(TIMEOUT_S) == 0
    device.link.close()


def test_it_works_on_mqtt_3_1_1(amqtt_broker: Broker, start: Start, dataset: Dataset) -> None:
    served, device = start(amqtt_broker), Device(amqtt_broker)
    assert served.wait_for("ready")["protocol"] == "3.1.1"
    device.send(request(dataset, "mine"))
    reply = device.reply()
    assert isinstance(reply, wire.Chunk) and reply.request_id == "mine"
    device.link.close()


def test_two_workers_divide_the_requests(mosquitto: Broker, start: Start, dataset: Dataset) -> None:
    workers, device = [start(mosquitto), start(mosquitto)], Device(mosquitto)
    for worker in workers:
        worker.wait_for("ready")
    for index in range(6):
        device.send(request(dataset, f"r{index}"))
    assert sorted(device.reply().request_id for _ in range(6)) == [f"r{index}" for index in range(6)]
    shares = []
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
        shares.append(worker.wait_for("stopped")["requests"])
    assert sorted(shares) == [3, 3]
    device.link.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(TIMEOUT_S)
        yield listener


@pytest.mark.spec("17.1")
def test_systemd_is_told_and_its_watchdog_fed(mosquitto: Broker, bundle_dir: Path, manager: socket.socket) -> None:
    served = Served(mosquitto.port, bundle_dir, NOTIFY_SOCKET=str(manager.getsockname()))
    with served.process:
        heard = [manager.recv(1000) for _ in range(5)]
        assert heard[0] == b"READY=1" and heard[1].startswith(b"STATUS=connecting to mqtt://127.0.0.1:")
        assert heard[2].startswith(b"STATUS=answering at mqtt://127.0.0.1:")
        assert heard[3:] == [b"WATCHDOG=1"] * 2
        served.process.send_signal(signal.SIGTERM)
        while heard[-1] != b"STOPPING=1":
            heard.append(manager.recv(1000))
        assert served.process.wait(TIMEOUT_S) == 0


def test_a_boot_does_not_wait_for_the_broker_and_waiting_is_no_hang(
    bundle_dir: Path, manager: socket.socket, free_port: int
) -> None:
    served = Served(free_port, bundle_dir, NOTIFY_SOCKET=str(manager.getsockname()))
    with served.process:
        assert manager.recv(1000) == b"READY=1"
        assert manager.recv(1000).startswith(b"STATUS=connecting")
        for _ in range(2):
            assert manager.recv(1000).startswith(b"STATUS=waiting: cannot reach mqtt://127.0.0.1:")
            assert manager.recv(1000) == b"WATCHDOG=1"
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(TIMEOUT_S) == 0
