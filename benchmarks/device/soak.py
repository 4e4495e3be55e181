"""Soak: whether the real daemon stays flat under all that a device does, mixed, for hours.

Ten images a second; one round after the other, each from the trigger over the trainer's process (tier head) to the
swapped model; after each the operator goes back to the model from before, so that there is something to learn again;
every fourth time a round that is cancelled; after each another broker in place of the one before, to which the device
has to come back; a status request for every reading. Golden images are asked every two seconds, metrics are written.
Quotas are small, so that what may grow has grown after a few minutes. The student is a ResNet-20, int8.

`..._growth`: the median of the last quarter of the readings less that of the second; the first is not counted, for
there the daemon fills what it keeps. A leak grows with the work done: the rows show readings beside it. Targets are for
any length; that of the slope is for an hour and more, as in less it says little (1 MiB of noise in ten minutes are
6 MiB an hour).

rss_growth_mib     resident memory
anonymous_growth_mib  of that, what is in no file: where a leak would be
disk_growth_mib    all files of the state folder, 5 MiB of which are allowed: databases keep the pages they once had
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Findings, Row
from benchmarks.device.soak_load import Soaked
from benchmarks.device.vitals import Vitals, growth, slope_per_hour, vitals

MINUTES, QUICK_MINUTES = 60.0, 0.6
READINGS = 400
SHORTEST_S = 1.0
STRETCHES = 12
AN_HOUR = 60.0
TARGETS = {
    "rss_growth_mib": 3.0,
    "anonymous_growth_mib": 3.0,
    "fds_growth": 0.0,
    "threads_growth": 0.0,
    "disk_growth_mib": 5.0,
}
SLOPE_TARGET = 1.0


@dataclass(frozen=True)
class Reading:
    """The daemon at one moment, and what it had done by then."""

    vitals: Vitals
    done: Counter[str]


def measure(conditions: Conditions) -> Findings:
    minutes = conditions.minutes or (QUICK_MINUTES if conditions.quick else MINUTES)
    with TemporaryDirectory(prefix="benchmark-soak-") as folder, ExitStack() as stage:
        conditions.note("making the student and starting the daemon")
        device = Soaked(Path(folder), stage)
        return findings(soak(device, minutes, conditions.note), minutes)


def soak(device: Soaked, minutes: float, note: Callable[[str], None]) -> list[Reading]:
    """One cycle after the other, and a reading now and then, from another thread's point of view. Raises SoakError."""
    from concurrent.futures import ThreadPoolExecutor

    readings: list[Reading] = []
    began_s = time.monotonic()
    every_s = max(SHORTEST_S, 60 * minutes / READINGS)
    with ThreadPoolExecutor(1) as load:
        cycle = load.submit(device.cycle)
        while (passed_s := time.monotonic() - began_s) < 60 * minutes:
            if cycle.done():
                cycle.result()  # what it failed with, if it did
                note(f"minute {passed_s / 60:.1f} of {minutes:g}: {device.done['rounds']} rounds")
                cycle = load.submit(device.cycle)
            device.status()
            readings.append(Reading(vitals(device.pid, device.state, passed_s), Counter(device.done)))
            time.sleep(every_s)
        cycle.result()
    readings.append(Reading(vitals(device.pid, device.state, time.monotonic() - began_s), Counter(device.done)))
    return readings


def findings(readings: Sequence[Reading], minutes: float) -> Findings:
    seen = [reading.vitals for reading in readings]
    done = readings[-1].done
    times = [each.at_s for each in seen]
    rss = [each.rss_mib for each in seen]
    return Findings(
        "soak",
        {
            "minutes": minutes,
            **{what: done[what] for what in ("frames", "rounds", "swaps", "cancellations", "reconnects", "requests")},
            "rss_mib": rss[-1],
            "rss_growth_mib": growth(rss),
            "rss_slope_mib_per_hour": slope_per_hour(times, rss),
            "anonymous_growth_mib": growth([each.anonymous_mib for each in seen]),
            "fds_growth": growth([each.fds for each in seen]),
            "threads_growth": growth([each.threads for each in seen]),
            "disk_growth_mib": growth([each.disk_mib for each in seen]),
        },
        rows(readings),
        TARGETS | ({"rss_slope_mib_per_hour": SLOPE_TARGET} if minutes >= AN_HOUR else {}),
        notes=[f"{len(readings)} readings; a row is the median of a stretch of them."],
    )


def rows(readings: Sequence[Reading]) -> list[Row]:
    """The whole time in a dozen stretches."""
    size = max(1, -(-len(readings) // STRETCHES))
    stretches = [readings[start : start + size] for start in range(0, len(readings), size)]
    return [
        {
            "until_minute": stretch[-1].vitals.at_s / 60,
            **{what: stretch[-1].done[what] for what in ("frames", "rounds", "swaps", "reconnects")},
            **{
                name: statistics.median(asdict(reading.vitals)[name] for reading in stretch)
                for name in ("rss_mib", "pss_mib", "anonymous_mib", "fds", "threads", "disk_mib")
            },
        }
        for stretch in stretches
    ]
