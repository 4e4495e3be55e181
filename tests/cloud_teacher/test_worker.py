from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloud_teacher.datasets import Dataset
from cloud_teacher.worker import MAX_PICTURES, AnswerCache, TeacherWorker, allowed_reply
from cloud_teacher.zoo import Teacher
from transfer import bundle, wire
from transfer.activations import decode
from transfer.chunks import Assembly
from transfer.preprocess import encode_png
from transfer.questions import Question
from transfer.wire import ActivationRequest, BlockWanted, BundleRequest

NOW = 1000.0
REPLY = "understudy/v1/home/edge-1/teacher/rsp"
BLOCKS = (BlockWanted(0, 1, (0, 2)), BlockWanted(2, 1, (1, 5, 3)))

Ask = Callable[..., ActivationRequest]


@pytest.fixture
def worker(teacher: Teacher, bundle_dir: Path) -> TeacherWorker:
    return TeacherWorker(teacher, bundle_dir)


@pytest.fixture
def ask(teacher: Teacher, dataset: Dataset) -> Ask:
    """A request about the first three test images, but for what is given."""

    def make(**changes: object) -> ActivationRequest:
        fields: dict[str, object] = {
            "request_id": "r1",
            "reply_topic": REPLY,
            "expires_utc": NOW + 60,
            "teacher": teacher.digest,
            "sample_ids": tuple(f"{index:064x}" for index in range(3)),
            "images": tuple(encode_png(image) for image in dataset.test_images[:3]),
            "views": (0, 3),
            "flip": False,
            "blocks": BLOCKS,
        }
        return ActivationRequest(**(fields | changes))  # type: ignore[arg-type]

    return make


def whole(payloads: list[bytes], request_id: str = "r1") -> bytes:
    assembly = Assembly(request_id)
    done = [assembly.add(wire.decode(payload, wire.Chunk)) for payload in payloads]
    assert done[-1] is not None and all(part is None for part in done[:-1])
    return done[-1]


def refusal(payloads: list[bytes]) -> wire.Refusal:
    (payload,) = payloads
    return wire.decode(payload, wire.Refusal)


def test_an_answer_is_what_the_teacher_says_of_each_view(
    worker: TeacherWorker, teacher: Teacher, ask: Ask, dataset: Dataset
) -> None:
    request = ask()
    answer = decode(whole(worker.answer(request)))
    answer.check_answers(request)
    question = Question(dataset.test_images[:3], request.sample_ids, (0, 3), False, BLOCKS)
    expected = teacher.answer([question])[0]
    assert np.allclose(answer.logits, expected.logits, atol=0.02)
    for group in (0, 2):
        energy = np.square(expected.maps[group]).sum(axis=(2, 3, 4)) + expected.residuals[group]
        unit = expected.maps[group] / np.sqrt(energy)[:, :, None, None, None]
        assert np.abs(answer.maps[group] - unit).max() <= unit.max() / 29
        assert np.allclose(answer.residuals[group], expected.residuals[group] / energy, atol=0.06)


@pytest.mark.spec("15.2")
def test_answers_are_cut_below_the_limit_and_resumed(worker: TeacherWorker, ask: Ask) -> None:
    data = whole(worker.answer(ask()))
    pieces = worker.answer(ask(), limit_bytes=800)
    assert len(pieces) > 3 and max(map(len, pieces)) <= 800
    assert whole(pieces) == data
    rest = worker.answer(ask(from_offset=301))
    assert wire.decode(rest[0], wire.Chunk).data == data[301:]
    # From beyond the end: the device holds part of another, longer answer and is sent this one whole.
    assert whole(worker.answer(ask(from_offset=10**9))) == data


@pytest.mark.spec("2.2")
def test_a_request_has_one_effect_however_often_it_arrives(worker: TeacherWorker, ask: Ask) -> None:
    first = worker.answer(ask())
    assert worker.answer(ask(expires_utc=NOW + 99)) == first
    assert worker.answer_all([(ask(), 120_000), (ask(), 120_000)]) == [first, first]
    counters = worker.counters
    assert (counters.requests, counters.repeats, counters.images) == (1, 3, 3)


def test_the_same_request_twice_at_once_is_asked_once(worker: TeacherWorker, ask: Ask) -> None:
    one, two = worker.answer_all([(ask(), 120_000), (ask(), 120_000)])
    assert one == two
    assert (worker.counters.requests, worker.counters.repeats, worker.counters.images) == (1, 1, 3)


def test_an_id_used_for_another_question_is_not_answered_with_the_first(worker: TeacherWorker, ask: Ask) -> None:
    first = decode(whole(worker.answer(ask())))
    other = decode(whole(worker.answer(ask(views=(0,)))))
    assert first.logits.shape[1] == 2 and other.logits.shape[1] == 1


def test_requests_of_several_devices_are_answered_together_as_if_alone(
    teacher: Teacher, bundle_dir: Path, ask: Ask
) -> None:
    requests = [ask(), ask(request_id="r2", views=(5,), blocks=()), ask(request_id="r3", pool=2, flip=True)]
    together = TeacherWorker(teacher, bundle_dir).answer_all([(request, 120_000) for request in requests])
    for request, payloads in zip(requests, together, strict=True):
        alone = TeacherWorker(teacher, bundle_dir).answer(request)
        mine, theirs = (decode(whole(found, request.request_id)) for found in (payloads, alone))
        mine.check_answers(request)
        assert np.allclose(mine.logits, theirs.logits, atol=0.02)


