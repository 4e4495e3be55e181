"""Who orders something at the device itself gets an answer that a power cut does not make untrue."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from agent import local_orders
from agent.core import events as ev
from agent.local_orders import LocalOrders


class Loop:
    """The daemon's loop: takes one event when told to, with this objection of the disk."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[ev.Event] = queue.SimpleQueue()
        self.orders = LocalOrders({"rollback": ev.RollbackOrdered}, 7, self.events.put, lambda: 1.0)
        self.answers: list[dict[str, Any]] = []

    def ask(self, action: object) -> threading.Thread:
        thread = threading.Thread(target=lambda: self.answers.append(self.orders.give(action)))
        thread.start()
        return thread


@pytest.mark.spec("7.1")
def test_an_order_is_accepted_when_it_is_written_down_and_not_before() -> None:
    loop = Loop()
    asked = loop.ask("rollback")
    event = loop.events.get(timeout=5)
    assert isinstance(event, ev.RollbackOrdered) and event.at == 1.0
    loop.orders.taken(ev.Ticked(1.0), "")  # something else has happened
    asked.join(0.05)
    assert loop.answers == []
    loop.orders.taken(event, "")
    asked.join(5)
    assert loop.answers == [{"accepted": "rollback", "order": event.command_id}]


def test_what_the_disk_refuses_is_not_called_accepted() -> None:
    loop = Loop()
    asked = loop.ask("rollback")
    loop.orders.taken(loop.events.get(timeout=5), "No space left on device")
    asked.join(5)
    (answer,) = loop.answers
    assert "accepted" not in answer and "No space left on device" in answer["error"]


def test_no_two_orders_are_the_same() -> None:
    loop = Loop()
    asked = [loop.ask("rollback") for _ in range(3)]
    events = [loop.events.get(timeout=5) for _ in asked]
    for event in events:
        loop.orders.taken(event, "")
    for thread in asked:
        thread.join(5)
    assert len({answer["order"] for answer in loop.answers}) == 3


def test_a_daemon_that_does_not_get_to_it_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_orders, "WRITTEN_WITHIN_S", 0.01)
    loop = Loop()
    assert "too busy" in loop.orders.give("rollback")["error"]
    loop.orders.taken(loop.events.get(timeout=5), "")  # late, and nobody waits


@pytest.mark.parametrize("action", ["explode", None, 3])
def test_what_is_no_order_is_told_so(action: object) -> None:
    assert "known are status, rollback" in Loop().orders.give(action)["error"]
