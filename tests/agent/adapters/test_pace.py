from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.pace import Pace


def test_some_at_once_then_one_after_the_other() -> None:
    now_s = 100.0
    pace = Pace(2, 3, lambda: now_s)
    assert [pace.take() for _ in range(4)] == [True, True, True, False]
    assert pace.wait_s() == pytest.approx(0.5)
    now_s += 0.5
    assert [pace.take(), pace.take()] == [True, False]
    now_s += 1_000
    assert [pace.take() for _ in range(4)] == [True, True, True, False], "rest is not saved up without end"


@pytest.mark.spec("2.3")
@settings(deadline=None)
@given(steps=st.lists(st.floats(0, 3), max_size=40), per_s=st.floats(0.1, 100), burst=st.integers(1, 20))
def test_no_stretch_of_time_holds_more_than_the_burst_and_the_rate(
    steps: list[float], per_s: float, burst: int
) -> None:
    now_s, gone = 0.0, []
    pace = Pace(per_s, burst, lambda: now_s)
    for step_s in steps:
        now_s += step_s
        while pace.take():
            gone.append(now_s)
    for first in range(len(gone)):
        for last in range(first, len(gone)):
            assert last - first + 1 <= burst + per_s * (gone[last] - gone[first]) + 1e-6


@settings(deadline=None)
@given(per_s=st.floats(0.1, 100), burst=st.integers(1, 20), count=st.integers(1, 60))
def test_whoever_waits_as_told_gets_on(per_s: float, burst: int, count: int) -> None:
    now_s = 0.0
    pace = Pace(per_s, burst, lambda: now_s)
    for _ in range(count):
        now_s += pace.wait_s() + 1e-9
        assert pace.take()
    assert now_s == pytest.approx(max(0, count - burst) / per_s, abs=1e-3)
