"""Readings of this machine and of the trees and commands that other machines have."""

from __future__ import annotations

import os
import queue
import sys
from pathlib import Path

import pytest

from agent.adapters import resources
from agent.adapters.resources import Machine, Resources
from agent.core.facts import Reading


def zone(folder: Path, number: int, text: str) -> None:
    (folder / f"thermal_zone{number}").mkdir(parents=True)
    (folder / f"thermal_zone{number}" / "temp").write_text(text)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the figures every Linux has")
def test_a_reading_of_this_machine_is_plausible(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    sum(range(300_000))
    reading = machine.sample()
    assert reading.cpu_percent is not None and 0 <= reading.cpu_percent <= 100
    assert reading.load1 is not None and reading.load1 >= 0
    assert reading.available_mib is not None and reading.available_mib > 10
    assert reading.own_rss_mib is not None and 5 < reading.own_rss_mib < 10_000
    assert reading.disk_free_mib is not None and reading.disk_free_mib > 0
    assert reading.disk_free_inodes is None or reading.disk_free_inodes > 0


def test_own_memory_follows_what_is_allocated(tmp_path: Path) -> None:
    before = Machine(tmp_path).sample().own_rss_mib
    ballast = bytearray(os.urandom(64)) * (1024 * 1024)
    after = Machine(tmp_path).sample().own_rss_mib
    assert before is not None and after is not None and 50 < after - before < 90
    del ballast


def test_the_hottest_plausible_zone_counts(tmp_path: Path) -> None:
    zone(tmp_path, 0, "41500\n")
    zone(tmp_path, 1, "52000\n")
    zone(tmp_path, 2, "-273150\n")
    zone(tmp_path, 3, "999000\n")
    zone(tmp_path, 4, "broken\n")
    zone(tmp_path, 10, "47000\n")
    assert Machine(tmp_path, thermal=tmp_path).sample().temperature_c == 52.0


def test_what_the_machine_does_not_tell_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Termux: psutil fails, there is no load average and no thermal zone."""

    def unavailable() -> object:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(resources, "_psutil", unavailable)
    monkeypatch.setattr(os, "getloadavg", unavailable)
    monkeypatch.setenv("PATH", str(tmp_path))
    reading = Machine(tmp_path / "gone", thermal=tmp_path / "none").sample()
    assert reading.own_rss_mib is not None and reading.available_mib is not None  # /proc still tells
    expected = Reading(own_rss_mib=reading.own_rss_mib, available_mib=reading.available_mib)
    assert reading == expected


def termux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Machine:
    """A machine without psutil whose termux-battery-status is `script`; each call leaves a line in `calls`."""
    command = tmp_path / "bin" / "termux-battery-status"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\necho call >> {tmp_path}/calls\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")

    def unavailable() -> object:
        raise ImportError("psutil")

    monkeypatch.setattr(resources, "_psutil", unavailable)
    return Machine(tmp_path)


@pytest.mark.parametrize(("plugged", "on_power"), [("UNPLUGGED", False), ("PLUGGED_AC", True)])
def test_the_battery_of_a_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugged: str, on_power: bool) -> None:
    machine = termux(tmp_path, monkeypatch, f"""echo '{{"percentage": 73, "plugged": "{plugged}"}}'""")
    reading = machine.sample()
    assert (reading.battery_percent, reading.on_power) == (73.0, on_power)
    machine.sample()
    assert (tmp_path / "calls").read_text().count("call") == 1  # each call costs an Android activity


@pytest.mark.parametrize("script", ["sleep 30", "exit 1", "echo not json", "echo '{}'"])
def test_a_phone_that_does_not_answer_has_no_battery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(resources, "TERMUX_TIMEOUT_S", 0.3)
    reading = termux(tmp_path, monkeypatch, f"exec {script}" if script.startswith("sleep") else script).sample()
    assert (reading.battery_percent, reading.on_power) == (None, None)
    assert (tmp_path / "calls").exists()


def test_readings_are_reported_until_closed(tmp_path: Path) -> None:
    readings: queue.Queue[Reading] = queue.Queue()
    source = Resources(tmp_path, 0.01, readings.put)
    source.start()
    for _ in range(3):
        assert readings.get(timeout=10).own_rss_mib is not None
    source.close()
    count = readings.qsize()
    assert not source._thread.is_alive() and readings.qsize() == count


def test_closing_what_was_never_started_is_fine(tmp_path: Path) -> None:
    Resources(tmp_path, 1.0, lambda reading: None).close()
