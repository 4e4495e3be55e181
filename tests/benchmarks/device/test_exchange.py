from __future__ import annotations

import socket
import threading
import time

import pytest

from benchmarks.device.exchange import HOST, TOPICS, ByteCount, ExchangeError, exchange
from benchmarks.device.model import images
from benchmarks.device.wire import random_teacher
from cloud_teacher.worker import TeacherWorker
from transfer import wire
from transfer.activations import decode
from transfer.chunks import cut
from transfer.preprocess import encode_png
from transfer.spec import resnet_cifar


@pytest.fixture(scope="module")
def worker() -> TeacherWorker:
    return TeacherWorker(random_teacher(resnet_cifar(8, 10)))


def ask(**changes: object) -> wire.ActivationRequest:
    fields: dict[str, object] = {
        "request_id": "r",
        "reply_topic": TOPICS.teacher_reply,
        "expires_utc": time.time() + 600,
        "sample_ids": ("0" * 64, "1" * 64),
        "images": tuple(encode_png(image) for image in images(1, 0)[:2]),
        "views": (0, 1),
    }
    return wire.ActivationRequest(**(fields | changes))  # type: ignore[arg-type]


def test_what_is_counted_is_the_messages_and_little_more(worker: TeacherWorker) -> None:
    request = ask()
    found = exchange(worker, request)
    assert decode(found.answer).logits.shape == (2, 2, 10)
    chunk = next(cut("r", "activations", found.answer))
    assert 0 < found.up_bytes - len(wire.encode(request)) < 200
    assert 0 < found.down_bytes - len(wire.encode(chunk)) < 200


def test_a_refusal_is_an_error_with_its_reason(worker: TeacherWorker) -> None:
    with pytest.raises(ExchangeError, match="wrong_teacher"):
        exchange(worker, ask(teacher="0" * 64))


def test_every_byte_is_counted_in_its_direction() -> None:
    with socket.create_server((HOST, 0)) as server:

        def answer_twice_over() -> None:
            with server.accept()[0] as connection:
                while data := connection.recv(100):
                    connection.sendall(data * 2)

        thread = threading.Thread(target=answer_twice_over)
        thread.start()
        count = ByteCount(server.getsockname()[1])
        with socket.create_connection((HOST, count.port)) as client:
            client.sendall(b"x" * 1000)
            got = b""
            while len(got) < 2000:
                got += client.recv(4096)
        thread.join()
        count.close()
    assert (count.up, count.down) == (1000, 2000)
