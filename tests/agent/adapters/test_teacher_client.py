"""The conversation with the teacher: requests that fit, answers that arrive in any disorder, nothing asked twice."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_world import NEW, STUDENT_WIDTHS, World, images

from agent.adapters import teacher_client
from agent.adapters.job_folder import JobFolders
from agent.adapters.teacher_client import TeacherClient, TeacherClientError
from agent.trainer import inputs, teacher
from transfer import activations, bundle, preprocess, signing, wire
from transfer.activations import Activations
from transfer.chunks import cut

TOPICS = wire.Topics("understudy", "home", "cam")
JOB = "job-000001"


class Conversation:
    """A client around real job folders; what it sends is kept, and can be answered as a worker would."""

    def __init__(self, world: World, folder: Path, *, limit_bytes: int = wire.MAX_MESSAGE_BYTES) -> None:
        self.world, self.folder = world, folder
        self.sent: list[wire.ActivationRequest | wire.BundleRequest] = []
        self.acknowledged: list[str] = []
        self.answered: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.now_utc = 1000.0
        self.limit_bytes = limit_bytes
        self.client = self.restarted()

    def restarted(self) -> TeacherClient:
        """A client that remembers nothing, as after a crash."""
        self.client = TeacherClient(
            JobFolders(self.folder / "jobs"),
            TOPICS,
            self._publish,
            self.acknowledged.append,
            teachers=self.folder / "teachers",
            trusted=(self.world.public,),
            answered=self.answered.append,
            refused=lambda job_id, why: self.refused.append((job_id, why)),
            now_utc=lambda: self.now_utc,
            limit_bytes=lambda: self.limit_bytes,
        )
        return self.client

    def _publish(self, message: wire.AnyMessage, key: str) -> bool:
        assert isinstance(message, wire.ActivationRequest | wire.BundleRequest) and key == message.request_id
        self.sent.append(wire.decode_request(wire.encode(message, limit_bytes=self.limit_bytes)))
        return True

    def answer(self, request: wire.ActivationRequest, **changes: Any) -> bytes:
        """A teacher's answer of the right shapes, with the samples' places in it."""
        views, count = len(request.views), len(request.sample_ids)
        said = Activations(
            sample_ids=request.sample_ids,
            labels=("amber", NEW),
            teacher=request.teacher,
            logits=np.arange(count * views * 2, dtype=np.float32).reshape(count, views, 2),
            maps={b.group: np.ones((count, views, len(b.channels), 2, 2), np.float32) for b in request.blocks},
            residuals={b.group: np.ones((count, views), np.float32) for b in request.blocks},
        )
        return activations.encode(replace(said, **changes))

    def chunks(self, request: wire.ActivationRequest, limit_bytes: int = 1200, **changes: Any) -> list[bytes]:
        whole = self.answer(request, **changes)
        some = cut(request.request_id, "activations", whole, from_offset=request.from_offset, limit_bytes=limit_bytes)
        return [wire.encode(chunk) for chunk in some]

    def take(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.client.take(payload)


@pytest.fixture
def conversation(world: World, tmp_path: Path) -> Callable[..., Conversation]:
    def make(count: int = 10, **options: Any) -> Conversation:
        world.job(tmp_path / "jobs", images(NEW, count), tier="transfer")
        return Conversation(world, tmp_path, **options)

    return make


# ------------------------------------------------------------------------------------------------ asking


def test_one_request_asks_everything_the_loss_needs(conversation: Callable[..., Conversation]) -> None:
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    (request,) = talk.sent
    assert isinstance(request, wire.ActivationRequest)
    job = JobFolders(talk.folder / "jobs").job(JOB)
    assert request.sample_ids == job.sample_ids and request.views == tuple(range(job.views))
    assert request.teacher == talk.world.digest_of_teacher and request.reply_topic == TOPICS.teacher_reply
    assert [(b.group, b.block, len(b.channels)) for b in request.blocks] == [
        (g, 0, w) for g, w in enumerate(STUDENT_WIDTHS)
    ]
    assert request.expires_utc == 1000.0 + teacher_client.REQUEST_LIFETIME_S
    for sent, picture in zip(request.images, images(NEW, 10), strict=True):
        np.testing.assert_array_equal(preprocess.decode_image(sent), picture)


@pytest.mark.parametrize("limit_bytes", [3_900, 6_000, 20_000, 120_000])
@pytest.mark.spec("15.1")
def test_requests_fit_the_message_limit_and_cover_every_sample_once(
    conversation: Callable[..., Conversation], limit_bytes: int
) -> None:
    talk = conversation(40, limit_bytes=limit_bytes)  # encoding beyond the limit would raise in _publish
    talk.client.ask_for_activations(JOB)
    asked = [name for request in talk.sent for name in request.sample_ids]  # type: ignore[union-attr]
    assert tuple(asked) == JobFolders(talk.folder / "jobs").job(JOB).sample_ids
    assert len({request.request_id for request in talk.sent}) == len(talk.sent) >= 2
    assert all(len(r.sample_ids) <= teacher_client.IMAGES_PER_REQUEST for r in talk.sent)  # type: ignore[union-attr]


def test_full_requests_fit_whatever_the_limit(conversation: Callable[..., Conversation]) -> None:
    """Where 32 images just fit, their names and lengths must too."""
    talk = conversation(32)
    for talk.limit_bytes in range(22_000, 32_000, 250):
        talk.restarted().ask_for_activations(JOB)
    assert max(len(r.sample_ids) for r in talk.sent) == 32  # type: ignore[union-attr]


@pytest.mark.spec("15.1")
def test_questions_are_cut_anew_where_the_broker_takes_less_than_was_believed(
    conversation: Callable[..., Conversation],
) -> None:
    """Asked while the broker was away, under the configured limit; then it comes and has a lower one."""
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    (large,) = talk.sent
    talk.limit_bytes = 3_900
    talk.client.ask_for_activations(JOB)
    smaller = talk.sent[1:]
    assert len(smaller) > 1 and talk.acknowledged == [large.request_id]
    for request in smaller:
        assert isinstance(request, wire.ActivationRequest)
        talk.take(talk.chunks(request))
    assert talk.answered == [JOB]


def test_an_image_that_fits_no_message_says_what_to_change(conversation: Callable[..., Conversation]) -> None:
    talk = conversation(limit_bytes=2_200)
    with pytest.raises(TeacherClientError, match=r"mqtt\.max_message_bytes"):
        talk.client.ask_for_activations(JOB)
    assert talk.sent == []


@pytest.mark.spec("2.2")
def test_after_a_crash_the_same_questions_have_the_same_ids(conversation: Callable[..., Conversation]) -> None:
    talk = conversation(40, limit_bytes=8_000)
    talk.client.ask_for_activations(JOB)
    first, talk.sent = talk.sent, []
    talk.now_utc += 5000
    talk.restarted().ask_for_activations(JOB)
    assert [r.request_id for r in talk.sent] == [r.request_id for r in first]
    assert all(r.expires_utc > f.expires_utc for r, f in zip(talk.sent, first, strict=True))


# ------------------------------------------------------------------------------------------------ activations


def test_the_whole_answer_ends_in_the_folder_and_can_be_read(conversation: Callable[..., Conversation]) -> None:
    talk = conversation(40, limit_bytes=20_000)
    talk.client.ask_for_activations(JOB)
    for request in reversed(talk.sent):
        assert talk.answered == []
        talk.take(talk.chunks(request))  # type: ignore[arg-type]
    assert talk.answered == [JOB] and talk.refused == []
    assert sorted(talk.acknowledged) == sorted(r.request_id for r in talk.sent)
    taught = teacher.from_answers(inputs.read(talk.folder / "jobs" / JOB))
    assert taught is not None and taught.logits.shape == (40, 2, 2)
    assert talk.client.received_bytes > 0


@pytest.mark.spec("2.2")
def test_repetition_and_other_peoples_answers_do_nothing(conversation: Callable[..., Conversation]) -> None:
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    (request,) = talk.sent
    chunks = talk.chunks(request)  # type: ignore[arg-type]
    assert len(chunks) > 3
    foreign = wire.Chunk(request_id="x", content="activations", offset=0, total_bytes=1, sha256="0" * 64, data=b"1")
    talk.take([wire.encode(foreign), chunks[0], chunks[0], *chunks[1:], *chunks])
    assert talk.answered == [JOB] and len(list((talk.folder / "jobs" / JOB / "activations").iterdir())) == 1


@pytest.fixture
def long_talk(conversation: Callable[..., Conversation]) -> Conversation:
    return conversation(40, limit_bytes=20_000)


@pytest.mark.spec("2.2", "15.2")
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arriving=st.lists(st.integers(0, 10**6), max_size=80), asked_again=st.integers(0, 80))
def test_whatever_is_lost_repeated_or_late_has_one_effect(
    long_talk: Conversation, arriving: list[int], asked_again: int
) -> None:
    talk = long_talk
    answers = talk.folder / "jobs" / JOB / "activations"
    for path in answers.iterdir():
        path.unlink()
    talk.sent, talk.answered, talk.acknowledged = [], [], []
    talk.restarted().ask_for_activations(JOB)
    asked = {request.request_id for request in talk.sent}
    chunks = [chunk for request in talk.sent for chunk in talk.chunks(request)]  # type: ignore[arg-type]
    for turn, number in enumerate(arriving):
        talk.take([chunks[number % len(chunks)]])
        if turn == asked_again and not talk.answered:
            talk.client.ask_for_activations(JOB)
            assert {request.request_id for request in talk.sent} == asked, "the same questions"
    while not talk.answered:
        talk.sent = []
        talk.client.ask_for_activations(JOB)
        for request in talk.sent:
            talk.take(talk.chunks(request))  # type: ignore[arg-type]
    talk.take(chunks)
    assert talk.answered == [JOB]
    assert sorted(talk.acknowledged) == sorted(asked)
    assert {path.stem for path in answers.iterdir()} == asked


@pytest.mark.spec("15.2")
def test_a_lost_chunk_is_asked_for_from_where_it_broke_off(conversation: Callable[..., Conversation]) -> None:
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    chunks = talk.chunks(talk.sent[0])  # type: ignore[arg-type]
    talk.take([*chunks[:2], *chunks[3:]])
    assert talk.answered == []
    talk.client.ask_for_activations(JOB)
    again = talk.sent[-1]
    assert again.from_offset == 2 * len(wire.decode_reply(chunks[0]).data)  # type: ignore[union-attr]
    talk.take(talk.chunks(again))  # type: ignore[arg-type]
    assert talk.answered == [JOB]


def test_what_is_there_already_is_not_asked_for(conversation: Callable[..., Conversation]) -> None:
    talk = conversation(40, limit_bytes=20_000)
    talk.client.ask_for_activations(JOB)
    first, rest = talk.sent[0], talk.sent[1:]
    talk.take(talk.chunks(first))  # type: ignore[arg-type]
    talk.sent = []
    talk.restarted().ask_for_activations(JOB)
    assert [r.request_id for r in talk.sent] == [r.request_id for r in rest]
    for request in list(talk.sent):
        talk.take(talk.chunks(request))  # type: ignore[arg-type]
    talk.sent, talk.answered = [], []
    talk.restarted().ask_for_activations(JOB)
    assert talk.sent == [] and talk.answered == [JOB]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"teacher": "f" * 64}, "not of"),
        ({"logits": np.zeros((10, 1, 2), np.float32), "maps": {}, "residuals": {}}, "1 views instead of 2"),
        ({"maps": {}, "residuals": {}}, "block maps"),
    ],
)
def test_an_answer_to_another_question_is_refused(
    conversation: Callable[..., Conversation], change: dict[str, Any], says: str
) -> None:
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    talk.take(talk.chunks(talk.sent[0], **change))  # type: ignore[arg-type]
    ((job_id, why),) = talk.refused
    assert job_id == JOB and says in why and talk.answered == []
    assert list((talk.folder / "jobs" / JOB / "activations").iterdir()) == []


def test_a_refusal_is_passed_on_with_its_reason(conversation: Callable[..., Conversation]) -> None:
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    request_id = talk.sent[0].request_id
    talk.take([wire.encode(wire.Refusal(request_id=request_id, code="unknown_teacher", message="never heard of it"))])
    assert talk.refused == [(JOB, "unknown_teacher: never heard of it")] and talk.acknowledged == [request_id]


def test_damage_is_an_error_and_leaves_nothing(conversation: Callable[..., Conversation]) -> None:
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    for payload in (b"", b"\xff" * 30, wire.encode(talk.sent[0])):
        with pytest.raises(wire.WireError):
            talk.client.take(payload)
    only = wire.Chunk(
        request_id=talk.sent[0].request_id,
        content="activations",
        offset=0,
        total_bytes=4,
        sha256="0" * 64,
        data=b"junk",
    )
    with pytest.raises(wire.WireError, match="sha256"):
        talk.client.take(wire.encode(only))
    endless = msgspec.structs.replace(only, total_bytes=activations.most_bytes(talk.sent[0]) + 1)  # type: ignore[arg-type]
    with pytest.raises(wire.WireError, match="exceeds"):
        talk.client.take(wire.encode(endless))
    talk.take(talk.chunks(talk.sent[0]))  # type: ignore[arg-type]
    assert talk.answered == [JOB]


def test_after_the_round_answers_are_nobodys(conversation: Callable[..., Conversation]) -> None:
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    chunks = talk.chunks(talk.sent[0])  # type: ignore[arg-type]
    talk.client.forget("job-000002")
    talk.take(chunks[:1])
    talk.client.forget(JOB)
    assert talk.acknowledged == [talk.sent[0].request_id]
    talk.take(chunks)
    assert talk.answered == []


# ------------------------------------------------------------------------------------------------ the teacher itself


def slices(talk: Conversation, packed: bytes, *, limit_bytes: int = 3_000, lose: int = -1) -> None:
    """Answer every request for a slice until none comes; the `lose`-th chunk gets lost once."""
    sent = 0
    while talk.sent:
        request = talk.sent.pop(0)
        assert isinstance(request, wire.BundleRequest)
        until = request.from_offset + request.max_bytes
        for chunk in cut(
            request.request_id,
            "bundle",
            packed,
            from_offset=request.from_offset,
            until_offset=until,
            limit_bytes=limit_bytes,
        ):
            sent += 1
            if sent != lose:
                talk.client.take(wire.encode(chunk))


def test_the_teacher_comes_in_slices_and_is_linked_into_the_job(
    conversation: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_client, "SLICE_BYTES", 8_000)
    talk = conversation()
    packed = bundle.pack(talk.world.teacher)
    assert len(packed) > 2 * 8_000
    talk.client.ask_for_teacher(JOB)
    assert [r.from_offset for r in talk.sent] == [0] and talk.sent[0].teacher == talk.world.digest_of_teacher
    slices(talk, packed)
    assert talk.answered == [JOB] and talk.refused == []
    link = talk.folder / "jobs" / JOB / "teacher"
    assert link.is_symlink() and bundle.load(link, trusted=None).digest == talk.world.digest_of_teacher
    assert inputs.read(talk.folder / "jobs" / JOB).teacher_folder == link
    assert [path.name for path in (talk.folder / "teachers").iterdir()] == [talk.world.digest_of_teacher]


def test_a_lost_slice_is_asked_for_again(
    conversation: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_client, "SLICE_BYTES", 8_000)
    talk = conversation()
    packed = bundle.pack(talk.world.teacher)
    talk.client.ask_for_teacher(JOB)
    slices(talk, packed, lose=2)
    assert talk.answered == []
    for _ in range(3):
        if not talk.answered:
            talk.client.ask_for_teacher(JOB)
            slices(talk, packed)
    assert talk.answered == [JOB]


def test_a_teacher_that_is_here_is_not_fetched_again(conversation: Callable[..., Conversation]) -> None:
    talk = conversation()
    shutil.copytree(talk.world.teacher, talk.folder / "teachers" / talk.world.digest_of_teacher)
    talk.client.ask_for_teacher(JOB)
    talk.client.ask_for_teacher(JOB)
    assert talk.sent == [] and talk.answered == [JOB, JOB]
    assert (talk.folder / "jobs" / JOB / "teacher").is_symlink()


def test_a_teacher_signed_by_nobody_we_trust_is_refused(
    conversation: Callable[..., Conversation], tmp_path: Path
) -> None:
    talk = conversation()
    teacher = bundle.load(talk.world.teacher, trusted=None)
    stranger = signing.generate(tmp_path / "stranger")
    bundle.save(tmp_path / "forged", teacher.manifest, {bundle.WEIGHTS: teacher.read(bundle.WEIGHTS)}, stranger)
    talk.client.ask_for_teacher(JOB)
    slices(talk, bundle.pack(tmp_path / "forged"), limit_bytes=100_000)
    assert "not trusted here" in talk.refused[0][1] and talk.answered == []


def test_another_teacher_than_asked_for_is_refused_and_not_kept(
    conversation: Callable[..., Conversation], tmp_path: Path
) -> None:
    """Kept under the name of the one asked for it would be taken for it ever after."""
    talk = conversation()
    teacher = bundle.load(talk.world.teacher, trusted=None)
    other = msgspec.structs.replace(teacher.manifest, name="another", files={})
    bundle.save(tmp_path / "other", other, {bundle.WEIGHTS: teacher.read(bundle.WEIGHTS)}, talk.world.key)
    talk.client.ask_for_teacher(JOB)
    slices(talk, bundle.pack(tmp_path / "other"), limit_bytes=100_000)
    assert "not the teacher asked for" in talk.refused[0][1]
    assert list((talk.folder / "teachers").iterdir()) == []
    talk.client.ask_for_teacher(JOB)
    assert talk.answered == []
    slices(talk, bundle.pack(talk.world.teacher), limit_bytes=100_000)
    assert talk.answered == [JOB]


def test_a_model_that_does_not_know_its_teacher_cannot_ask(world: World, tmp_path: Path) -> None:
    nameless = world.altered(tmp_path / "nameless", teacher="")
    job = world.job(tmp_path / "jobs", images(NEW, 4))
    shutil.rmtree(job / "model")
    shutil.copytree(nameless, job / "model")
    talk = Conversation(world, tmp_path)
    talk.client.ask_for_teacher(JOB)
    assert talk.sent == [] and "does not say who its teacher was" in talk.refused[0][1]


@pytest.mark.spec("7.1", "1.4")
def test_a_question_is_kept_until_its_answer_is_on_the_disk(
    conversation: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses, later it does not: the same question is asked from its beginning, and answered."""
    talk = conversation()
    talk.client.ask_for_activations(JOB)
    (request,) = talk.sent
    assert isinstance(request, wire.ActivationRequest)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            talk.take(talk.chunks(request))
    assert talk.acknowledged == [] and talk.answered == [] and talk.refused == []
    talk.client.ask_for_activations(JOB)
    again = talk.sent[-1]
    assert isinstance(again, wire.ActivationRequest)
    assert again.request_id == request.request_id and again.from_offset == 0
    target = talk.folder / "jobs" / JOB / "activations" / f"{request.request_id}.safetensors"
    seen_on_disk: list[bool] = []
    monkeypatch.setattr(talk.client, "_acknowledged", lambda key: seen_on_disk.append(target.exists()))
    talk.take(talk.chunks(again))
    assert seen_on_disk == [True] and talk.answered == [JOB]