def test_forgotten_answers_are_computed_again(teacher: Teacher, ask: Ask) -> None:
    worker = TeacherWorker(teacher, cache=AnswerCache(0))
    assert worker.answer(ask()) == worker.answer(ask())
    assert worker.counters.requests == 2


@pytest.mark.spec("8.2")
def test_a_device_whose_clock_is_wrong_is_answered(worker: TeacherWorker, ask: Ask) -> None:
    """One that starts in 1970 could write no expiry that has not passed."""
    assert whole(worker.answer(ask(expires_utc=3_600.0))) == whole(worker.answer(ask(expires_utc=9e10)))


def jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    return file.getvalue()


def with_image(data: bytes) -> dict[str, object]:
    return {"images": (data,), "sample_ids": ("0" * 64,)}


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"teacher": "0" * 64}, "wrong_teacher", "this worker has teacher"),
        ({"blocks": (BlockWanted(7, 0, (0,)),)}, "unknown_block", "no block 0 in group 7"),
        ({"blocks": (BlockWanted(0, 0, (99,)),)}, "unknown_block", "below 8"),
        ({"views": tuple(range(MAX_PICTURES // 3 + 1))}, "too_many", "split it"),
        (with_image(b""), "bad_image", "image 0: the file is empty"),
        (with_image(b"no image"), "bad_image", "image 0: not an image"),
        (with_image(jpeg(64, 64)[:300]), "bad_image", "image 0:"),
        (with_image(jpeg(2000, 2000)), "bad_image", "more than"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    worker: TeacherWorker, ask: Ask, changes: dict[str, object], code: str, says: str
) -> None:
    refused = refusal(worker.answer(ask(**changes)))
    assert (refused.request_id, refused.code) == ("r1", code)
    assert says in refused.message


def test_a_refused_request_does_not_cost_the_others_their_answer(worker: TeacherWorker, ask: Ask) -> None:
    bad, good = worker.answer_all([(ask(**with_image(b"x")), 120_000), (ask(request_id="r2"), 120_000)])
    assert refusal(bad).code == "bad_image"
    assert decode(whole(good, "r2")).logits.shape == (3, 2, 4)


def test_larger_images_are_fitted(worker: TeacherWorker, ask: Ask) -> None:
    request = ask(**with_image(jpeg(200, 100)))
    assert decode(whole(worker.answer(request))).logits.shape == (1, 2, 4)


# ---------------------------------------------------------------------------------------------------------- bundles


def bundle_request(offset: int, most: int) -> BundleRequest:
    return BundleRequest(request_id="b", reply_topic=REPLY, expires_utc=NOW + 60, from_offset=offset, max_bytes=most)


def test_the_bundle_comes_in_slices_and_unpacks(worker: TeacherWorker, teacher: Teacher, tmp_path: Path) -> None:
    assembly, packed = Assembly("b"), None
    while packed is None:
        before = assembly.next_offset
        payloads = worker.answer(bundle_request(before, 5000), limit_bytes=2000)
        assert sum(len(wire.decode(payload, wire.Chunk).data) for payload in payloads) <= 5000
        for payload in payloads:
            packed = assembly.add(wire.decode(payload, wire.Chunk)) or packed
        assert packed is not None or assembly.next_offset > before
    assert bundle.unpack(packed, tmp_path / "got", trusted=None).digest == teacher.digest
    assert worker.counters.requests == 1


def test_without_a_bundle_there_is_a_reason(teacher: Teacher) -> None:
    assert refusal(TeacherWorker(teacher).answer(bundle_request(0, 100))).code == "no_bundle"


# ---------------------------------------------------------------------------------------------------------- bad input


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_request_are_counted_and_never_raise(teacher: Teacher, payload: bytes) -> None:
    worker = TeacherWorker(teacher)
    with pytest.raises(wire.WireError) as caught:
        wire.decode_request(payload)
    assert len(worker.refuse_malformed(payload, caught.value)) <= 1
    assert worker.counters.malformed == 1


def test_a_malformed_request_with_an_id_is_refused_by_that_id(worker: TeacherWorker) -> None:
    payload = msgspec.msgpack.encode({"type": "activation_request", "v": 2, "request_id": "mine", "images": 5})
    with pytest.raises(wire.WireError) as caught:
        wire.decode_request(payload)
    refused = refusal(worker.refuse_malformed(payload, caught.value))
    assert (refused.request_id, refused.code) == ("mine", "malformed")


@pytest.mark.parametrize(
    ("request_topic", "reply_topic", "allowed"),
    [
        ("u/v1/home/edge-1/teacher/req", "u/v1/home/edge-1/teacher/rsp", True),
        ("u/v1/home/edge-1/teacher/req", "u/v1/home/edge-2/teacher/rsp", False),
        ("u/v1/home/edge-1/teacher/req", "u/v1/other/edge-1/teacher/rsp", False),
        ("u/v1/home/edge-1/teacher/req", "u/v1/home/trigger", False),
        ("u/v1/home/edge-1/teacher/req", "u/v1/home/edge-1/cmd", False),
        ("u/v1/home/edge-1/other", "u/v1/home/edge-1/other", False),
    ],
)
def test_a_worker_publishes_only_to_who_asked(request_topic: str, reply_topic: str, allowed: bool) -> None:
    assert allowed_reply(request_topic, reply_topic) is allowed
