from __future__ import annotations

from itertools import product
from typing import Any, ClassVar, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.egress import EgressDenied, EgressGate, Ledger, Mode
from transfer import wire

OPERATIONAL = wire.Echo(session=1, n=1)
DERIVED = wire.Prediction(
    device="cam", sample_id="0" * 64, origin="x.png", at_utc=1, label="cat", confidence=1, novelty=0.0, novel=False,
    generation=1,
)  # fmt: skip
IMAGE = wire.ActivationRequest(
    request_id="r", reply_topic="t", expires_utc=1, sample_ids=("0" * 64,), images=(b"secret pixels",)
)


class Unclassified(wire.Message, tag="unclassified", frozen=True):
    """What somebody adds tomorrow and forgets to classify."""


class Misclassified(wire.Message, tag="misclassified", frozen=True):
    egress: ClassVar[Any] = "operational"  # a string, not the class itself


def a_gate(mode: Any = "local", consent: Any = False, share: Any = False) -> EgressGate:
    return EgressGate(mode, consent, share, Ledger())


def passes(gate: EgressGate, message: wire.Message) -> bool:
    try:
        gate.check(message)
    except EgressDenied:
        return False
    return True


@pytest.mark.parametrize(("mode", "consent", "share"), list(product(get_args(Mode), (False, True), (False, True))))
def test_what_may_leave_in_every_setting(mode: Mode, consent: bool, share: bool) -> None:
    gate = a_gate(mode, consent, share)
    assert passes(gate, OPERATIONAL)
    assert passes(gate, DERIVED) == (share and mode != "local")
    assert passes(gate, IMAGE) == (mode == "upload" and consent)
    assert not passes(gate, Unclassified())
    assert not passes(gate, Misclassified())


@settings(deadline=None)
@given(mode=st.text(max_size=10), consent=st.sampled_from([1, "true", "yes", [0]]), share=st.sampled_from([1, "on"]))
def test_nonsense_settings_let_nothing_private_out(mode: str, consent: Any, share: Any) -> None:
    for gate in (a_gate(mode, consent=True, share=True), a_gate("upload", consent, share)):
        if mode not in get_args(Mode) or gate._mode == "upload":
            assert passes(gate, OPERATIONAL)
        if mode not in get_args(Mode) and gate._mode == mode:
            assert not passes(gate, DERIVED)
            assert not passes(gate, IMAGE)
    assert not passes(a_gate("upload", consent, share), DERIVED)
    assert not passes(a_gate("upload", consent, share), IMAGE)


@pytest.mark.parametrize(
    ("gate", "message", "words"),
    [
        (a_gate("local"), DERIVED, "Prediction.*'local'"),
        (a_gate("upload"), DERIVED, "Prediction.*share_predictions is off"),
        (a_gate("teacher_download", consent=True), IMAGE, "ActivationRequest.*'teacher_download', not 'upload'"),
        (a_gate("upload"), IMAGE, "ActivationRequest.*consented"),
        (a_gate("upload"), Unclassified(), "Unclassified.*no egress class"),
    ],
)
def test_a_denial_says_what_and_why(gate: EgressGate, message: wire.Message, words: str) -> None:
    with pytest.raises(EgressDenied, match=words) as caught:
        gate.check(message)
    assert caught.value.code.startswith("egress_")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("egress", ["operational", "derived", "image", "", "OPERATIONAL", "anything"])
@pytest.mark.parametrize("mode", get_args(Mode))
def test_stored_messages_meet_the_same_gate(mode: Mode, egress: str) -> None:
    gate = a_gate(mode, consent=True, share=True)
    allowed = {"operational"} | ({"derived"} if mode != "local" else set()) | ({"image"} if mode == "upload" else set())
    if egress in allowed:
        gate.check_stored(egress, 10)
        assert all(tally["denied_messages"] == 0 for tally in gate.ledger.snapshot().values())
    else:
        with pytest.raises(EgressDenied):
            gate.check_stored(egress, 10)
        assert sum(tally["denied_bytes"] for tally in gate.ledger.snapshot().values()) == 10


def test_the_ledger_counts_both_sides() -> None:
    gate = a_gate("local")
    gate.check(OPERATIONAL)
    assert gate.ledger.snapshot()["operational"]["allowed_messages"] == 0, "checked is not yet sent"
    gate.ledger.allowed("operational", 30)
    gate.ledger.allowed("operational", 12)
    assert not passes(gate, IMAGE)
    assert not passes(gate, Unclassified())
    counts = gate.ledger.snapshot()
    assert counts["operational"] == {
        "allowed_messages": 2, "allowed_bytes": 42, "denied_messages": 0, "denied_bytes": 0
    }  # fmt: skip
    assert counts["image"]["denied_messages"] == 1
    assert counts["image"]["denied_bytes"] >= len(b"secret pixels")
    assert counts["unclassified"]["denied_messages"] == 1


def test_the_ledger_goes_on_from_its_snapshot() -> None:
    first = Ledger()
    first.allowed("operational", 5)
    stored = msgspec.json.decode(msgspec.json.encode(first.snapshot()))
    second = Ledger(stored)
    second.allowed("operational", 6)
    assert second.snapshot()["operational"]["allowed_bytes"] == 11
    with pytest.raises(msgspec.ValidationError, match="allowed_bytes"):
        Ledger({"operational": {"allowed_bytes": "many"}})  # type: ignore[dict-item]
