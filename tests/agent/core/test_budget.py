"""When a round may train, must end, and when the card is spared: over all the figures there may be."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.config import Budget
from agent.core.budget import caveat, must_end, objection, refreshed, to_spare
from agent.core.facts import Reading

CALM = Reading(
    cpu_percent=5,
    load_per_core=0.3,
    available_mib=4000,
    own_rss_mib=45,
    temperature_c=40,
    battery_percent=90,
    on_power=False,
    disk_free_mib=9e3,
    disk_free_inodes=90_000,
    written_today_mib=3.0,
    minute_of_day=12 * 60,
)


def amounts(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


def maybe(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | amounts(low, high)


MINUTES = st.integers(0, 24 * 60 - 1)
WINDOWS = (
    st.tuples(MINUTES, MINUTES)
    .filter(lambda span: span[0] != span[1])
    .map(lambda span: "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in span))
)
BUDGETS = st.builds(
    Budget,
    max_cpu_percent=amounts(0, 100),
    min_available_mib=amounts(0, 10_000),
    max_temperature_c=amounts(0, 150),
    min_battery_percent=amounts(0, 100),
    require_power=st.booleans(),
    min_disk_free_mib=amounts(0, 10_000),
    min_free_inodes=st.integers(0, 100_000),
    max_load_per_core=amounts(0.01, 10),
    max_rss_mib=st.just(0.0) | amounts(1, 2000),
    max_written_mib_a_day=st.just(0.0) | amounts(1, 1000),
    windows=st.lists(WINDOWS, max_size=3).map(tuple),
    margin=amounts(0, 0.9),
)
READINGS = st.builds(
    Reading,
    cpu_percent=maybe(0, 100),
    load_per_core=maybe(0, 20),
    available_mib=maybe(0, 20_000),
    own_rss_mib=maybe(0, 200),
    trainer_rss_mib=maybe(0, 3000),
    temperature_c=maybe(-20, 150),
    battery_percent=maybe(0, 100),
    on_power=st.none() | st.booleans(),
    disk_free_mib=maybe(0, 20_000),
    disk_free_inodes=st.none() | st.integers(0, 200_000),
    written_today_mib=maybe(0, 2000),
    minute_of_day=st.none() | MINUTES,
)


# ------------------------------------------------------------------------------------------------ in words


def test_a_calm_machine_may_train() -> None:
    assert objection(Budget(), CALM, training=False) == ""
    assert must_end(Budget(max_rss_mib=500), CALM) == "" and to_spare(Budget(), CALM, already=True) == ""


@pytest.mark.spec("16.1", "16.3", "11.1")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"available_mib": 100.0}, "available memory 100 MiB is below 330 MiB"),
        ({"disk_free_mib": 10.0}, "free disk 10 MiB is below 220 MiB"),
        ({"disk_free_inodes": 1050}, "free inodes 1050 is below 1100"),
        ({"battery_percent": 43.0}, "battery 43 % is below 44 %"),
        ({"temperature_c": 70.0}, "temperature 70 °C is above 68 °C"),
        ({"temperature_c": 67.6}, "temperature 67.6 °C is above 67.5 °C"),
        ({"cpu_percent": 99.0}, "CPU 99 % is above 95 %"),
        ({"load_per_core": 4.2}, "load per core 4.2 is above 4.0"),
        ({"own_rss_mib": 950.0}, "memory of the daemon 950 MiB is above 900 MiB"),
        ({"written_today_mib": 470.0}, "written in a day 470 MiB is above 450 MiB"),
        ({"minute_of_day": 20 * 60 + 5}, "it is 20:05, and training is for 09:00-18:30, 23:00-01:00"),
    ],
)
def test_each_limit_objects_in_words(change: dict[str, Any], says: str) -> None:
    budget = Budget(max_rss_mib=1000, max_written_mib_a_day=500, windows=("09:00-18:30", "23:00-01:00"))
    assert objection(budget, replace(CALM, **change), training=False) == says


def test_on_the_charger_the_battery_does_not_matter_and_may_be_required() -> None:
    empty = replace(CALM, battery_percent=1.0)
    assert objection(Budget(), empty, training=False) != ""
    assert objection(Budget(), replace(empty, on_power=True), training=False) == ""
    assert "requires the charger" in objection(Budget(require_power=True), CALM, training=True)
    assert objection(Budget(require_power=True), replace(CALM, on_power=None), training=False) == ""


@pytest.mark.parametrize("busy", [replace(CALM, cpu_percent=100.0), replace(CALM, load_per_core=50.0)])
def test_its_own_load_is_no_reason_to_stop_a_trainer(busy: Reading) -> None:
    assert objection(Budget(), busy, training=True) == "" != objection(Budget(), busy, training=False)
    assert objection(Budget(), busy, training=True, resuming=True) == ""


@pytest.mark.spec("16.1")
def test_a_trainer_that_takes_too_much_memory_must_end_for_pausing_frees_none() -> None:
    budget = Budget(max_rss_mib=500)
    taking = replace(CALM, trainer_rss_mib=480.0)
    assert must_end(budget, taking) == "memory of daemon and trainer 525 MiB is above 500 MiB"
    assert must_end(Budget(), taking) == ""  # 0 is no limit
    assert must_end(budget, replace(taking, own_rss_mib=None)) == ""
    assert must_end(Budget(), replace(CALM, available_mib=299.0)) == "available memory 299 MiB is below 300 MiB"
    assert must_end(Budget(), replace(CALM, available_mib=301.0)) == ""


@pytest.mark.spec("5.3", "6.2")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"disk_free_mib": 199.0}, "free disk 199 MiB is below 200 MiB"),
        ({"disk_free_inodes": 999}, "free inodes 999 is below 1000"),
        ({"written_today_mib": 500.5}, "written in a day 500.5 MiB is above 500.0 MiB"),
        ({"temperature_c": 99.0, "available_mib": 1.0}, ""),
    ],
)
def test_the_card_is_spared_by_space_inodes_and_wear(change: dict[str, Any], says: str) -> None:
    assert to_spare(Budget(max_written_mib_a_day=500), replace(CALM, **change), already=False) == says


# ------------------------------------------------------------------------------------------------ the clock


@pytest.mark.spec("16.1", "8.1")
@pytest.mark.parametrize(
    ("window", "minute", "open_"),
    [
        ("01:00-05:30", 59, False),
        ("01:00-05:30", 60, True),
        ("01:00-05:30", 5 * 60 + 29, True),
        ("01:00-05:30", 5 * 60 + 30, False),
        ("22:30-05:00", 22 * 60 + 29, False),
        ("22:30-05:00", 22 * 60 + 30, True),
        ("22:30-05:00", 0, True),
        ("22:30-05:00", 5 * 60, False),
    ],
)
def test_windows_open_and_close_also_across_midnight(window: str, minute: int, open_: bool) -> None:
    reading = replace(CALM, minute_of_day=minute)
    for training in (False, True):
        assert (objection(Budget(windows=(window,)), reading, training=training) == "") == open_
    assert must_end(Budget(windows=(window,)), reading) == ""  # it pauses, and goes on from where it is


@settings(deadline=None)
@given(window=WINDOWS, minute=MINUTES)
def test_a_window_and_its_opposite_share_the_day(window: str, minute: int) -> None:
    opposite = "-".join(reversed(window.split("-")))
    reading = Reading(minute_of_day=minute)
    closed = [objection(Budget(windows=(one,)), reading, training=False) != "" for one in (window, opposite)]
    assert sorted(closed) == [False, True]
    assert objection(Budget(windows=(window, opposite)), reading, training=False) == ""


@pytest.mark.spec("8.2")
def test_a_clock_never_set_holds_nothing_up_and_it_is_said() -> None:
    night, unset = Budget(windows=("01:00-05:00",)), replace(CALM, minute_of_day=None)
    assert objection(night, unset, training=False) == ""
    assert "clock was never set" in caveat(night, unset)
    assert caveat(night, CALM) == "" == caveat(Budget(), unset)


# ------------------------------------------------------------------------------------------------ for all figures


@pytest.mark.spec("16.1")
@settings(deadline=None)
@given(budget=BUDGETS, training=st.booleans(), resuming=st.booleans())
def test_what_cannot_be_measured_is_no_objection(budget: Budget, training: bool, resuming: bool) -> None:
    assert objection(budget, Reading(), training=training, resuming=resuming) == ""
    assert must_end(budget, Reading()) == "" == to_spare(budget, Reading(), already=resuming)


@pytest.mark.spec("16.1")
@settings(deadline=None)
@given(
    budget=BUDGETS,
    reading=READINGS,
    name=st.sampled_from([field.name for field in dataclasses.fields(Reading) if field.name != "on_power"]),
)
def test_a_sensor_that_goes_silent_is_never_the_reason(budget: Budget, reading: Reading, name: str) -> None:
    deaf = replace(reading, **{name: None})
    if not objection(budget, reading, training=False):
        assert objection(budget, deaf, training=False) == ""
    if not to_spare(budget, reading, already=True):
        assert to_spare(budget, deaf, already=True) == ""


@pytest.mark.spec("16.2")
@settings(deadline=None)
@given(budget=BUDGETS, reading=READINGS)
def test_what_may_start_may_go_on_and_what_may_resume_may_too(budget: Budget, reading: Reading) -> None:
    """Hysteresis has one direction: a round never starts on a reading that would pause it at once."""
    if objection(budget, reading, training=True):
        assert objection(budget, reading, training=False) != ""
        assert objection(budget, reading, training=True, resuming=True) != ""
    if to_spare(budget, reading, already=False):
        assert to_spare(budget, reading, already=True) != ""
    if must_end(budget, replace(reading, trainer_rss_mib=None)):
        assert objection(budget, reading, training=False) != ""


# Of each kind of limit: the reading that keeps it by the share `kept` of the margin.
_CLOSE = {
    "available_mib": lambda budget, kept: budget.min_available_mib * (1 + budget.margin * kept),
    "disk_free_mib": lambda budget, kept: budget.min_disk_free_mib * (1 + budget.margin * kept),
    "disk_free_inodes": lambda budget, kept: budget.min_free_inodes * (1 + budget.margin * kept),
    "battery_percent": lambda budget, kept: budget.min_battery_percent * (1 + budget.margin * kept),
    "temperature_c": lambda budget, kept: budget.max_temperature_c * (1 - budget.margin * kept),
    "written_today_mib": lambda budget, kept: budget.max_written_mib_a_day * (1 - budget.margin * kept),
}


@pytest.mark.spec("16.2")
@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(_CLOSE)),
    margin=amounts(0.05, 0.5),
    wobble=st.lists(amounts(0.01, 0.99), min_size=1, max_size=30),
)
def test_a_figure_that_wobbles_between_limit_and_margin_changes_nothing(
    name: str, margin: float, wobble: list[float]
) -> None:
    """Neither way: what trains goes on, what is paused stays paused."""
    budget = Budget(margin=margin, max_written_mib_a_day=500)
    for kept in wobble:
        reading = Reading(**{name: _CLOSE[name](budget, kept)})
        assert objection(budget, reading, training=True) == ""
        assert objection(budget, reading, training=True, resuming=True) != ""
        assert objection(budget, reading, training=False) != ""
    beyond = Reading(**{name: _CLOSE[name](budget, -0.1)})
    far = Reading(**{name: _CLOSE[name](budget, 1.1)})
    assert objection(budget, beyond, training=True) != "" == objection(budget, far, training=True, resuming=True)


@pytest.mark.spec("16.1")
@settings(deadline=None)
@given(budget=BUDGETS, reading=READINGS, training=st.booleans(), resuming=st.booleans(), more=amounts(0, 50))
def test_a_better_machine_is_never_objected_to_more(
    budget: Budget, reading: Reading, training: bool, resuming: bool, more: float
) -> None:
    def moved(value: float | None, by: float) -> float | None:
        return None if value is None else value + by

    better = replace(
        reading,
        cpu_percent=moved(reading.cpu_percent, -more),
        load_per_core=moved(reading.load_per_core, -more),
        available_mib=moved(reading.available_mib, more),
        own_rss_mib=moved(reading.own_rss_mib, -more),
        trainer_rss_mib=moved(reading.trainer_rss_mib, -more),
        temperature_c=moved(reading.temperature_c, -more),
        battery_percent=moved(reading.battery_percent, more),
        disk_free_mib=moved(reading.disk_free_mib, more),
        written_today_mib=moved(reading.written_today_mib, -more),
    )
    if not objection(budget, reading, training=training, resuming=resuming):
        assert objection(budget, better, training=training, resuming=resuming) == ""
    if not must_end(budget, reading):
        assert must_end(budget, better) == ""
    if not to_spare(budget, reading, already=resuming):
        assert to_spare(budget, better, already=resuming) == ""


@settings(deadline=None)
@given(budget=BUDGETS)
def test_a_full_battery_is_always_enough(budget: Budget) -> None:
    full = Reading(battery_percent=100.0, on_power=False)
    assert objection(replace(budget, require_power=False), full, training=False) == ""


@settings(deadline=None)
@given(limit=amounts(0, 150), beyond=amounts(0.01, 100))
def test_a_sentence_never_says_that_a_figure_is_above_itself(limit: float, beyond: float) -> None:
    said = objection(Budget(max_temperature_c=limit), Reading(temperature_c=limit + beyond), training=True)
    figure, _, shown = said.removeprefix("temperature ").partition(" is above ")
    assert figure != shown and figure.endswith(" °C") and shown.endswith(" °C")


# ------------------------------------------------------------------------------------------------ no news


@pytest.mark.spec("16.3")
def test_a_figure_that_moves_is_no_new_reason() -> None:
    hot = "paused: temperature 76 °C is above 75 °C"
    assert refreshed(hot, "paused: temperature 77.5 °C is above 75 °C") == hot
    assert refreshed(hot, "paused: battery 30 % is below 40 %") == "paused: battery 30 % is below 40 %"
    assert refreshed(hot, "not training: temperature 77 °C is above 75 °C").startswith("not")
    assert refreshed(hot, "") == "" and refreshed("", hot) == hot


@settings(deadline=None)
@given(a=READINGS, b=READINGS, budget=BUDGETS)
def test_what_is_kept_is_of_the_same_limit(a: Reading, b: Reading, budget: Budget) -> None:
    first, second = (objection(budget, reading, training=False) for reading in (a, b))
    assume(first and second)
    kept = refreshed(first, second)
    assert kept == second or (kept == first and first.split()[0] == second.split()[0])
