"""The teacher worker, without its socket: a request goes in, the payloads of the answer come out.

It keeps nothing that matters: every request is self-contained, so any worker can answer it, and a worker that dies is
replaced by starting another. What it remembers, the last answers, only saves computing them again when a device asks
again for what it did not receive whole.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from cloud_teacher.answer_cache import AnswerCache
from cloud_teacher.zoo import Teacher
from transfer import bundle, wire
from transfer.activations import encode
from transfer.chunks import cut
from transfer.preprocess import ImageError, decode_image, fit
from transfer.questions import Question, QuestionError, check

MAX_REQUEST_BYTES = 64 * 2**20
MAX_SIDE = 1024
MAX_PICTURES = 4096
"""Images times views of one request."""
MAX_VALUES = 256 * 2**20
"""Logits and values of maps in one answer."""
CACHE_BYTES = 256 * 2**20

Request = wire.ActivationRequest | wire.BundleRequest


@dataclass
class Counters:
    """What was done since the start. A request counts once, however often it arrives."""

    requests: int = 0
    repeats: int = 0
    images: int = 0
    refused: int = 0
    malformed: int = 0
    answer_bytes: int = 0
    seconds: float = 0.0


class Refused(Exception):
    """The request will not be answered; becomes a wire.Refusal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Open:
    """A request on its way to an answer."""

    request: Request
    limit_bytes: int
    key: str
    question: Question | None = None
    whole: bytes | None = None
    refused: Refused | None = None


