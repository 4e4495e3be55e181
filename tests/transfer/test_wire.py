from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer import wire
from transfer.wire import WireError

DIGEST = "0" * 64

names = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
ids = st.from_regex(r"[A-Za-z0-9_.:-]{1,80}", fullmatch=True)
labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64)
categories = st.lists(labels.filter(str.isprintable), min_size=1, max_size=3, unique=True).map(tuple)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
utc = st.floats(0, 1e11)
counts = st.integers(0, 2**53)
numbers = st.floats(allow_nan=False, allow_infinity=False)
topics = st.just("understudy/v1/home/cam-1/teacher/rsp")

MESSAGES: dict[type[wire.Message], st.SearchStrategy[Any]] = {
    wire.Status: st.builds(
        wire.Status, device=names, session=counts, online=st.booleans(), at_utc=utc, reason=texts, phase=texts
    ),
    wire.Event: st.builds(
        wire.Event,
        device=names,
        session=counts,
        seq=counts,
        at_utc=utc,
        kind=ids,
        detail=st.dictionaries(texts, st.none() | st.booleans() | texts | numbers, max_size=40),
    ),
    wire.JobUpdate: st.builds(
        wire.JobUpdate,
        device=names,
        session=counts,
        at_utc=utc,
        trigger_id=ids,
        categories=categories,
        left_out=categories,
        state=st.sampled_from(["QUEUED", "SUCCEEDED", "CANCELED"]),
        detail=texts,
        old_before=st.none() | numbers,
        generation=st.none() | counts,
    ),
    wire.Prediction: st.builds(
        wire.Prediction,
        device=names,
        sample_id=digests,
        origin=texts,
        at_utc=utc,
        label=labels,
        confidence=st.floats(0, 1),
        novelty=numbers,
        novel=st.booleans(),
        generation=counts,
    ),
    wire.Echo: st.builds(wire.Echo, session=counts, n=counts),
    wire.Trigger: st.builds(
        wire.Trigger,
        id=ids,
        categories=categories,
        unseen=st.booleans(),
        issued_utc=utc,
        expires_utc=utc,
        samples_wanted=st.integers(2, 100_000),
        devices=st.lists(names, max_size=5).map(tuple),
        signature=texts,
    ),
    wire.DeviceCommand: st.builds(
        wire.DeviceCommand,
        id=ids,
        device=names,
        action=st.sampled_from(["rollback", "cancel", "resume"]),
        issued_utc=utc,
        expires_utc=utc,
        signature=texts,
    ),
    wire.ActivationRequest: st.lists(st.tuples(digests, st.binary(max_size=50)), min_size=1, max_size=5).flatmap(
        lambda pairs: st.builds(
            wire.ActivationRequest,
            request_id=ids,
            reply_topic=topics,
            expires_utc=utc,
            sample_ids=st.just(tuple(digest for digest, _ in pairs)),
            images=st.just(tuple(image for _, image in pairs)),
            blocks=st.lists(
                st.builds(
                    wire.BlockWanted,
                    group=st.integers(0, 64),
                    block=st.integers(0, 1024),
                    channels=st.lists(st.integers(0, 65_535), max_size=5).map(tuple),
                ),
                max_size=3,
            ).map(tuple),
            from_offset=counts,
        )
    ),
    wire.BundleRequest: st.builds(wire.BundleRequest, request_id=ids, reply_topic=topics, expires_utc=utc),
    wire.Chunk: st.builds(
        wire.Chunk,
        request_id=ids,
        content=st.sampled_from(["activations", "bundle"]),
        offset=counts,
        total_bytes=st.integers(1, wire.MAX_TRANSFER_BYTES),
        sha256=digests,
        data=st.binary(min_size=1, max_size=50),
    ),
    wire.Refusal: st.builds(
        wire.Refusal, request_id=ids, code=ids, message=texts, retry_after_s=st.none() | st.floats(0, 86_400)
    ),
}
any_message = st.one_of(*MESSAGES.values())
any_type = st.sampled_from(list(MESSAGES))


def a_trigger(**changes: Any) -> wire.Trigger:
    return wire.Trigger(**{"id": "t1", "categories": ("nine",), "issued_utc": 1.0, "expires_utc": 2.0, **changes})


# ------------------------------------------------------------------------------------------------- encode and decode


def test_every_message_type_is_tested_here() -> None:
    defined = {item for item in vars(wire).values() if isinstance(item, type) and issubclass(item, wire.Message)}
    assert defined - {wire.Message} == set(MESSAGES)


