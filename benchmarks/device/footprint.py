"""Footprint: what the real daemon costs the device that it lives on.

The daemon is started as its unit starts it (`understudy agent run` with a configuration file), with an empty state
folder: it takes in its bundle, verifies it, makes its databases and connects to a real broker on the loopback
interface, without TLS; started again, it finds all that there. It serves a student of 0.51 M parameters (random: only
its size counts) in the form that `understudy teacher compress` makes. An image lies in its folder already. After its
verdict it is left alone for 60 s, then it is shown an image a second for 60 s, each a new PNG of 32 x 32. In turns with
it are started:

bare    Python alone
litert  numpy, LiteRT and the same model, no daemon around them: the floor
torch   the same model in torch in one process, without a daemon: what one that trains in itself would hold

`pss_mib`, `rss_mib`: from the kernel's smaps, the larger of idle and at work. In PSS a page that n processes share
counts 1/n, in RSS it counts whole. Here Python's own files and its packages' count whole in PSS, too, as they do where
no other Python program runs: otherwise the neighbours, and this benchmark, would make it smaller than it is.
`start_to_first_inference_s`: from exec to the line in the log of predictions, the median of the starts with an empty
state folder. Each contender is started once before that, so that all find their bytecode, as the installation leaves
it, and their files in the kernel's cache; `cpu_s` is what of it does not depend on what else the machine does. All of
them are Python without docstrings (PYTHONOPTIMIZE=2), as the unit has it.
`idle_cpu_pct`: user and system time in the idle minute, of one core.
`written_bytes_per_hour`: what the daemon caused to be sent to the disk in the idle minute (`write_bytes` of
/proc/PID/io: files, SQLite and its WAL, not the file system's own journal), times 60. The column `written` is the same
of each phase; `write_calls` counts the bytes given to write(2) and its like.

The rows `of it` say what the memory of the daemon at work is: `objects` are Python's and everybody's (the heap and what
else is in no file: bytecode, weights as XNNPACK packs them, buffers, stacks), the others are pages of files.

Some seconds after its start the daemon gives back what only the start needed: free memory, and pages of code. Those
stay in the kernel's cache, as reclaimable as before, and are mapped again where they are used. The rows show both
states: at the first verdict nothing has been given back yet.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.device.conditions import Conditions
from benchmarks.device.daemon import ROOT, Daemon, Scene, environment, scene
from benchmarks.device.findings import Findings

MIB = 1024 * 1024
PROBE_BYTES = 256 * 1024
PYTHONS_OWN = tuple(os.path.join(prefix, "") for prefix in (sys.prefix, sys.base_prefix))
TARGETS = {
    "pss_mib": 45,
    "idle_cpu_pct": 0.3,
    "start_to_first_inference_s": 1.5,
    "written_bytes_per_hour": 200_000,
}
CONTENDERS = {"bare": "bare Python", "litert": "numpy + LiteRT + model", "torch": "torch + model"}
KINDS = {
    "numpy": ("numpy", "openblas", "gfortran"),
    "LiteRT": ("litert", "LiteRt", "tflite_runtime"),
    "model": ("model.tflite",),
    "images": ("PIL/", "pillow"),
    "databases": ("sqlite", ".db-shm"),
    "signatures, TLS, bundles": ("nacl", "sodium", "cffi", "crypto", "libssl", "safetensors", "msgspec"),
    "Python": ("libpython", "lib-dynload", "bin/python"),
}
"""Of memory, by what is in the path of its file; the first that fits."""
OBJECTS, REST = "objects", "other libraries"
DAEMON, RESTARTED = "the daemon, first verdict", "the same, restarted"


@dataclass(frozen=True)
class Extent:
    """Starts of each contender; seconds of the idle phase; images of the working phase and seconds between them."""

    starts: int
    settle_s: float
    idle_s: float
    images: int
    every_s: float


FULL = Extent(starts=5, settle_s=15.0, idle_s=60.0, images=60, every_s=1.0)
QUICK = Extent(starts=1, settle_s=12.0, idle_s=8.0, images=8, every_s=0.5)


@dataclass(frozen=True)
class Reading:
    """Of one process at one moment. `cpu_s` and the bytes count from its start."""

    at_s: float
    pss_mib: float
    rss_mib: float
    cpu_s: float
    written: int
    write_calls: int


@dataclass(frozen=True)
class Start:
    seconds: float
    memory: Reading


def measure(conditions: Conditions, extent: Extent | None = None) -> Findings:
    extent = extent or (QUICK if conditions.quick else FULL)
    conditions.cache.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix="footprint.", dir=conditions.cache) as folder,
        scene(Path(folder), 1 + extent.images) as of,
    ):
        notes = [f"The broker was {of.broker.kind}."]
        conditions.note(f"starting each contender {extent.starts} times")
        starts = _starts(of, Path(folder), extent.starts, notes)
        phases = _life(of, Path(folder) / "life", extent, conditions)
        if not writes_are_counted(Path(folder)):
            notes.append("The kernel does not count what is written to this file system: give --cache on a disk.")
            phases = {
                name: phase | {"written": None} if "written" in phase else phase for name, phase in phases.items()
            }
    rows = [*(_start_row(name, each) for name, each in starts.items()), *phases.values()]
    return Findings("footprint", figures(starts, phases), rows, TARGETS, notes=notes)


def figures(starts: Mapping[str, list[Start]], phases: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """From the daemon's starts and its phases `idle` and `working`, as `phase_row` makes them."""
    idle, working = phases["idle"], phases["working"]
    written = idle["written"]
    return {
        "pss_mib": max(idle["pss_mib"], working["pss_mib"]),
        "rss_mib": max(idle["rss_mib"], working["rss_mib"]),
        "idle_cpu_pct": idle["cpu_pct"],
        "start_to_first_inference_s": statistics.median(start.seconds for start in starts[DAEMON]),
        "written_bytes_per_hour": None if written is None else 3600 * written / idle["seconds"],
    }


