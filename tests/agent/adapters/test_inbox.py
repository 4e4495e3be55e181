"""Only orders of an operator, in time and for this device, become events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from agent.adapters.inbox import Inbox, OrderRefused
from agent.core.events import CancelOrdered, ResumeOrdered, RollbackOrdered, TriggerArrived
from transfer import signing, wire

TOPICS = wire.Topics("understudy", "home", "cam")
NOW_UTC = 2_000_000_000.0


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return signing.generate(tmp_path_factory.mktemp("operator") / "key")


@pytest.fixture
def inbox(operator: SigningKey) -> Inbox:
    keys = ("00" * 32, signing.public_key_hex(operator))
    return Inbox(TOPICS, keys, now=lambda: 12.5, now_utc=lambda: NOW_UTC)


def signed(message: Any, key: SigningKey) -> bytes:
    signature = signing.sign(key, wire.signing_bytes(message))
    return wire.encode(msgspec.structs.replace(message, signature=signature))


def trigger(**changes: Any) -> wire.Trigger:
    fields = {
        "id": "t1",
        "categories": ("lime",),
        "issued_utc": NOW_UTC,
        "expires_utc": NOW_UTC + 60,
        "samples_wanted": 30,
    }
    return wire.Trigger(**{**fields, **changes})


def command(**changes: Any) -> wire.DeviceCommand:
    fields = {
        "id": "c1",
        "device": TOPICS.device,
        "action": "rollback",
        "issued_utc": NOW_UTC,
        "expires_utc": NOW_UTC + 60,
    }
    return wire.DeviceCommand(**{**fields, **changes})


def refusal(inbox: Inbox, topic: str, payload: bytes) -> str:
    with pytest.raises(OrderRefused) as refused:
        inbox.read(topic, payload)
    return refused.value.code


def test_a_signed_trigger_is_an_event(inbox: Inbox, operator: SigningKey) -> None:
    event = inbox.read(TOPICS.trigger, signed(trigger(), operator))
    assert event == TriggerArrived(12.5, "t1", ("lime",), 30)


@pytest.mark.spec("10.6")
@pytest.mark.parametrize(
    ("action", "kind"), [("rollback", RollbackOrdered), ("cancel", CancelOrdered), ("resume", ResumeOrdered)]
)
def test_a_signed_command_is_an_event(inbox: Inbox, operator: SigningKey, action: str, kind: type) -> None:
    assert inbox.read(TOPICS.command, signed(command(action=action), operator)) == kind(12.5, "c1")


def test_a_trigger_for_others_is_nothing_and_for_us_among_others_is_ours(inbox: Inbox, operator: SigningKey) -> None:
    assert inbox.read(TOPICS.trigger, signed(trigger(devices=("door",)), operator)) is None
    assert inbox.read(TOPICS.trigger, signed(trigger(devices=("door", "cam")), operator)) is not None


def test_who_is_no_operator_is_not_obeyed(inbox: Inbox, tmp_path: Path) -> None:
    stranger = signing.generate(tmp_path / "stranger")
    assert refusal(inbox, TOPICS.trigger, signed(trigger(), stranger)) == "bad_signature"
    assert refusal(inbox, TOPICS.command, signed(command(), stranger)) == "bad_signature"
    assert refusal(inbox, TOPICS.trigger, wire.encode(trigger())) == "bad_signature"
    assert refusal(inbox, TOPICS.trigger, wire.encode(trigger(signature="zz" * 64))) == "bad_signature"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "t2"},
        {"categories": ("pink",)},
        {"categories": ("lime", "pink")},
        {"unseen": True},
        {"samples_wanted": 31},
        {"expires_utc": NOW_UTC + 61},
        {"issued_utc": NOW_UTC - 1},
        {"devices": ("cam",)},
    ],
)
def test_the_signature_covers_every_field(inbox: Inbox, operator: SigningKey, change: dict[str, Any]) -> None:
    good = wire.decode(signed(trigger(), operator), wire.Trigger)
    assert refusal(inbox, TOPICS.trigger, wire.encode(msgspec.structs.replace(good, **change))) == "bad_signature"


def test_nobody_is_obeyed_where_there_is_no_operator(operator: SigningKey) -> None:
    inbox = Inbox(TOPICS, (), now=lambda: 0.0, now_utc=lambda: NOW_UTC)
    assert refusal(inbox, TOPICS.trigger, signed(trigger(), operator)) == "bad_signature"


def test_an_expired_order_is_refused_with_its_age(inbox: Inbox, operator: SigningKey) -> None:
    with pytest.raises(OrderRefused, match="expired 5 s ago") as refused:
        inbox.read(TOPICS.trigger, signed(trigger(expires_utc=NOW_UTC - 5), operator))
    assert refused.value.code == "expired"
    assert refusal(inbox, TOPICS.command, signed(command(expires_utc=NOW_UTC - 0.5), operator)) == "expired"


def test_one_kind_of_order_is_none_of_the_other(inbox: Inbox, operator: SigningKey) -> None:
    for topic, message in ((TOPICS.trigger, command()), (TOPICS.command, trigger())):
        with pytest.raises(wire.WireError) as refused:
            inbox.read(topic, signed(message, operator))
        assert refused.value.code == "unexpected_type"
    assert refusal(inbox, TOPICS.status, signed(trigger(), operator)) == "unknown_topic"


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.binary(max_size=60), topic=st.sampled_from([TOPICS.trigger, TOPICS.command, "x"]))
def test_any_bytes_are_a_refusal(inbox: Inbox, payload: bytes, topic: str) -> None:
    with pytest.raises((wire.WireError, OrderRefused)):
        inbox.read(topic, payload)


def test_a_command_for_another_device_is_refused(inbox: Inbox, operator: SigningKey) -> None:
    """Also one that is signed and was overheard: it cannot be played back here."""
    assert refusal(inbox, TOPICS.command, signed(command(device="another"), operator)) == "other_device"