@settings(deadline=None)
@given(any_message)
def test_what_is_encoded_decodes_to_the_same(message: Any) -> None:
    assert wire.decode(wire.encode(message), type(message)) == message


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300), any_type)
def test_arbitrary_bytes_raise_nothing_but_wire_error(payload: bytes, expected: type[wire.Message]) -> None:
    with pytest.raises(WireError):
        wire.decode(payload, expected)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
objects = st.fixed_dictionaries(
    {"v": st.just(1) | json_values, "type": st.sampled_from(["status", "trigger", "chunk"]) | json_values},
    optional={"id": json_values, "data": json_values, "device": json_values, "request_id": json_values},
)


@settings(deadline=None, max_examples=300)
@given(objects, any_type, st.booleans())
def test_near_messages_raise_nothing_but_wire_error(
    value: dict[str, Any], expected: type[wire.Message], json: bool
) -> None:
    try:
        payload = msgspec.json.encode(value) if json else msgspec.msgpack.encode(value)
    except OverflowError:  # a number msgpack cannot carry
        return
    with pytest.raises(WireError):
        wire.decode(payload, expected)


@settings(deadline=None, max_examples=300)
@given(any_message, st.data())
def test_damaged_messages_raise_nothing_but_wire_error(message: Any, data: st.DataObject) -> None:
    payload = bytearray(wire.encode(message))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = wire.decode(bytes(payload), type(message))
    except WireError:
        return
    assert type(decoded) is type(message)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b'{"v":2,"type":"trigger"}',
        b'{"v":' + b"[" * 100_000,
        b'{"v":2,"type":"trigger","x":' + b"9" * 5_000 + b"}",
        b'{"v":"\xff"}',
        b'{"v":1e999}',
        b"\x81\xa1v\x81\x80\x01",  # a map as the key of a map
        b"\x81\xa1v\xd7\xff" + b"\xff" * 8,  # a time stamp out of range
    ],
)
def test_awkward_bytes_are_malformed(payload: bytes) -> None:
    for expected in (wire.Trigger, wire.Chunk):
        with pytest.raises(WireError) as caught:
            wire.decode(payload, expected)
        assert caught.value.code == "malformed"
        assert expected.__name__ in str(caught.value)


@pytest.mark.parametrize("version", [0, 1, 3, -1, "2", True, None, 10**30, [2]])
def test_another_version_is_named(version: Any) -> None:
    fields = msgspec.json.decode(wire.encode(a_trigger()))
    with pytest.raises(WireError, match=r"Trigger: version .*; this program speaks 2") as caught:
        wire.decode(msgspec.json.encode({**fields, "v": version}), wire.Trigger)
    assert caught.value.code == "unknown_version"


def test_another_version_is_noticed_before_unknown_fields() -> None:
    with pytest.raises(WireError) as caught:
        wire.decode(b'{"v":3,"type":"trigger","brand_new":[]}', wire.Trigger)
    assert caught.value.code == "unknown_version"


def test_each_message_has_a_version_of_its_own() -> None:
    """What has not changed is not refused for the others' news."""
    changed = {wire.Status, wire.JobUpdate, wire.Trigger, wire.ActivationRequest}
    assert {kind: wire.version_of(kind) for kind in MESSAGES} == {
        kind: 2 if kind in changed else 1 for kind in MESSAGES
    }


@settings(deadline=None)
@given(any_message)
def test_a_message_is_encoded_in_the_version_that_is_decoded(message: Any) -> None:
    assert message.v == wire.version_of(type(message))


def test_another_type_is_named() -> None:
    with pytest.raises(WireError, match="expected DeviceCommand, got Trigger") as caught:
        wire.decode(wire.encode(a_trigger()), wire.DeviceCommand)
    assert caught.value.code == "unexpected_type"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("categories", []),
        ("categories", [""]),
        ("categories", ["x" * 65]),
        ("categories", ["nine", "nine"]),
        ("categories", ["ni\u2028ne"]),
        ("categories", [f"c{n}" for n in range(17)]),
        ("category", "nine"),
        ("unseen", "yes"),
        ("samples_wanted", 1),
        ("expires_utc", -1),
        ("devices", ["a/b"]),
        ("id", "no spaces"),
        ("surprise", 1),
    ],
)
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    fields = msgspec.json.decode(wire.encode(a_trigger()))
    with pytest.raises(WireError, match=field) as caught:
        wire.decode(msgspec.json.encode({**fields, field: value}), wire.Trigger)
    assert caught.value.code == "malformed"


