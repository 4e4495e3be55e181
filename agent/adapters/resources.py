"""What the machine has to spare. Every figure is None where this machine cannot tell: phones hide much of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent.core.facts import Reading

T = TypeVar("T")

MIB = 1024 * 1024
TERMUX_BATTERY = "termux-battery-status"
TERMUX_TIMEOUT_S = 3.0  # it is known to hang when the Termux:API app sleeps
TERMUX_EVERY_S = 60.0  # each call starts an Android activity
PLAUSIBLE_C = (-40.0, 150.0)  # sensors without a driver report 0 K and worse


class Machine:
    """Takes readings. `state_dir` names the file system whose free space counts."""

    def __init__(self, state_dir: Path, *, thermal: Path = Path("/sys/class/thermal")) -> None:
        self._state_dir = state_dir
        self._thermal = thermal
        self._termux: tuple[float | None, bool | None] = (None, None)
        self._termux_due_at = 0.0
        _or_none(lambda: _psutil().cpu_percent())  # the first call only sets the mark that later ones measure from

    def sample(self) -> Reading:
        """A reading now; `cpu_percent` is the mean since the last one."""
        battery_percent, on_power = self._battery()
        disk_free_mib, disk_free_inodes = self._disk()
        return Reading(
            cpu_percent=_or_none(lambda: float(_psutil().cpu_percent())),
            load1=_or_none(lambda: os.getloadavg()[0]),
            available_mib=_or_none(_available_mib),
            own_rss_mib=_or_none(_own_rss_mib),
            temperature_c=self._temperature_c(),
            battery_percent=battery_percent,
            on_power=on_power,
            disk_free_mib=disk_free_mib,
            disk_free_inodes=disk_free_inodes,
        )

    def _temperature_c(self) -> float | None:
        zones = [_or_none(partial(_zone_c, zone)) for zone in self._thermal.glob("thermal_zone*/temp")]
        found = [c for c in zones if c is not None and PLAUSIBLE_C[0] < c < PLAUSIBLE_C[1]]
        return max(found or (_or_none(lambda: list(_sensors_c())) or []), default=None)

    def _battery(self) -> tuple[float | None, bool | None]:
        battery: Any = _or_none(lambda: _psutil().sensors_battery())
        if battery is not None:
            return float(battery.percent), None if battery.power_plugged is None else bool(battery.power_plugged)
        command = shutil.which(TERMUX_BATTERY)
        if command is not None and time.monotonic() >= self._termux_due_at:
            self._termux = _or_none(lambda: _termux_battery(command)) or (None, None)
            self._termux_due_at = time.monotonic() + TERMUX_EVERY_S
        return self._termux

    def _disk(self) -> tuple[float | None, int | None]:
        status = _or_none(lambda: os.statvfs(self._state_dir))
        if status is None:
            return None, None
        # Some file systems (btrfs) have no fixed number of inodes and report none at all.
        return status.f_bavail * status.f_frsize / MIB, status.f_favail if status.f_files else None


class Resources:
    """Reports a reading every `every_s` from a thread of its own."""

    def __init__(
        self, state_dir: Path, every_s: float, report: Callable[[Reading], None], *, machine: Machine | None = None
    ) -> None:
        self._state_dir, self._machine = state_dir, machine
        self._every_s = every_s
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resources", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        wait_s = min(1.0, self._every_s)
        if self._stop.wait(wait_s):  # what a machine imports is not to hold up the start
            return
        machine = self._machine or Machine(self._state_dir)
        # The first reading soon, but over a time in which CPU use means something.
        while not self._stop.wait(wait_s):
            self._report(machine.sample())
            wait_s = self._every_s


def _psutil() -> Any:
    import psutil

    return psutil


def _or_none(measure: Callable[[], T]) -> T | None:
    # Exception, on purpose: psutil raises NotImplementedError, AttributeError, PermissionError, ImportError and its
    # own, by platform; a figure that cannot be had must never stop the service.
    with contextlib.suppress(Exception):
        return measure()
    return None


def _available_mib() -> float:
    with contextlib.suppress(Exception):
        return float(_psutil().virtual_memory().available) / MIB
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) / 1024


def _own_rss_mib() -> float:
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return resident_pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _zone_c(zone: Path) -> float:
    return int(zone.read_text()) / 1000


def _sensors_c() -> Iterator[float]:
    for sensors in _psutil().sensors_temperatures().values():
        for sensor in sensors:
            if sensor.current is not None and PLAUSIBLE_C[0] < sensor.current < PLAUSIBLE_C[1]:
                yield float(sensor.current)


def _termux_battery(command: str) -> tuple[float | None, bool | None]:
    answer = subprocess.run(
        [command], stdin=subprocess.DEVNULL, capture_output=True, timeout=TERMUX_TIMEOUT_S, check=True
    )
    status = json.loads(answer.stdout)
    return float(status["percentage"]), str(status["plugged"]) != "UNPLUGGED"
