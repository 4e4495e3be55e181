"""Readings of this machine and of the trees and commands that other machines have."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.adapters import resources
from agent.adapters.resources import Machine, Resources
from agent.adapters.wear import Wear
from agent.core.facts import Reading


def zone(sys_: Path, number: int, text: str, name: str = "cpu-thermal") -> None:
    folder = sys_ / "class" / "thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "temp").write_text(text)
    (folder / "type").write_text(name + "\n")


@pytest.mark.spec("16.1")
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


@pytest.mark.spec("16.1")
def test_the_hottest_plausible_zone_counts(tmp_path: Path) -> None:
    for number, text in enumerate(["41500", "52000", "-273150", "999000", "broken", "0", "47000", ""]):
        zone(tmp_path, number, text + "\n")
    zone(tmp_path, 10, "100000\n", "PMIC-Die")  # a Jetson Nano's, which always says so
    assert Machine(tmp_path, sys=tmp_path).sample().temperature_c == 52.0


@pytest.mark.spec("16.1", "13.1")
def test_what_the_machine_does_not_tell_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Termux: psutil fails, there is no load average and no thermal zone."""

    def unavailable() -> object:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(resources, "_psutil", unavailable)
    monkeypatch.setattr(os, "getloadavg", unavailable)
    monkeypatch.setenv("PATH", str(tmp_path))
    reading = Machine(tmp_path / "gone", sys=tmp_path / "none", now_utc=lambda: 12.0).sample()
    assert reading.own_rss_mib is not None and reading.available_mib is not None  # /proc still tells
    expected = Reading(own_rss_mib=reading.own_rss_mib, available_mib=reading.available_mib)
    assert reading == expected
    mute = Machine(tmp_path / "gone", sys=tmp_path / "none", proc=tmp_path / "none", now_utc=lambda: 12.0)
    assert mute.sample() == Reading()


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
    source = Resources(lambda: Machine(tmp_path), 0.01, readings.put)
    source.start()
    for _ in range(3):
        assert readings.get(timeout=10).own_rss_mib is not None
    source.close()
    count = readings.qsize()
    assert not source._thread.is_alive() and readings.qsize() == count


def test_closing_what_was_never_started_is_fine(tmp_path: Path) -> None:
    Resources(lambda: Machine(tmp_path), 1.0, lambda reading: None).close()


# ------------------------------------------------------------------------------------------------ of other machines


@pytest.mark.spec("16.1")
def test_a_supply_below_sys_is_believed_before_psutil(tmp_path: Path) -> None:
    """psutil knows nothing of a UPS board whose battery is not named BAT0."""
    board = tmp_path / "class" / "power_supply" / "bq27441-0"
    board.mkdir(parents=True)
    for name, text in {"type": "Battery", "capacity": "37", "status": "Discharging"}.items():
        (board / name).write_text(text + "\n")
    reading = Machine(tmp_path, sys=tmp_path).sample()
    assert (reading.battery_percent, reading.on_power) == (37.0, False)


@pytest.mark.spec("11.1")
@pytest.mark.parametrize(("limit", "available_mib"), [("max", 2048.0), (str(300 * 2**20), 100.0)])
def test_memory_is_what_the_control_group_leaves_of_it(tmp_path: Path, limit: str, available_mib: float) -> None:
    proc, group = tmp_path / "proc", tmp_path / "cgroup" / "agent.service"
    (proc / "self").mkdir(parents=True)
    group.mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\n")
    (proc / "self" / "cgroup").write_text("0::/agent.service\n")
    (proc / "self" / "mountinfo").write_text(f"30 22 0:26 / {tmp_path}/cgroup rw - cgroup2 cgroup2 rw\n")
    (group / "memory.max").write_text(limit)
    (group / "memory.current").write_text(str(200 * 2**20))
    assert Machine(tmp_path, proc=proc).sample().available_mib == available_mib


@pytest.mark.spec("16.1")
def test_the_trainers_memory_and_what_both_have_written_are_read(tmp_path: Path) -> None:
    script = "data = b'x' * (30 << 20); print(1, flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    machine = Machine(tmp_path, trainer_pid=lambda: child.pid, wear=Wear(tmp_path / "written.json"))
    reading = machine.sample()
    assert reading.trainer_rss_mib is not None and 30 < reading.trainer_rss_mib < 200
    assert reading.written_today_mib is not None and reading.written_today_mib >= 0
    child.communicate(b"\n")
    machine.close()


@pytest.mark.spec("8.1", "8.2")
def test_the_minute_of_the_day_is_local_and_none_by_a_clock_never_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        at_noon_utc = 1_780_000_000 // 86_400 * 86_400 + 12 * 3600
        minutes = [
            Machine(tmp_path, now_utc=lambda now=now: now).sample().minute_of_day  # type: ignore[misc]
            for now in (at_noon_utc, at_noon_utc + 60, 0.0, 3600.0)
        ]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert minutes == [14 * 60, 14 * 60 + 1, None, None]