def test_size_is_checked_both_ways() -> None:
    message = a_trigger(signature="s" * 500)
    payload = wire.encode(message)
    assert wire.encode(message, limit_bytes=len(payload)) == payload
    for refuse in (
        lambda: wire.encode(message, limit_bytes=len(payload) - 1),
        lambda: wire.decode(payload, wire.Trigger, limit_bytes=len(payload) - 1),
    ):
        with pytest.raises(WireError, match=rf"Trigger.*{len(payload)} bytes.*{len(payload) - 1}") as caught:
            refuse()
        assert caught.value.code == "too_large"


def test_a_request_needs_an_image_for_each_id() -> None:
    request = wire.ActivationRequest(
        request_id="r", reply_topic="t", expires_utc=1, sample_ids=(DIGEST, DIGEST), images=(b"x",)
    )
    with pytest.raises(WireError, match="1 images for 2 sample ids"):
        wire.decode(wire.encode(request), wire.ActivationRequest)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_refusal_cannot_make_a_device_wait_for_ever(seconds: float) -> None:
    refusal = wire.Refusal(request_id="r", code="busy", message="", retry_after_s=seconds)
    with pytest.raises(WireError, match="retry_after_s"):
        wire.decode(wire.encode(refusal), wire.Refusal)


@pytest.mark.parametrize("limit", [wire.MAX_MESSAGE_BYTES, 5_000])
def test_replies_and_requests_are_told_apart(limit: int) -> None:
    chunk = wire.Chunk(request_id="r", content="bundle", offset=0, total_bytes=1, sha256=DIGEST, data=b"x")
    refusal = wire.Refusal(request_id="r", code="expired", message="too late")
    ask = wire.BundleRequest(request_id="r", reply_topic="t", expires_utc=1)
    images = wire.ActivationRequest(
        request_id="r", reply_topic="t", expires_utc=1, sample_ids=(DIGEST,), images=(b"x",)
    )
    assert [wire.decode_reply(wire.encode(m), limit_bytes=limit) for m in (chunk, refusal)] == [chunk, refusal]
    assert [wire.decode_request(wire.encode(m), limit_bytes=limit) for m in (ask, images)] == [ask, images]
    for decode, stranger in ((wire.decode_reply, ask), (wire.decode_request, chunk)):
        with pytest.raises(WireError) as caught:
            decode(wire.encode(stranger))
        assert caught.value.code == "unexpected_type"


@pytest.mark.parametrize("message_type", list(MESSAGES))
def test_every_message_has_an_egress_class(message_type: type[wire.Message]) -> None:
    carries_images = message_type is wire.ActivationRequest
    assert isinstance(message_type.egress, wire.Egress)
    assert (message_type.egress is wire.Egress.IMAGE) == carries_images


def test_the_signature_covers_everything_but_itself() -> None:
    message = a_trigger()
    assert wire.signing_bytes(message) == wire.signing_bytes(a_trigger(signature="abc"))
    changes: list[dict[str, Any]] = [{"id": "t2"}, {"categories": ("ten",)}, {"categories": ("nine", "ten")}]
    changes += [{"expires_utc": 3.0}, {"samples_wanted": 5}, {"unseen": True}, {"devices": ("a",)}]
    for change in changes:
        assert wire.signing_bytes(a_trigger(**change)) != wire.signing_bytes(message)
    command = wire.DeviceCommand(id="t1", device="cam", action="cancel", issued_utc=1.0, expires_utc=2.0)
    assert wire.signing_bytes(command) != wire.signing_bytes(message)


# ---------------------------------------------------------------------------------------------------------- topics


def test_topics_have_at_most_seven_slashes_and_are_distinct() -> None:
    topics = wire.Topics("understudy", "home", "cam-1")
    every = [getattr(topics, name) for name in dir(wire.Topics) if isinstance(getattr(wire.Topics, name), property)]
    assert len(set(every)) == len(every) >= 9
    assert all(topic.count("/") <= 7 for topic in every)
    assert topics.echo == "understudy/v1/home/cam-1/echo"
    assert topics.trigger == "understudy/v1/home/trigger"


def test_workers_and_operators_listen_to_all_devices() -> None:
    fleet = wire.Topics("understudy", "home")
    assert fleet.status == "understudy/v1/home/+/status"
    assert fleet.shared_teacher_requests == "$share/teachers/understudy/v1/home/+/teacher/req"
