"""Power cuts: the real daemon is killed a thousand times under load, and what it had acknowledged must be there.

Load: images, some in folders that name their category, triggers, half of them published more than once, whole rounds
in the head tier, promotions, local roll backs and cancellations, a broker. Three of four kills come at a commit point:
just before or after something is made durable (an fsync, a rename, a removal, a transaction), in the daemon and in its
trainer. The point that was aimed at least often comes next, and the life lasts until it is reached, 25 s at most.
Where only a leftover is removed, a life that leaves one comes before; what only a first start does is tried on devices
of their own. `commit_points_hit` says how many were killed at, of `commit_points`. The others come at random instants.

A SIGKILL leaves in the kernel's memory what was written but not synced, so nothing of that is lost. After every second
kill it is: names whose folder was not synced, contents that were not synced, see `benchmarks.device.unsynced`.

corrupt            a database, state file or model that the next start found damaged, or a start that failed
lost_acked         samples, orders, promotions that had been acknowledged and were gone; images that got no verdict
no_active_model    starts without a verified active model
duplicated_effects a trigger that had two rounds or two endings, an order that was carried out twice
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Findings, Row
from benchmarks.device.model import LABELS, bundle_of_half_a_million
from benchmarks.device.powercut_lane import Lane, together
from demo.broker import BrokerError, start_broker
from transfer import signing
from transfer.spec import resnet_cifar

KILLS, QUICK_KILLS = 1000, 10
LANES = 2
BIRTHS = 0.02
"""So many of the kills, if there are so many points, are of devices that have never lived before."""
EXPLORED_S = 25.0
SPEC = resnet_cifar(8, len(LABELS), widths=(4, 6, 8))
TARGETS = {"corrupt": 0.0, "lost_acked": 0.0, "no_active_model": 0.0, "duplicated_effects": 0.0}


class PowercutError(RuntimeError):
    """The benchmark itself has failed; the message says where."""


def measure(conditions: Conditions) -> Findings:
    kills = conditions.kills or (QUICK_KILLS if conditions.quick else KILLS)
    with tempfile.TemporaryDirectory(prefix="benchmark-powercut-") as folder:
        return measured(Path(folder), kills, conditions, lanes=1 if kills < LANES * QUICK_KILLS else LANES)


def measured(folder: Path, kills: int, conditions: Conditions, *, lanes: int = 1, seed: int = 0) -> Findings:
    """Kill `lanes` devices that live side by side `kills` times in all. Raises PowercutError."""
    key = signing.generate(folder / "key")
    bundle_of_half_a_million(folder / "bundle", "none", key=key, spec=SPEC)
    try:
        broker = start_broker(folder / "broker", options=("user root",) if os.geteuid() == 0 else ())
    except BrokerError as error:
        raise PowercutError(f"the broker: {error}") from None
    began_s = time.monotonic()
    devices: list[Lane] = []
    numbers = itertools.count()

    def newborn() -> Lane:
        number = next(numbers)
        home = folder / f"lane-{number}"
        home.mkdir()
        device = Lane(home, number, folder / "bundle", folder / "key", broker.port, seed=seed * 1000 + number)
        devices.append(device)
        return device

    try:
        for _ in range(lanes):
            newborn()
        _run(devices, kills, conditions, newborn)
    finally:
        for device in devices:
            device.close()
        broker.stop()
    return findings(devices, time.monotonic() - began_s)


def _run(devices: Sequence[Lane], kills: int, conditions: Conditions, newborn: Callable[[], Lane]) -> None:
    """All lanes at once, a thread each. `newborn` adds to `devices`."""
    lanes = tuple(devices)
    shares = [kills // len(lanes) + (n < kills % len(lanes)) for n in range(len(lanes))]
    errors: list[BaseException] = []

    def lead(device: Lane, share: int) -> None:
        try:
            device.explore(EXPLORED_S)
            births = round(BIRTHS * share)
            for number in range(share - births):
                if number % 25 == 0 and not errors:
                    _tell(conditions, devices, kills)
                device.live_and_die()
            device.rest()
            # Not the same ones in every lane.
            labels = device.only_at_birth()[lanes.index(device) :: len(lanes)]
            for number in range(births):
                child = newborn()
                child.live_and_die(labels[number % len(labels)] if labels else "")
                child.rest()
                child.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=lead, args=pair, daemon=True) for pair in zip(lanes, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise PowercutError(f"{type(errors[0]).__name__}: {errors[0]}") from errors[0]


def _tell(conditions: Conditions, devices: Sequence[Lane], kills: int) -> None:
    tally = together(devices)
    broken = sum(len(device.promises.broken) for device in devices)
    conditions.note(f"kill {tally.kills} of {kills}: {len(tally.corrupt)} corrupt, {broken} promises broken")


def findings(devices: Sequence[Lane], seconds: float) -> Findings:
    tally = together(devices)
    broken = [line for device in devices for line in device.promises.broken]
    repeated = [line for device in devices for line in device.promises.repeated]
    heard = {
        name: sum(device.promises.heard[name] for device in devices)
        for name in ("SUCCEEDED", "FAILED", "CANCELED", "promoted", "rolled_back")
    }
    done = ", ".join(f"{count} {name.lower().replace('_', ' ')}" for name, count in heard.items())
    shown = sum(len(device.promises.shown) for device in devices)
    samples = sum(len(device.promises.samples) for device in devices)
    rows: list[Row] = [
        {"commit point": label, "passed": tally.passed[label], "killed at": tally.hits[label]}
        for label in sorted(tally.passed)
    ]
    lost = ", ".join(f"{count} {name}" for name, count in tally.lost.most_common())
    wrong = [*tally.corrupt, *tally.no_active_model, *broken, *repeated]
    return Findings(
        benchmark="powercut",
        figures={
            "kills": tally.kills,
            "corrupt": len(tally.corrupt),
            "lost_acked": len(broken),
            "no_active_model": len(tally.no_active_model),
            "duplicated_effects": len(repeated),
            "seconds": seconds,
            "cuts": tally.cuts,
            "starts": tally.starts,
            "commit_points": len(rows),
            "commit_points_hit": sum(tally.hits[str(row["commit point"])] > 0 for row in rows),
        },
        rows=rows,
        targets=TARGETS,
        notes=(
            f"In between: {shown} images, {samples} samples that had to stay; rounds and swaps: {done}.",
            f"After {tally.cuts} of the kills what was not synced was lost: {lost or 'nothing was unsynced'}.",
            *(f"WRONG: {line}" for line in wrong[:20]),
        ),
    )