@dataclass
class TeacherWorker:
    """Answers requests about one teacher. `bundle_dir`: the bundle to hand out to devices that ask at home."""

    teacher: Teacher
    bundle_dir: Path | None = None
    cache: AnswerCache = field(default_factory=lambda: AnswerCache(CACHE_BYTES))
    counters: Counters = field(default_factory=Counters)
    clock: Callable[[], float] = time.perf_counter
    _packed: bytes | None = None

    def answer(self, request: Request, limit_bytes: int = wire.MAX_MESSAGE_BYTES) -> list[bytes]:
        """The payloads for request.reply_topic."""
        return self.answer_all([(request, limit_bytes)])[0]

    def answer_all(self, requests: Sequence[tuple[Request, int]]) -> list[list[bytes]]:
        """Several requests, each with its largest payload: their images are put through the network together.

        Nobody looks at their expiry: the clock that wrote it may be years off, and no broker keeps a request for a
        worker longer than the worker's session, a minute.
        """
        started = self.clock()
        opened = [self._opened(request, limit_bytes) for request, limit_bytes in requests]
        fresh: dict[str, _Open] = {}  # the same request twice in a batch is asked once
        for one in opened:
            if one.question is not None:
                fresh.setdefault(one.key, one)
        if fresh:
            questions = [one.question for one in fresh.values() if one.question is not None]
            answers = self.teacher.answer(questions)
            for key, activations, question in zip(fresh, answers, questions, strict=True):
                self.cache.put(key, encoded := encode(activations))
                self.counters.images += len(question.images)
                fresh[key].whole = encoded
        self.counters.requests += len(fresh)
        self.counters.repeats += sum(one.question is not None for one in opened) - len(fresh)
        for one in opened:
            if one.question is not None:
                one.whole = fresh[one.key].whole
        payloads = [self._payloads(one) for one in opened]
        self.counters.seconds += self.clock() - started
        self.counters.answer_bytes += sum(len(payload) for some in payloads for payload in some)
        return payloads

    def refuse_malformed(self, payload: bytes, error: wire.WireError) -> list[bytes]:
        """A Refusal for a payload that is no request, where it has an id to refuse; else nothing."""
        self.counters.malformed += 1
        try:
            request_id = msgspec.msgpack.decode(payload, type=_Named).request_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
        return [refusal(request_id, error.code, str(error))]

    def _opened(self, request: Request, limit_bytes: int) -> _Open:
        opened = _Open(request, limit_bytes, _key(request))
        try:
            self._prepare(opened)
        except Refused as refused:
            self.counters.refused += 1
            opened.refused = refused
        return opened

    def _prepare(self, opened: _Open) -> None:
        request = opened.request
        if request.teacher and request.teacher != self.teacher.digest:
            raise Refused("wrong_teacher", f"this worker has teacher {self.teacher.digest}, not {request.teacher}")
        if isinstance(request, wire.BundleRequest):
            opened.whole = self._bundle()
            self.counters.requests += request.from_offset == 0
            return
        opened.whole = self.cache.get(opened.key)
        if opened.whole is not None:
            self.counters.repeats += 1
        else:
            opened.question = self._question(request)

    def _question(self, request: wire.ActivationRequest) -> Question:
        """The request's images, decoded and checked."""
        pictures = len(request.images) * len(request.views)
        if pictures > MAX_PICTURES:
            raise Refused("too_many", f"{pictures} pictures (images times views); at most {MAX_PICTURES}: split it")
        values = len(self.teacher.labels) + sum(len(block.channels) for block in request.blocks) * request.pool**2
        if pictures * values > MAX_VALUES:
            raise Refused("too_large", f"the answer would hold more than {MAX_VALUES} values: ask for fewer images")
        empty = np.zeros((0, self.teacher.input.height, self.teacher.input.width, 3), np.uint8)
        question = Question(empty, request.sample_ids, request.views, request.flip, request.blocks, request.pool)
        try:
            check(self.teacher.widths, question)
        except QuestionError as error:
            raise Refused("unknown_block", str(error)) from error
        images = []
        for index, data in enumerate(request.images):
            try:
                image = decode_image(data, max_pixels=MAX_SIDE**2)
            except ImageError as error:
                raise Refused("bad_image", f"image {index}: {error}") from error
            images.append(fit(image, self.teacher.input))
        return Question(np.stack(images), request.sample_ids, request.views, request.flip, request.blocks, request.pool)

    def _bundle(self) -> bytes:
        if self.bundle_dir is None:
            raise Refused("no_bundle", "this worker serves a teacher that has no bundle to hand out")
        if self._packed is None:
            self._packed = bundle.pack(self.bundle_dir)
        return self._packed

    def _payloads(self, opened: _Open) -> list[bytes]:
        request, whole, limit_bytes = opened.request, opened.whole, opened.limit_bytes
        if opened.refused is not None or whole is None:
            refused = opened.refused or Refused("failed", "no answer was computed")
            return [refusal(request.request_id, refused.code, str(refused))]
        until = request.from_offset + request.max_bytes if isinstance(request, wire.BundleRequest) else None
        pieces = cut(
            request.request_id,
            "bundle" if isinstance(request, wire.BundleRequest) else "activations",
            whole,
            from_offset=request.from_offset,
            until_offset=until,
            limit_bytes=limit_bytes,
        )
        return [wire.encode(piece, limit_bytes=limit_bytes) for piece in pieces]


def allowed_reply(request_topic: str, reply_topic: str) -> bool:
    """A worker answers only to whom the request came from: `.../<device>/teacher/req` to `.../<device>/teacher/rsp`.
    So nobody can have it publish anywhere else, and the broker's access rules for requests also hold for answers."""
    return request_topic.endswith("/teacher/req") and reply_topic == request_topic[: -len("req")] + "rsp"


def refusal(request_id: str, code: str, message: str, retry_after_s: float | None = None) -> bytes:
    return wire.encode(
        wire.Refusal(request_id=request_id, code=code, message=message[:1000], retry_after_s=retry_after_s)
    )


class _Named(msgspec.Struct):
    """What is looked for in a payload that is no request."""

    request_id: wire.Id


def _key(request: Request) -> str:
    """The same for the same question, wherever it is to go on from; an id used for another question is another key."""
    whole = msgspec.structs.replace(request, from_offset=0, expires_utc=0.0)
    return hashlib.sha256(msgspec.msgpack.encode(whole)).hexdigest()
