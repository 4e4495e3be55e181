"""The machine: which one it is, its clock, memory, sensors and disk."""

from __future__ import annotations

import errno
import shutil
import subprocess
import time
from pathlib import Path

from agent.adapters.resources import TERMUX_BATTERY
from agent.config import Budget
from agent.core.budget import objection
from agent.core.facts import Reading
from agent.doctor.finding import Finding, fails, limited, works
from agent.doctor.probe import ask
from agent.recognise import Recognised

BUILD_TIME_UTC = 1_735_689_600.0  # 2025-01-01: a clock before this was never set
TIMEDATECTL_TIMEOUT_S = 5.0
TORCH_MIB, HEAD_MIB = 400, 100  # the trainer's peaks on x86: 371 MiB with torch, 47 and its samples without
SLOW_WRITE_MS = 200.0


def examine_device(found: Recognised, chosen: str | None, *, configured: bool) -> Finding:
    """`chosen`: the profile that the configuration names."""
    detail = f"{found.device}; profile {found.profile} ({found.why})"
    if not configured or chosen == found.profile:
        return works("device", detail)
    now = f"the configuration uses {chosen!r}" if chosen else "the configuration uses none"
    return limited("device", detail, f"{now}: write `profile: {found.profile}` at its top, or keep what you chose")


def examine_clock() -> Finding:
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    if time.time() < BUILD_TIME_UTC:
        return limited(
            "clock", f"{now}: never set", "set it (NTP): expiries of orders, windows and certificates go by it"
        )
    synchronised = _synchronised()
    if synchronised is False:
        return limited("clock", f"{now}, not held by NTP", "timedatectl set-ntp true, or install systemd-timesyncd")
    return works("clock", f"{now}, held by NTP" if synchronised else f"{now}; whether NTP holds it is not known here")


def _synchronised() -> bool | None:
    """None where nobody can say."""
    command = shutil.which("timedatectl")
    if command is not None:
        asked = [command, "show", "--property=NTPSynchronized", "--value"]
        try:
            ran = subprocess.run(
                asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEDATECTL_TIMEOUT_S, check=True
            )
            return ran.stdout.strip() == b"yes"
        except (OSError, subprocess.SubprocessError):
            pass  # no systemd behind it, as in a container
    synchronised = ask("clock", timeout_s=10).said.get("synchronised")
    return synchronised if isinstance(synchronised, bool) else None


def examine_memory(reading: Reading) -> Finding:
    if reading.available_mib is None:
        return limited("memory", "cannot be read", "budget.min_available_mib has no effect here")
    detail = f"{reading.available_mib:.0f} MiB available"
    if reading.available_mib < HEAD_MIB:
        return limited("memory", detail, f"even the head tier needs about {HEAD_MIB}: end other programs, or add swap")
    if reading.available_mib < TORCH_MIB:
        return limited("memory", detail, f"training in torch needs about {TORCH_MIB}: set training.tier: head")
    return works("memory", detail)


def examine_sensors(reading: Reading, thermal: Path = Path("/sys/class/thermal")) -> Finding:
    """Missing ones are no fault, but whoever counts on them should know."""
    names = sorted({name for zone in thermal.glob("thermal_zone*/type") if (name := _line(zone))})
    zones = f" ({', '.join(names[:6])}{' ...' if len(names) > 6 else ''})" if names else ""
    heat = None if reading.temperature_c is None else f"{reading.temperature_c:.0f} °C{zones}"
    power = _power(reading)
    if power is None and shutil.which(TERMUX_BATTERY):
        advice = "install the app Termux:API beside the package termux-api, and open it once"
        return limited("sensors", f"{heat or 'no temperature'}; {TERMUX_BATTERY} does not answer", advice)
    if heat is None:
        advice = "budget.max_temperature_c has no effect here: see that it is cooled well enough for training"
        return limited("sensors", f"no temperature can be read; {power or 'no battery'}", advice)
    return works("sensors", f"{heat}; {power or 'no battery'}")


def _power(reading: Reading) -> str | None:
    if reading.battery_percent is None:
        return None
    charger = {True: ", on the charger", False: ", off the charger", None: ""}[reading.on_power]
    return f"battery {reading.battery_percent:.0f} %{charger}"


def examine_budget(budget: Budget, reading: Reading) -> Finding:
    why = objection(budget, reading, training=False)
    if why:
        return limited("budget", f"a round would wait now: {why}", "it begins by itself when that is over; see budget")
    return works("budget", "a round could begin now")


def examine_disk(folder: Path) -> Finding:
    """Where the state will be, or the nearest folder above that exists."""
    nearest = _nearest(folder)
    said = ask("disk", {"folder": str(nearest)}, timeout_s=30)
    if said.died:
        return fails("disk", f"{nearest}: {said.died}", "the disk does not answer: see dmesg, try another card")
    if "error" in said.said:
        advice = "choose a writable device.state_dir"
        if said.said.get("number") in (errno.EACCES, errno.EPERM):
            advice = f"run doctor as the daemon's user, or {advice}"
        elif said.said.get("number") == errno.ENOSPC:
            advice = "it is full: remove something, or choose another device.state_dir"
        return fails("disk", f"{nearest}: {said.said['error']}", advice)
    detail = f"{nearest}: {said.said['small_ms']:.1f} ms a durable write, {said.said['mb_per_s']:.0f} MB/s"
    if said.said["small_ms"] > SLOW_WRITE_MS:
        return limited("disk", detail, "a faster card (A1, A2) makes intake faster")
    return works("disk", detail)


def _nearest(folder: Path) -> Path:
    for path in (folder, *folder.parents):
        try:
            path.stat()
        except PermissionError:
            return path  # there it is, and the probe will say that it is not ours
        except OSError:
            continue
        return path
    return folder


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:40]
    except OSError:
        return ""
