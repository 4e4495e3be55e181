from __future__ import annotations

import pytest

from agent.adapters.echo_watch import EchoWatch


def test_an_echo_is_due_at_once_and_then_each_keepalive() -> None:
    watch = EchoWatch(30, now_s=100)
    sends = [second for second in range(100, 200) if watch.due(second)]
    assert sends == [100, 130, 160, 190]
    assert watch.sent == 4


@pytest.mark.spec("3.1")
def test_two_keepalives_without_life_are_too_long() -> None:
    watch = EchoWatch(30, now_s=100)
    assert not watch.overdue(160)
    assert watch.overdue(160.1)
    watch.alive(160)
    assert not watch.overdue(220)
    assert watch.overdue(221)
