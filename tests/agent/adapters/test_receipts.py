"""What the broker is told it may forget, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.receipts import Receipts


def test_a_message_is_acknowledged_once_it_is_settled_and_only_once() -> None:
    receipts = Receipts()
    receipts.begin()
    receipt = receipts.arrived(7)
    assert receipts.due() == []
    receipts.settle(receipt)
    receipts.settle(receipt)
    assert receipts.due() == [7] and receipts.due() == []


def test_one_that_is_not_settled_holds_back_those_behind_it() -> None:
    receipts = Receipts()
    receipts.begin()
    first, second = receipts.arrived(1), receipts.arrived(2)
    receipts.settle(second)
    assert receipts.due() == []
    receipts.settle(first)
    assert receipts.due() == [1, 2]


def test_another_connection_owes_nothing_of_the_one_before() -> None:
    """The same id may be another message by then."""
    receipts = Receipts()
    receipts.begin()
    old = receipts.arrived(1)
    receipts.begin()
    new = receipts.arrived(1)
    receipts.settle(old)
    assert receipts.due() == []
    receipts.settle(new)
    assert receipts.due() == [1]


@given(st.lists(st.integers(0, 9), max_size=40))
def test_in_the_order_in_which_they_arrived_whatever_the_order_in_which_they_were_settled(picks: list[int]) -> None:
    receipts = Receipts()
    receipts.begin()
    held = [receipts.arrived(100 + number) for number in range(10)]
    acknowledged = []
    for pick in [*picks, *range(10)]:
        receipts.settle(held[pick])
        acknowledged += receipts.due()
    assert acknowledged == list(range(100, 110))


def test_a_receipt_of_another_link_says_nothing() -> None:
    one, other = Receipts(), Receipts()
    for receipts in (one, other):
        receipts.begin()
    of_one = one.arrived(1)
    other.arrived(1)
    other.settle(of_one)
    assert other.due() == []
