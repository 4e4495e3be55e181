"""`understudy teacher serve`: the worker behind a broker. Requests queue here and are answered some at a time."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from cloud_teacher.broker_link import BrokerAddress, BrokerError, BrokerLink
from cloud_teacher.worker import MAX_REQUEST_BYTES, Request, TeacherWorker, allowed_reply, refusal
from transfer import wire
from transfer.notify import Notifier

QUEUE_REQUESTS = 64
QUEUE_BYTES = 512 * 2**20
BATCH_IMAGES = 256
BUSY_RETRY_S = 5.0
PUBLISH_TIMEOUT_S = 60.0
WAIT_S = 0.5


class Arrived(NamedTuple):
    topic: str
    payload: bytes


class Service:
    """Joins a worker to a broker. `run` returns after `stop` is set and what was queued has been answered."""

    def __init__(
        self,
        worker: TeacherWorker,
        address: BrokerAddress,
        topics: wire.Topics,
        log: FilteringBoundLogger,
        notifier: Notifier | None = None,
    ) -> None:
        self._worker, self._address, self._log = worker, address, log
        self._notifier = notifier or Notifier.from_environment()
        self._queue: queue.Queue[Arrived] = queue.Queue(QUEUE_REQUESTS)
        self._queued_bytes = 0
        self._draining = False
        self._lock = threading.Lock()

        def subscribe(v5: bool) -> Sequence[str]:
            return [topics.shared_teacher_requests if v5 else topics.teacher_request]

        self._link = BrokerLink(address, subscribe=subscribe, receive=self._receive)

    def run(self, stop: threading.Event) -> None:
        """Connect, say so, and answer until `stop`.

        To systemd we are ready before the broker is there: a boot must not wait for it. `systemctl status` says so.
        """
        self._notifier.ready()
        self._notifier.status(f"connecting to {self._address}")
        if not self._link.connect_patiently(stop, self._waiting):
            return
        self._log.info(
            "ready",
            broker=str(self._address),
            protocol=self._link.protocol,
            teacher=self._worker.teacher.digest,
            categories=len(self._worker.teacher.labels),
        )
        self._notifier.status(f"answering at {self._address}")
        try:
            while not (stop.is_set() and self._queue.empty()):
                self._draining = stop.is_set()
                self._feed_watchdog()
                batch = self._next_batch()
                if batch:
                    self._answer(batch)
        finally:
            self._notifier.stopping()
            self._link.close()
            self._log.info("stopped", **asdict(self._worker.counters))

    def _waiting(self, reason: str) -> None:
        self._log.warning("waiting", reason=reason)
        self._notifier.status(f"waiting: {reason}")
        self._notifier.watchdog()

    def _feed_watchdog(self) -> None:
        """Once a turn, so that a batch that never ends is noticed; and while requests can come in at all."""
        if self._link.alive():
            self._notifier.watchdog()

    def _receive(self, topic: str, payload: bytes) -> None:
        """From the link's thread: only queues. Too much at once is sent away with a time to come back."""
        with self._lock:
            fits = self._queued_bytes + len(payload) <= QUEUE_BYTES and not self._draining
            if fits and not self._queue.full():
                self._queued_bytes += len(payload)
                self._queue.put_nowait(Arrived(topic, payload))
                return
        self._log.warning("busy", topic=topic)
        try:
            request = wire.decode_request(payload, limit_bytes=MAX_REQUEST_BYTES)
        except wire.WireError:
            return
        if allowed_reply(topic, request.reply_topic):
            with contextlib.suppress(BrokerError):
                busy = refusal(request.request_id, "busy", "too many requests at once", BUSY_RETRY_S)
                self._link.send(request.reply_topic, busy)

    def _next_batch(self) -> list[tuple[str, Request]]:
        """What is queued, up to BATCH_IMAGES images, decoded and checked; waits a moment for the first."""
        batch: list[tuple[str, Request]] = []
        images = 0
        while images < BATCH_IMAGES:
            try:
                arrived = self._queue.get(timeout=WAIT_S) if not batch else self._queue.get_nowait()
            except queue.Empty:
                break
            with self._lock:
                self._queued_bytes -= len(arrived.payload)
            request = self._decoded(arrived)
            if request is not None:
                batch.append((arrived.topic, request))
                images += len(request.images) * len(request.views) if isinstance(request, wire.ActivationRequest) else 0
        return batch

    def _decoded(self, arrived: Arrived) -> Request | None:
        try:
            request = wire.decode_request(arrived.payload, limit_bytes=MAX_REQUEST_BYTES)
        except wire.WireError as error:
            self._log.warning("malformed", topic=arrived.topic, code=error.code, reason=str(error))
            for payload in self._worker.refuse_malformed(arrived.payload, error):
                self._publish(arrived.topic[: -len("req")] + "rsp", [payload])
            return None
        if not allowed_reply(arrived.topic, request.reply_topic):
            self._log.warning("reply_topic_refused", topic=arrived.topic, reply_topic=request.reply_topic)
            return None
        return request

    def _answer(self, batch: Sequence[tuple[str, Request]]) -> None:
        started = time.perf_counter()
        requests = [(request, self._link.payload_limit_bytes(request.reply_topic)) for _, request in batch]
        try:
            answers = self._worker.answer_all(requests)
        except Exception as error:  # one bad batch must not end the service; the devices ask again
            self._log.error("failed", reason=repr(error), requests=[request.request_id for _, request in batch])
            return
        for (_, request), payloads in zip(batch, answers, strict=True):
            self._publish(request.reply_topic, payloads)
            self._log.info(
                "answered",
                request_id=request.request_id,
                messages=len(payloads),
                bytes=sum(map(len, payloads)),
                seconds=round(time.perf_counter() - started, 3),
            )

    def _publish(self, topic: str, payloads: Sequence[bytes]) -> None:
        try:
            # Waiting for the broker paces us: paho would queue without bound.
            self._link.wait([self._link.send(topic, payload) for payload in payloads], timeout_s=PUBLISH_TIMEOUT_S)
        except BrokerError as error:
            self._log.warning("not_delivered", topic=topic, reason=str(error))
