"""The soak, short: the real daemon under everything; and what is made of its readings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.device import soak as module
from benchmarks.device.conditions import Conditions
from benchmarks.device.soak import Reading, findings, measure
from benchmarks.device.vitals import Vitals
from demo.broker import mosquitto_path


def readings(leak_mib: float, count: int = 80) -> list[Reading]:
    return [
        Reading(
            Vitals(60.0 * n, 60 + leak_mib * n, 40 + leak_mib * n, 30 + leak_mib * n, 20, 9, 5.0),
            Counter(frames=10 * n, rounds=n, swaps=2 * n, reconnects=n),
        )
        for n in range(count)
    ]


def test_flat_is_flat_and_a_leak_is_seen() -> None:
    flat, leaking = findings(readings(0.0), 80.0), findings(readings(0.1), 80.0)
    for name, target in flat.targets.items():
        assert flat.figures[name] <= target  # type: ignore[operator]
    over = {name for name, target in leaking.targets.items() if leaking.figures[name] > target}  # type: ignore[operator]
    assert over == {"rss_growth_mib", "anonymous_growth_mib", "rss_slope_mib_per_hour"}
    assert leaking.figures["rss_slope_mib_per_hour"] == pytest.approx(6.0)


def test_the_slope_of_minutes_is_told_and_not_judged() -> None:
    short = findings(readings(0.0, 10), 10.0)
    assert "rss_slope_mib_per_hour" in short.figures and "rss_slope_mib_per_hour" not in short.targets


def test_the_rows_are_a_dozen_stretches() -> None:
    found = findings(readings(0.0, 100), 100.0)
    assert len(found.rows) == module.STRETCHES and found.rows[-1]["rounds"] == 99
    assert found.figures["minutes"] == 100.0 and found.figures["rounds"] == 99


@pytest.mark.e2e
@pytest.mark.spec("18.4")
@pytest.mark.timeout(240)
def test_the_real_daemon_does_all_of_it_and_leaves_no_thread_or_descriptor(tmp_path: Path) -> None:
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto (amqtt takes too long to start anew)")
    said: list[str] = []
    found = measure(Conditions(quick=True, cache=tmp_path, minutes=0.3, note=said.append))
    figures = found.figures
    assert figures["rounds"] and figures["swaps"] == 2 * int(str(figures["rounds"])) and figures["reconnects"]
    # Between two rounds; while one is under way its trainer takes a few, and less than a minute has no flat middle.
    # The first stretch is still a start.
    for name, spare in (("threads", 0), ("fds", 1)):
        assert min(row[name] for row in found.rows[-3:]) <= min(row[name] for row in found.rows[1:4]) + spare
    assert figures["anonymous_growth_mib"] < 15  # type: ignore[operator]
