"""The schema: windows of the day."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Budget, Config, Source, contradictions, parse_window

minutes = st.integers(0, 24 * 60 - 1)


@settings(deadline=None)
@given(opens=minutes, closes=minutes)
def test_a_window_is_two_times_of_the_day(opens: int, closes: int) -> None:
    text = f"{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"
    assert parse_window(text) == (None if opens == closes else (opens, closes))


@pytest.mark.parametrize(
    "text", ["", "22:30", "24:00-05:00", "22:60-05:00", "2:30-5:00", "22:30-05:00 ", "٢٢:30-05:00"]
)
def test_what_is_no_window_is_named_with_an_example(text: str) -> None:
    config = Config(source=Source(folder="/in"), budget=Budget(windows=("22:30-05:00", text)))
    (fault,) = contradictions(config)
    assert fault.startswith("budget.windows: expected HH:MM-HH:MM, such as 22:30-05:00")
