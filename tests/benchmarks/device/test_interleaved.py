from __future__ import annotations

from collections import Counter
from itertools import count

import pytest

from benchmarks.device.interleaved import interleaved, median_ms, ratio


def test_every_peer_runs_once_a_round_and_behind_every_other() -> None:
    calls: list[str] = []
    peers = {name: lambda name=name: calls.append(name) for name in "abc"}
    taken = interleaved(peers, 60, warm_ups=1)
    rounds = ["".join(calls[at : at + 3]) for at in range(0, len(calls), 3)]
    assert rounds[0] == "abc" and {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 60, "b": 60, "c": 60}
    behind = Counter(pair for each in rounds[1:] for pair in (each[:2], each[1:]))
    assert len(behind) == 6 and min(behind.values()) >= 10
    again: list[str] = []
    interleaved({name: lambda name=name: again.append(name) for name in "abc"}, 60, warm_ups=1)
    assert again == calls


def test_what_is_counted_is_the_call_alone() -> None:
    ticks = count(0.0, 0.5)
    taken = interleaved({"a": lambda: next(ticks), "b": lambda: None}, 2, warm_ups=0, clock=lambda: next(ticks))
    assert taken == {"a": [1.0, 1.0], "b": [0.5, 0.5]}


def test_the_ratio_is_that_of_the_rounds_so_a_slow_minute_does_not_count() -> None:
    assert ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == 0.5
    with pytest.raises(ValueError):
        ratio([1.0], [1.0, 2.0])


def test_medians_are_in_milliseconds() -> None:
    assert median_ms([0.001, 0.002, 1.0]) == 2.0
