from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.adapters.egress import EgressDenied, EgressGate, Ledger
from agent.adapters.link_events import TooLarge
from agent.adapters.outbox import Outbox
from agent.adapters.outgoing import BLOCKED_AFTER, MAX_LIVE, Outgoing, Sealed
from agent.adapters.pace import Pace
from transfer import wire


def an_event(seq: int, padding: int = 0) -> wire.Event:
    return wire.Event(device="cam", session=1, seq=seq, at_utc=1.0, kind="k", detail={"padding": "x" * padding})


REQUEST = wire.ActivationRequest(
    request_id="r", reply_topic="t", expires_utc=1, sample_ids=("0" * 64,), images=(b"pixels",)
)


class Door:
    """An Outgoing, its parts, and what it has reported."""

    def __init__(self, outbox: Outbox, mode: str = "local") -> None:
        self.now_s = 0.0
        self.ledger = Ledger()
        self.outbox = outbox
        self.reports: list[TooLarge] = []
        gate = EgressGate(mode, True, False, self.ledger)  # type: ignore[arg-type]
        self.out = Outgoing(gate, outbox, 1_000, self.reports.append, Pace(50, 20, lambda: self.now_s))

    def seal(self, message: wire.AnyMessage) -> Sealed:
        sealed = self.out.seal(message, "a/b", retain=False)
        assert sealed is not None
        return sealed

    def store(self, message: wire.AnyMessage, key: str, critical: bool = False) -> None:
        assert self.out.add_durable(self.seal(message), key, until="puback", critical=critical)

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


def test_a_live_message_then_the_outbox_once_and_in_order(door: Callable[..., Door]) -> None:
    one = door()
    for seq in range(5):
        one.store(an_event(seq), str(seq))
    assert one.out.add_live(one.seal(an_event(100)))
    assert one.drain() == [100, 0, 1, 2, 3, 4]
    assert one.drain() == []
    one.store(an_event(5), "5")
    one.store(an_event(6), "2")
    assert one.drain() == [5, 6], "a new row, and one that was replaced"


@pytest.mark.spec("2.3")
def test_what_an_operator_waits_for_overtakes_all_and_the_rest_takes_turns(door: Callable[..., Door]) -> None:
    one = door()
    for seq in range(3):
        one.store(an_event(seq), str(seq))
        assert one.out.add_live(one.seal(an_event(100 + seq)))
    one.store(an_event(200), "report", critical=True)
    assert one.drain() == [200, 100, 0, 101, 1, 102, 2]


@pytest.mark.spec("2.3")
def test_a_backlog_leaves_at_a_bounded_pace_and_starves_nobody(door: Callable[..., Door]) -> None:
    """Ten seconds after a day offline: 220 events wait, predictions come all the time, then a report."""
    one = door()
    for seq in range(220):
        one.store(an_event(seq), str(seq))
    sent: list[list[int]] = []
    for second in range(10):
        for number in range(MAX_LIVE):
            assert one.out.add_live(one.seal(an_event(1_000 + number)))
        if second == 5:
            one.store(an_event(9_999), "report", critical=True)
        sent.append(one.drain())
        assert one.out.wait_s == pytest.approx(1 / 50), "when to look again"
        one.now_s += 1
    stored = [[seq for seq in some if seq < 1_000] for some in sent]
    assert list(itertools.chain(*stored)) == list(range(199))
    assert [len(some) for some in stored] == [20, 20, 20, 20, 20, 19, 20, 20, 20, 20], "at once no more than 20"
    assert sent[5][0] == 9_999
    assert all(len(some) >= MAX_LIVE for some in sent)


@pytest.mark.spec("2.3")
def test_the_pace_holds_over_any_time(door: Callable[..., Door]) -> None:
    one = door()
    for seq in range(80):
        one.store(an_event(seq), str(seq))
    sent = 0
    while one.outbox.size()[0] > 0:
        while sealed := one.out.next():
            one.out.taken(sealed)
            sent += 1
        assert sent <= 20 + 50 * one.now_s + 1e-6
        one.now_s += one.out.wait_s if one.out.wait_s < 1 else 0.0
    assert one.now_s == pytest.approx(60 / 50, abs=0.03)


def test_the_next_connection_begins_from_the_beginning_without_the_live_messages(door: Callable[..., Door]) -> None:
    one = door()
    one.store(an_event(1), "1")
    assert one.drain() == [1]
    one.out.add_live(one.seal(an_event(2)))
    one.out.connection_lost()
    assert one.drain() == [1]


@pytest.mark.spec("1.4")
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


def test_a_row_that_ends_every_connection_goes_last(door: Callable[..., Door]) -> None:
    one = door()
    for seq in range(3):
        one.store(an_event(seq), str(seq))
    for connection in range(BLOCKED_AFTER):
        first = one.out.next()
        assert first is not None and one.out.connection_lost(first) == (connection == BLOCKED_AFTER - 1)
    assert one.drain() == [1, 2, 0]


def test_a_late_puback_spares_the_row_that_replaced_its_own(door: Callable[..., Door]) -> None:
    one = door()
    one.store(an_event(1), "k")
    sealed = one.out.next()
    one.store(an_event(2), "k")
    assert sealed is not None
    one.out.taken(sealed)
    assert one.drain() == [2]


@pytest.mark.spec("15.1")
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
    assert one.out.live_dropped == 1


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
