"""A question to a teacher and its answer, over a real broker, and every byte that the device sent and got for it."""

from __future__ import annotations

import queue
import socket
import tempfile
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from cloud_teacher.broker_link import BrokerAddress, BrokerError, BrokerLink
from cloud_teacher.worker import TeacherWorker
from demo import broker
from transfer import wire
from transfer.chunks import Assembly

HOST = "127.0.0.1"
TIMEOUT_S = 300.0
TOPICS = wire.Topics("understudy", "home", "camera-1")


class ExchangeError(RuntimeError):
    """There was no broker or no answer; the message says what to do."""


@dataclass(frozen=True)
class Exchanged:
    """up_bytes, down_bytes: of the device's connection, MQTT's own included, TCP's and IP's headers not. answer: the
    whole that the chunks were cut from."""

    up_bytes: int
    down_bytes: int
    answer: bytes


def exchange(worker: TeacherWorker, request: wire.ActivationRequest) -> Exchanged:
    """Ask through a broker of its own: mosquitto where it is installed, else amqtt. Raises ExchangeError."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-wire-"))
        try:
            running = broker.start_broker(Path(folder) / "broker")
            stack.callback(running.stop)
            count = ByteCount(running.port)
            stack.callback(count.close)
            questions, answers = queue.Queue[bytes](), queue.Queue[bytes]()
            cloud = _link(running.port, TOPICS.teacher_request, questions, stack)
            device = _link(count.port, TOPICS.teacher_reply, answers, stack)
            before = count.up, count.down
            device.publish(TOPICS.teacher_request, wire.encode(request), timeout_s=TIMEOUT_S)
            asked = wire.decode(questions.get(timeout=TIMEOUT_S), wire.ActivationRequest)
            payloads = worker.answer(asked, cloud.payload_limit_bytes(asked.reply_topic))
            cloud.wait([cloud.send(asked.reply_topic, payload) for payload in payloads], timeout_s=TIMEOUT_S)
            whole = _collected(answers, request.request_id)
            return Exchanged(count.up - before[0], count.down - before[1], whole)
        except (broker.BrokerError, BrokerError) as error:
            raise ExchangeError(f"the broker: {error} (install mosquitto, or understudy[demo])") from error
        except queue.Empty:
            raise ExchangeError(f"nothing came over the broker within {TIMEOUT_S:.0f} s") from None


def _link(port: int, topic: str, heard: queue.Queue[bytes], stack: ExitStack) -> BrokerLink:
    link = BrokerLink(
        BrokerAddress(HOST, port), subscribe=lambda _: [topic], receive=lambda _, payload: heard.put(payload)
    )
    link.connect()
    stack.callback(link.close)
    return link


def _collected(answers: queue.Queue[bytes], request_id: str) -> bytes:
    assembly, whole = Assembly(request_id), None
    while whole is None:
        reply = wire.decode_reply(answers.get(timeout=TIMEOUT_S))
        if isinstance(reply, wire.Refusal):
            raise ExchangeError(f"the teacher refuses: {reply.code}: {reply.message}")
        whole = assembly.add(reply)
    return whole


class ByteCount:
    """A TCP proxy in front of `target_port` that counts. `up`: from those who connect to `port`; `down`: to them."""

    def __init__(self, target_port: int) -> None:
        self.up = self.down = 0
        self._target_port = target_port
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="byte-count", daemon=True).start()

    def close(self) -> None:
        """No more connections; those that stand end with their two sides."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._target_port))
            except OSError:  # closed, on either side
                return
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if upwards:  # one thread a direction: no lock is needed
                    self.up += len(data)
                else:
                    self.down += len(data)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
