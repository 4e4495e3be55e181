"""What the machine has to spare. Every figure is None where this machine cannot tell: phones hide much of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent.adapters.cgroup import headroom_mib
from agent.adapters.power_supply import Power, read_power
from agent.adapters.wear import Wear
from agent.core.facts import Reading

T = TypeVar("T")

MIB = 1024 * 1024
TERMUX_BATTERY = "termux-battery-status"
TERMUX_TIMEOUT_S = 3.0  # it is known to hang when the Termux:API app sleeps
TERMUX_EVERY_S = 60.0  # each call starts an Android activity
PLAUSIBLE_C = (0.0, 150.0)  # a dead sensor reports 0, one without a driver 0 K and worse
FICTIONAL_ZONES = ("PMIC-Die",)  # the Jetson Nano's says 100 °C whatever the weather
CLOCK_SET_UTC = 1_735_689_600.0  # 2025-01-01: a clock before this was never set


class Machine:
    """Takes readings. `state_dir` names the file system whose free space counts, `sys` and `proc` the kernel's trees,
    `trainer_pid` the trainer, if one runs."""

    def __init__(
        self,
        state_dir: Path,
        *,
        sys: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        trainer_pid: Callable[[], int | None] = lambda: None,
        wear: Wear | None = None,
        now_utc: Callable[[], float] = time.time,
    ) -> None:
        self._state_dir, self._sys, self._proc = state_dir, sys, proc
        self._trainer_pid, self._wear, self._now_utc = trainer_pid, wear, now_utc
        self._termux = Power(None, None)
        self._termux_due_at = 0.0
        _or_none(lambda: _psutil().cpu_percent())  # the first call only sets the mark that later ones measure from

    def sample(self) -> Reading:
        """A reading now; `cpu_percent` is the mean since the last one."""
        power = self._power()
        disk_free_mib, disk_free_inodes = self._disk()
        load1, pid, wear = _or_none(lambda: os.getloadavg()[0]), self._trainer_pid(), self._wear
        return Reading(
            cpu_percent=_or_none(lambda: float(_psutil().cpu_percent())),
            load1=load1,
            load_per_core=None if load1 is None else load1 / (os.cpu_count() or 1),
            available_mib=self._available_mib(),
            own_rss_mib=_or_none(lambda: _rss_mib(self._proc / "self")),
            temperature_c=self._temperature_c(),
            battery_percent=power.battery_percent,
            on_power=power.on_power,
            disk_free_mib=disk_free_mib,
            disk_free_inodes=disk_free_inodes,
            trainer_rss_mib=None if pid is None else _or_none(lambda: _rss_mib(self._proc / str(pid))),
            written_today_mib=None if wear is None else _or_none(lambda: wear.measure(pid)),
            minute_of_day=self._minute_of_day(),
        )

    def close(self) -> None:
        if self._wear is not None:
            self._wear.save()

    def _available_mib(self) -> float | None:
        """Of the machine's memory, no more than its control groups let the daemon have."""
        in_all = _or_none(partial(_available_mib, self._proc))
        if in_all is None:
            in_all = _or_none(lambda: float(_psutil().virtual_memory().available) / MIB)
        known = [in_all, _or_none(partial(headroom_mib, self._proc))]
        return min((mib for mib in known if mib is not None), default=None)

    def _temperature_c(self) -> float | None:
        zones = [_or_none(partial(_zone_c, zone)) for zone in (self._sys / "class/thermal").glob("thermal_zone*/temp")]
        found = [c for c in zones if c is not None and _plausible(c)]
        return max(found or (_or_none(lambda: list(_sensors_c())) or []), default=None)

    def _power(self) -> Power:
        power = _or_none(lambda: read_power(self._sys / "class/power_supply"))
        if power is not None and power != Power(None, None):
            return power
        battery: Any = _or_none(lambda: _psutil().sensors_battery())
        if battery is not None and 0 <= battery.percent <= 100:
            plugged = battery.power_plugged
            return Power(float(battery.percent), None if plugged is None else bool(plugged))
        command = shutil.which(TERMUX_BATTERY)
        if command is not None and time.monotonic() >= self._termux_due_at:
            self._termux = _or_none(lambda: _termux_battery(command)) or Power(None, None)
            self._termux_due_at = time.monotonic() + TERMUX_EVERY_S
        return self._termux

    def _disk(self) -> tuple[float | None, int | None]:
        status = _or_none(lambda: os.statvfs(self._state_dir))
        if status is None:
            return None, None
        # Some file systems (btrfs) have no fixed number of inodes and report none at all.
        return status.f_bavail * status.f_frsize / MIB, status.f_favail if status.f_files else None

    def _minute_of_day(self) -> int | None:
        now_utc = self._now_utc()
        if now_utc < CLOCK_SET_UTC:
            return None
        local = time.localtime(now_utc)
        return 60 * local.tm_hour + local.tm_min


class Resources:
    """Reports a reading of the machine that `make` gives every `every_s`, from a thread of its own."""

    def __init__(self, make: Callable[[], Machine], every_s: float, report: Callable[[Reading], None]) -> None:
        self._make = make
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
        machine = self._make()
        # The first reading soon, but over a time in which CPU use means something.
        while not self._stop.wait(wait_s):
            self._report(machine.sample())
            wait_s = self._every_s
        machine.close()


def _psutil() -> Any:
    import psutil

    return psutil


def _or_none(measure: Callable[[], T]) -> T | None:
    # Exception, on purpose: psutil raises NotImplementedError, AttributeError, PermissionError, ImportError and its
    # own, by platform; a figure that cannot be had must never stop the service.
    with contextlib.suppress(Exception):
        return measure()
    return None


def _available_mib(proc: Path) -> float:
    fields = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) / 1024


def _rss_mib(process: Path) -> float:
    resident_pages = int((process / "statm").read_text().split()[1])
    return resident_pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _plausible(celsius: float) -> bool:
    return PLAUSIBLE_C[0] < celsius < PLAUSIBLE_C[1]


def _zone_c(zone: Path) -> float | None:
    name = _or_none((zone.parent / "type").read_text) or ""
    return None if name.strip() in FICTIONAL_ZONES else int(zone.read_text()) / 1000


def _sensors_c() -> Iterator[float]:
    for sensors in _psutil().sensors_temperatures().values():
        for sensor in sensors:
            if sensor.current is not None and _plausible(sensor.current):
                yield float(sensor.current)


def _termux_battery(command: str) -> Power:
    with subprocess.Popen(
        [command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as asked:
        try:
            answer, _ = asked.communicate(timeout=TERMUX_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # It is a script whose child hangs: left behind, each would be one more of the 32 that Android allows.
            os.killpg(asked.pid, signal.SIGKILL)
            raise
    status = json.loads(answer)
    percent = float(status["percentage"])
    return Power(percent if 0 <= percent <= 100 else None, str(status["plugged"]) != "UNPLUGGED")
