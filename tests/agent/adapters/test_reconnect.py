from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.reconnect import Backoff, Versions


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
@pytest.mark.spec("2.1")
def test_waits_double_up_to_the_cap_and_differ(rolls: list[float]) -> None:
    dice = iter(rolls)
    backoff = Backoff(1.0, 60.0, lambda: next(dice))
    for attempt, roll in enumerate(rolls):
        longest = min(60.0, 2.0**attempt)
        wait = backoff.next_s()
        assert longest / 2 <= wait <= longest
        assert wait == longest * (0.5 + 0.5 * roll)


@pytest.mark.spec("2.1")
def test_a_reset_begins_again_and_the_real_dice_stay_in_bounds() -> None:
    backoff = Backoff(1.0, 60.0)
    waits = [backoff.next_s() for _ in range(2_000)]
    assert all(30 <= wait <= 60 for wait in waits[6:])
    assert len(set(waits)) > 1_900
    backoff.reset()
    assert 0.5 <= backoff.next_s() <= 1.0


def test_five_first_then_the_older_version_at_once() -> None:
    versions = Versions()
    tried = [versions.current]
    assert versions.unanswered(), "3.1.1 is worth trying without a wait"
    tried.append(versions.current)
    assert not versions.unanswered(), "both failed: wait"
    tried.append(versions.current)
    assert tried == ["5", "3.1.1", "5"]


def test_only_the_first_try_of_five_is_impatient() -> None:
    versions = Versions()
    patience = []
    for _ in range(4):
        patience.append(versions.patience_s)
        versions.unanswered()
    assert patience[0] < 5 < min(patience[1:]), "a slow broker that speaks 5 only must still be reached"
    versions.connected()
    assert versions.patience_s == patience[0]


def test_what_worked_is_remembered_and_five_is_tried_again_later() -> None:
    versions = Versions()
    versions.unanswered()
    for _ in range(Versions.TRY_5_AGAIN_AFTER - 1):
        versions.connected()
        versions.lost()
        assert versions.current == "3.1.1"
    versions.connected()
    versions.lost()
    tried = [versions.current]
    assert versions.unanswered()
    assert [*tried, versions.current] == ["5", "3.1.1"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["works", "5 only", "3.1.1 only"]), max_size=40))
def test_whatever_the_broker_becomes_two_attempts_are_enough(brokers: list[str]) -> None:
    versions = Versions()
    for broker in brokers:
        for _ in range(2):
            if broker == "works" or broker.startswith(versions.current):
                versions.connected()
                break
            versions.unanswered()
        else:
            raise AssertionError(f"not connected to a broker that speaks {broker}")
        versions.lost()