def phase_row(name: str, before: Reading, after: Reading) -> dict[str, Any]:
    """What the daemon held at the end of a phase and spent in it."""
    seconds = after.at_s - before.at_s
    return {
        "what": name,
        "pss_mib": after.pss_mib,
        "rss_mib": after.rss_mib,
        "seconds": seconds,
        "cpu_s": after.cpu_s - before.cpu_s,
        "cpu_pct": 100 * (after.cpu_s - before.cpu_s) / seconds,
        "written": after.written - before.written,
        "write_calls": after.write_calls - before.write_calls,
    }


def writes_are_counted(folder: Path) -> bool:
    """Whether the kernel counts writes to this file system as reaching a disk: to one in memory it does not."""
    before = psutil.Process().io_counters().write_bytes
    with (folder / "probe").open("wb") as file:
        file.write(os.urandom(PROBE_BYTES))
        os.fsync(file.fileno())
    return int(psutil.Process().io_counters().write_bytes) - int(before) >= PROBE_BYTES


def reading(pid: int) -> Reading:
    """Raises psutil.Error where there is no such process or it is somebody else's."""
    process = psutil.Process(pid)
    mappings, cpu, io = process.memory_maps(), process.cpu_times(), process.io_counters()
    return Reading(
        at_s=time.perf_counter(),
        pss_mib=sum(map(_share, mappings)) / MIB,
        rss_mib=sum(each.rss for each in mappings) / MIB,
        cpu_s=cpu.user + cpu.system,
        written=io.write_bytes,
        write_calls=io.write_chars,
    )


def kinds(mappings: Iterable[Any]) -> dict[str, float]:
    """MiB of PSS of each kind of memory, the largest first; `mappings` as psutil gives them."""
    found: Counter[str] = Counter()
    for each in mappings:
        known = (kind for kind, parts in KINDS.items() if any(part in each.path for part in parts))
        found[next(known, REST if each.path.startswith("/") else OBJECTS)] += _share(each)
    return {kind: size / MIB for kind, size in found.most_common()}


def _share(mapping: Any) -> int:
    return int(mapping.rss if mapping.path.startswith(PYTHONS_OWN) else mapping.pss)


def _starts(of: Scene, folder: Path, rounds: int, notes: list[str]) -> dict[str, list[Start]]:
    """Every contender started `rounds` times, in turns, and once before that does not count; those that cannot be are
    left out with a note."""
    found: dict[str, list[Start]] = {name: [] for name in (*CONTENDERS.values(), DAEMON, RESTARTED)}
    for number in range(1 + rounds):
        for key, name in CONTENDERS.items():
            if number and not found[name]:
                continue
            try:
                found[name].append(_start_contender(key, of.bundle))
            except ChildFailed as error:
                notes.append(f"Left out: {name} ({error}).")
        for verdicts, name in enumerate((DAEMON, RESTARTED)):
            found[name].append(_start_daemon(of, folder / f"start{number}", verdicts))
    return {name: starts[1:] for name, starts in found.items() if starts}


class ChildFailed(RuntimeError):
    """A contender ended before it had served; the text is the last line that it said."""


def _start_contender(key: str, bundle: Path) -> Start:
    command = [sys.executable, "-m", "benchmarks.device.contenders", key, str(bundle)]
    began_s = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        served, seconds = child.stdout.readline(), time.perf_counter() - began_s
        if not served:
            raise ChildFailed((child.stderr.read().strip().splitlines() or ["it said nothing"])[-1])
        return Start(seconds, reading(child.pid))


def _start_daemon(of: Scene, home: Path, verdicts: int) -> Start:
    """`verdicts` there are from former lives."""
    daemon = Daemon(home, of, of.images[verdicts])
    try:
        return Start(daemon.until_verdicts(verdicts + 1), reading(daemon.process.pid))
    finally:
        daemon.close()


def _life(of: Scene, home: Path, extent: Extent, conditions: Conditions) -> dict[str, dict[str, Any]]:
    """The phases `idle` and `working` of one daemon."""
    daemon = Daemon(home, of, of.images[0])
    try:
        daemon.until_verdicts(1)
        time.sleep(extent.settle_s)
        conditions.note(f"idle for {extent.idle_s:.0f} s")
        settled = reading(daemon.process.pid)
        time.sleep(extent.idle_s)
        idle = reading(daemon.process.pid)
        conditions.note(f"at work for {extent.images * extent.every_s:.0f} s")
        for image in of.images[1:]:
            daemon.show(image)
            time.sleep(extent.every_s)
        daemon.until_verdicts(1 + extent.images)
        worked = reading(daemon.process.pid)
        parts = kinds(psutil.Process(daemon.process.pid).memory_maps())
    finally:
        daemon.close()
    rate = f"{1 / extent.every_s:g} image/s"
    of_it: dict[str, dict[str, Any]] = {kind: {"what": f"of it {kind}", "pss_mib": mib} for kind, mib in parts.items()}
    return {
        "idle": phase_row("the daemon, idle", settled, idle),
        "working": phase_row(f"the daemon, {rate}", idle, worked),
        **of_it,
    }


def _start_row(name: str, starts: list[Start]) -> dict[str, Any]:
    return {
        "what": name,
        "pss_mib": statistics.median(start.memory.pss_mib for start in starts),
        "rss_mib": statistics.median(start.memory.rss_mib for start in starts),
        "seconds": statistics.median(start.seconds for start in starts),
        "cpu_s": statistics.median(start.memory.cpu_s for start in starts),
    }
