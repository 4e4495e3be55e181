from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.adapters.egress import EgressDenied, EgressGate, Ledger
from agent.adapters.link_events import TooLarge
from agent.adapters.outbox import Outbox
from agent.adapters.outgoing import MAX_LIVE, Outgoing, Sealed
from transfer import wire


def an_event(seq: int, padding: int = 0) -> wire.Event:
    return wire.Event(device="cam", session=1, seq=seq, at_utc=1.0, kind="k", detail={"padding": "x" * padding})


REQUEST = wire.ActivationRequest(
    request_id="r", reply_topic="t", expires_utc=1, sample_ids=("0" * 64,), images=(b"pixels",)
)


class Door:
    """An Outgoing, its parts, and what it has reported."""

    def __init__(self, outbox: Outbox, mode: str = "local") -> None:
        self.ledger = Ledger()
        self.outbox = outbox
        self.reports: list[TooLarge] = []
        gate = EgressGate(mode, True, False, self.ledger)  # type: ignore[arg-type]
        self.out = Outgoing(gate, outbox, 1_000, self.reports.append)

    def seal(self, message: wire.AnyMessage) -> Sealed:
        sealed = self.out.seal(message, "a/b", retain=False)
        assert sealed is not None
        return sealed

    def store(self, message: wire.AnyMessage, key: str) -> None:
        assert self.out.add_durable(self.seal(message), key, until="puback", critical=False)

    def drain(self) -> list[int]:
        """The seq of every event that comes out now."""
        taken = iter(self.out.next, None)
        return [wire.decode(sealed.payload, wire.Event).seq for sealed in taken]


@pytest.fixture
def door(tmp_path: Path) -> Callable[..., Door]:
    outbox = Outbox(tmp_path / "outbox.db")
    return lambda mode="local": Door(outbox, mode)


def test_nothing_is_sealed_against_the_gate_the_size_or_the_topic(door: Callable[..., Door]) -> None:
    one = door()
    with pytest.raises(EgressDenied):
        one.out.seal(REQUEST, "a/b", retain=False)
    with pytest.raises(ValueError, match=r"'a/#'"):
        one.out.seal(an_event(1), "a/#", retain=False)
    assert one.out.seal(an_event(1, 1_000), "a/b", retain=False, key="k") is None
    size = len(wire.encode(an_event(1, 1_000)))
    assert one.reports == [TooLarge("a/b", size, 1_000, "k")]


def test_live_messages_first_then_the_outbox_once_and_in_order(door: Callable[..., Door]) -> None:
    one = door()
    for seq in range(5):
        one.store(an_event(seq), str(seq))
    assert one.out.add_live(one.seal(an_event(100)))
    assert one.drain() == [100, 0, 1, 2, 3, 4]
    assert one.drain() == []
    one.store(an_event(5), "5")
    one.store(an_event(6), "2")
    assert one.drain() == [5, 6], "a new row, and one that was replaced"


def test_the_next_connection_begins_from_the_beginning_without_the_live_messages(door: Callable[..., Door]) -> None:
    one = door()
    one.store(an_event(1), "1")
    assert one.drain() == [1]
    one.out.add_live(one.seal(an_event(2)))
    one.out.connection_lost()
    assert one.drain() == [1]


def test_only_rows_that_wait_for_the_puback_leave_by_it(door: Callable[..., Door]) -> None:
    one = door()
    one.out.add_durable(one.seal(an_event(1)), "puback", until="puback", critical=False)
    one.out.add_durable(one.seal(an_event(2)), "application", until="acknowledged", critical=True)
    for _ in range(2):
        sealed = one.out.next()
        assert sealed is not None
        one.out.taken(sealed)
    assert [row.key for row in one.outbox.pending()] == ["application"]
    one.out.acknowledged("application")
    assert one.outbox.size() == (0, 0)


def test_a_late_puback_spares_the_row_that_replaced_its_own(door: Callable[..., Door]) -> None:
    one = door()
    one.store(an_event(1), "k")
    sealed = one.out.next()
    one.store(an_event(2), "k")
    assert sealed is not None
    one.out.taken(sealed)
    assert one.drain() == [2]


def test_stored_rows_meet_a_lower_limit_and_a_stricter_gate(door: Callable[..., Door]) -> None:
    before = door("upload")
    before.store(REQUEST, "image")
    before.store(an_event(1, 500), "large")
    before.store(an_event(2), "small")
    after = door("local")
    after.out.limit_bytes = 300
    assert after.drain() == [2]
    assert [report.key for report in after.reports] == ["large"]
    assert [row.key for row in after.outbox.pending()] == ["small"]
    assert after.ledger.snapshot()["image"]["denied_messages"] == 1


def test_live_messages_are_bounded(door: Callable[..., Door]) -> None:
    one = door()
    sealed = one.seal(an_event(1))
    assert [one.out.add_live(sealed) for _ in range(MAX_LIVE + 1)] == [True] * MAX_LIVE + [False]


def test_predictions_and_echoes_are_not_worth_an_acknowledgement(door: Callable[..., Door]) -> None:
    one = door()
    assert one.seal(wire.Echo(session=1, n=1)).qos == 0
    assert one.seal(an_event(1)).qos == 1
    assert one.seal(msgspec.structs.replace(an_event(1), kind="other")).egress == "operational"


def test_only_what_was_sent_is_counted_as_having_left(door: Callable[..., Door]) -> None:
    one = door()
    sealed = one.seal(an_event(1))
    assert one.ledger.snapshot()["operational"]["allowed_messages"] == 0
    one.out.sent(sealed)
    counts = one.ledger.snapshot()["operational"]
    assert (counts["allowed_messages"], counts["allowed_bytes"]) == (1, len(sealed.payload))
