"""The budgets: may a round train on this machine now, must it end, is the card to be spared. All pure.

Every objection is a sentence with the figure and the limit. What this machine cannot measure is no objection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.config import Budget, parse_window
from agent.core.facts import Reading

LONGEST_PAUSE_S = 300.0
"""A paused trainer holds its memory. After so long it is ended with a checkpoint and begun again when it may train."""


def objection(budget: Budget, reading: Reading, *, training: bool, resuming: bool = False) -> str:
    """Why a round may not train now; '' if it may.

    `training`: a trainer runs (or is stopped in memory), so the processor it uses is no reason against it. Hysteresis:
    a round that is not running (or is paused: `resuming`) must keep each limit by `budget.margin`; a running one only
    has to keep the limit itself.
    """
    slack = budget.margin if resuming or not training else 0.0
    return next(filter(None, _objections(budget, reading, slack, training=training)), "")


def must_end(budget: Budget, reading: Reading) -> str:
    """Why a trainer must end, because pausing it would give nothing back: its memory. '' if it need not."""
    held = reading.trainer_rss_mib
    together = None if held is None else held + (reading.own_rss_mib or 0.0)
    return _below("available memory", reading.available_mib, budget.min_available_mib, "MiB", 0.0) or (
        _above("memory of daemon and trainer", together, budget.max_rss_mib, "MiB", 0.0) if budget.max_rss_mib else ""
    )


def to_spare(budget: Budget, reading: Reading, *, already: bool) -> str:
    """Why nothing but state and reports is to be written; '' if all may be. `already`: it was so until now, and each
    limit must be kept by `budget.margin` for that to end."""
    return next(filter(None, _of_the_disk(budget, reading, budget.margin if already else 0.0)), "")


def caveat(budget: Budget, reading: Reading) -> str:
    """What a round that may train goes without, to be said with its reason; '' for nothing."""
    if budget.windows and reading.minute_of_day is None:
        return " (the clock was never set: budget.windows cannot be kept)"
    return ""


def refreshed(before: str, after: str) -> str:
    """`after`, unless only its figures are others than in `before`: each new reason is a line in the log and a message,
    and a figure that moves is no news."""
    return before if _without_figures(before) == _without_figures(after) else after


def _without_figures(text: str) -> str:
    return re.sub(r"-?\d+(\.\d+)?", "", text)


def _objections(budget: Budget, reading: Reading, slack: float, *, training: bool) -> Iterator[str]:
    if budget.require_power and reading.on_power is False:
        yield "on battery, and the budget requires the charger"
    yield _below("available memory", reading.available_mib, budget.min_available_mib, "MiB", slack)
    yield from _of_the_disk(budget, reading, slack)
    battery_percent = None if reading.on_power else reading.battery_percent
    yield _below("battery", battery_percent, budget.min_battery_percent, "%", slack)
    yield _above("temperature", reading.temperature_c, budget.max_temperature_c, "°C", slack)
    if not training:  # while one trains these figures are its own, and the daemon's memory is counted with its
        yield _above("CPU", reading.cpu_percent, budget.max_cpu_percent, "%", 0.0)
        yield _above("load per core", reading.load_per_core, budget.max_load_per_core, "", 0.0)
        if budget.max_rss_mib:
            yield _above("memory of the daemon", reading.own_rss_mib, budget.max_rss_mib, "MiB", slack)
    yield _outside(budget.windows, reading.minute_of_day)


def _of_the_disk(budget: Budget, reading: Reading, slack: float) -> Iterator[str]:
    yield _below("free disk", reading.disk_free_mib, budget.min_disk_free_mib, "MiB", slack)
    yield _below("free inodes", reading.disk_free_inodes, budget.min_free_inodes, "", slack)
    if budget.max_written_mib_a_day:
        yield _above("written in a day", reading.written_today_mib, budget.max_written_mib_a_day, "MiB", slack)


def _below(name: str, value: float | None, floor: float, unit: str, slack: float) -> str:
    # A battery is never more than full: a floor of 95 % must not become one of 104 %.
    limit = min(floor * (1 + slack), 100.0) if unit == "%" else floor * (1 + slack)
    return _sentence(name, value, "is below", limit, unit) if value is not None and value < limit else ""


def _above(name: str, value: float | None, ceiling: float, unit: str, slack: float) -> str:
    limit = ceiling * (1 - slack)
    return _sentence(name, value, "is above", limit, unit) if value is not None and value > limit else ""


def _sentence(name: str, value: float, relation: str, limit: float, unit: str) -> str:
    digits = next((d for d in (0, 1, 2) if f"{value:.{d}f}" != f"{limit:.{d}f}"), 3)
    space = " " if unit else ""
    return f"{name} {value:.{digits}f}{space}{unit} {relation} {limit:.{digits}f}{space}{unit}"


def _outside(windows: tuple[str, ...], minute: int | None) -> str:
    if minute is None or not windows:
        return ""
    if any(_is_within(window, minute) for window in windows):
        return ""
    return f"it is {minute // 60:02d}:{minute % 60:02d}, and training is for {', '.join(windows)}"


def _is_within(window: str, minute: int) -> bool:
    span = parse_window(window)
    if span is None:  # config.contradictions refuses it before anybody comes here
        return False
    opens, closes = span
    return opens <= minute < closes if opens < closes else minute >= opens or minute < closes
