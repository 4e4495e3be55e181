"""Asks the teacher about a job's samples, or for the teacher itself, and puts what comes back into the job folder.

Requests are cut from the job alone, so asking again after a crash asks the same questions under the same ids. An
answer arrives in chunks; what is missing is asked for from where it broke off.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.adapters.job_folder import JobFolders
from agent.adapters.teacher_shelf import TeacherShelf
from transfer import activations, bundle, wire
from transfer.chunks import Assembly
from transfer.durable import sync_directory, write_atomic
from transfer.preprocess import encode_png

REQUEST_OVERHEAD_BYTES = 2_000
IMAGE_OVERHEAD_BYTES = 100
IMAGES_PER_REQUEST = 32
REQUEST_LIFETIME_S = 3600.0
SLICE_BYTES = 1024 * 1024

Publish = Callable[[wire.AnyMessage, str], bool]
"""publish(message, durable key) -> accepted"""


class TeacherClientError(ValueError):
    """A job about which the teacher cannot be asked; the text says why."""


@dataclass
class _Pending:
    """One request without a whole answer. `message` is sent anew with the offset that has been reached; of a bundle
    the bytes before `asked_until` are under way."""

    message: wire.ActivationRequest | wire.BundleRequest
    target: Path
    asked_until: int = 0
    assembly: Assembly = field(init=False)

    def __post_init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        asked = self.message
        most = activations.most_bytes(asked) if isinstance(asked, wire.ActivationRequest) else wire.MAX_TRANSFER_BYTES
        self.assembly = Assembly(asked.request_id, limit_bytes=most)
        self.asked_until = 0


class TeacherClient:
    """One job at a time. `answered(job_id)` and `refused(job_id, reason)` are called on the caller's threads."""

    def __init__(
        self,
        jobs: JobFolders,
        topics: wire.Topics,
        publish: Publish,
        acknowledged: Callable[[str], None],
        *,
        teachers: Path,
        trusted: tuple[str, ...],
        answered: Callable[[str], None],
        refused: Callable[[str, str], None],
        now_utc: Callable[[], float],
        limit_bytes: Callable[[], int],
    ) -> None:
        self._jobs, self._topics, self._publish, self._acknowledged = jobs, topics, publish, acknowledged
        self._shelf = TeacherShelf(teachers, trusted)
        self._answered, self._refused = answered, refused
        self._now_utc, self._limit_bytes = now_utc, limit_bytes
        self._lock = threading.Lock()
        self._job_id = ""
        self._pending: dict[str, _Pending] = {}
        self._cut_for = 0
        self.received_bytes = 0

    def ask_for_activations(self, job_id: str) -> None:
        """Send every request whose answer is not in the folder yet. Raises TeacherClientError, OSError."""
        with self._lock:
            if job_id != self._job_id:
                self._job_id, self._pending = job_id, {}
            if self._limit_bytes() < self._cut_for:  # the broker takes less than was believed while it was away
                for one in self._pending:
                    self._acknowledged(one)
                self._pending = {}
            if not self._pending:
                self._cut_for = self._limit_bytes()
                self._pending = {p.message.request_id: p for p in self._activation_requests(job_id)}
            waiting = [p for p in self._pending.values() if not p.target.exists()]
        self._send(waiting)
        if not waiting:
            self._answered(job_id)

    def ask_for_teacher(self, job_id: str) -> None:
        """Fetch the teacher's bundle, slice by slice, unless it is here already; then link it into the folder."""
        job_folder = self._jobs.path(job_id)
        digest = bundle.load(job_folder / "model", trusted=None).manifest.teacher
        if not digest:
            self._refused(job_id, "the model's bundle does not say who its teacher was")
            return
        home = self._shelf.find(digest)
        if home is not None:
            self._bring_home(job_id, home)
            return
        with self._lock:
            self._job_id = job_id
            request_id = f"bundle.{digest[:40]}"
            if request_id not in self._pending:
                message = wire.BundleRequest(
                    request_id=request_id,
                    reply_topic=self._topics.teacher_reply,
                    expires_utc=self._now_utc() + REQUEST_LIFETIME_S,
                    teacher=digest,
                    max_bytes=SLICE_BYTES,
                )
                self._pending = {request_id: _Pending(message, self._shelf.path(digest))}
            waiting = list(self._pending.values())
        self._send(waiting)

    def forget(self, job_id: str) -> None:
        """The round is over: answers that still come are nobody's."""
        with self._lock:
            if job_id == self._job_id:
                for pending in self._pending.values():
                    self._acknowledged(pending.message.request_id)
                self._job_id, self._pending = "", {}

    def take(self, payload: bytes) -> None:
        """A message from the teacher's reply topic. Raises wire.WireError, and OSError where the answer cannot be
        stored: then it is asked for again. Answers to nobody's question are ignored."""
        reply = wire.decode_reply(payload)
        with self._lock:
            pending = self._pending.get(reply.request_id)
            job_id = self._job_id
            if pending is None:
                return
            self.received_bytes += len(payload)
            if isinstance(reply, wire.Refusal) and reply.retry_after_s is not None:
                return  # busy: the question stays open, and the core asks again in its time
            if isinstance(reply, wire.Refusal):
                self._acknowledged(reply.request_id)
                refusal, whole, more = f"{reply.code}: {reply.message}", None, False
            else:
                before = pending.assembly.next_offset
                whole = pending.assembly.add(reply)
                refusal = ""
                # At the end of what was asked for, not before: two slices that overlap would not fit together.
                more = (
                    isinstance(pending.message, wire.BundleRequest)
                    and whole is None
                    and before < pending.asked_until <= pending.assembly.next_offset
                )
        if refusal:
            self._refused(job_id, refusal)
        elif whole is not None:
            self._whole(job_id, pending, whole)
        elif more:
            self._send([pending])

    def _whole(self, job_id: str, pending: _Pending, whole: bytes) -> None:
        """The question leaves the outbox after its answer is durable, or of no use."""
        request_id = pending.message.request_id
        try:
            if isinstance(pending.message, wire.BundleRequest):
                home = self._shelf.take_in(whole, pending.message.teacher)
                self._acknowledged(request_id)
                self._bring_home(job_id, home)
                return
            activations.decode(whole).check_answers(pending.message)
            write_atomic(pending.target, whole)
        except (bundle.BundleError, activations.ActivationsError) as error:
            self._acknowledged(request_id)
            self._refused(job_id, str(error))
            return
        except OSError:
            with self._lock:
                pending.begin_anew()  # nothing is kept in memory that the disk did not take
            raise
        self._acknowledged(request_id)
        with self._lock:
            done = job_id == self._job_id and all(p.target.exists() for p in self._pending.values())
        if done:
            self._answered(job_id)

    def _bring_home(self, job_id: str, home: Path) -> None:
        link = self._jobs.path(job_id) / "teacher"
        if not link.exists():
            link.symlink_to(home, target_is_directory=True)
            sync_directory(link.parent)
        self._answered(job_id)

    def _send(self, waiting: list[_Pending]) -> None:
        for pending in waiting:
            message = msgspec.structs.replace(
                pending.message,
                from_offset=pending.assembly.next_offset,
                expires_utc=self._now_utc() + REQUEST_LIFETIME_S,
            )
            pending.asked_until = pending.assembly.next_offset + SLICE_BYTES
            self._publish(message, message.request_id)

    def _activation_requests(self, job_id: str) -> list[_Pending]:
        job, folder = self._jobs.job(job_id), self._jobs.path(job_id)
        model = bundle.load(folder / "model", trusted=None).manifest
        blocks = activations.wanted(model.pairs)
        room = self._limit_bytes() - REQUEST_OVERHEAD_BYTES - sum(6 * len(p.channels) for p in model.pairs)
        pictures = [encode_png(image) for image in self._jobs.images(job_id)]
        requests = []
        first = 0
        while first < len(pictures):
            last, size = first, 0
            while last < len(pictures) and last - first < IMAGES_PER_REQUEST:
                size += len(pictures[last]) + IMAGE_OVERHEAD_BYTES
                if size > room:
                    break
                last += 1
            if last == first:
                raise TeacherClientError(
                    f"an image of {len(pictures[first])} bytes does not fit the message limit of "
                    f"{self._limit_bytes()} bytes: raise mqtt.max_message_bytes (and the broker's limit)"
                )
            ids = job.sample_ids[first:last]
            identity = hashlib.sha256("\n".join([job_id, model.teacher, str(job.views), *ids]).encode()).hexdigest()
            message = wire.ActivationRequest(
                request_id=identity[:40],
                reply_topic=self._topics.teacher_reply,
                expires_utc=0.0,
                teacher=model.teacher,
                sample_ids=ids,
                images=tuple(pictures[first:last]),
                views=tuple(range(job.views)),
                flip=model.flip,
                blocks=blocks,
                pool=activations.POOL,
            )
            target = folder / "activations" / f"{message.request_id}.safetensors"
            requests.append(_Pending(message, target))
            first = last
        return requests
