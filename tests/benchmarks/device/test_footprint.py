"""What the daemon costs: the arithmetic on known numbers, and the whole of it with the real daemon for a moment."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.device import footprint
from benchmarks.device.conditions import Conditions
from benchmarks.device.footprint import (
    DAEMON,
    MIB,
    RESTARTED,
    Extent,
    Reading,
    Start,
    figures,
    kinds,
    phase_row,
    writes_are_counted,
)

SETTLED = Reading(at_s=100.0, pss_mib=40.0, rss_mib=44.0, cpu_s=1.0, written=5000, write_calls=7000)


def test_a_phase_is_the_difference_of_two_readings() -> None:
    after = Reading(at_s=160.0, pss_mib=41.0, rss_mib=43.0, cpu_s=1.03, written=6000, write_calls=7500)
    row = phase_row("idle", SETTLED, after)
    assert row["seconds"] == 60.0 and row["cpu_pct"] == pytest.approx(0.05)
    assert (row["written"], row["write_calls"]) == (1000, 500)
    assert (row["pss_mib"], row["rss_mib"]) == (41.0, 43.0)  # at its end


def test_the_figures_are_the_worse_of_both_phases_and_the_median_start() -> None:
    starts = {DAEMON: [Start(seconds, SETTLED) for seconds in (0.9, 0.7, 5.0)], "torch": [Start(9.0, SETTLED)]}
    idle = phase_row("", SETTLED, replace(SETTLED, at_s=160.0, pss_mib=39.0, rss_mib=46.0, cpu_s=1.06, written=6000))
    working = phase_row("", SETTLED, replace(SETTLED, at_s=130.0, cpu_s=9.0, written=10**6))
    assert figures(starts, {"idle": idle, "working": working}) == {
        "pss_mib": 40.0,
        "rss_mib": 46.0,
        "idle_cpu_pct": pytest.approx(0.1),
        "start_to_first_inference_s": 0.9,
        "written_bytes_per_hour": 60_000.0,
    }
    unknown = {"idle": idle | {"written": None}, "working": working}
    assert figures(starts, unknown)["written_bytes_per_hour"] is None


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no file system in memory at /dev/shm")
def test_in_memory_nothing_counts_as_written() -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(dir="/dev/shm") as folder:
        assert not writes_are_counted(Path(folder))


def test_memory_is_told_apart_by_its_files() -> None:
    class Mapping(NamedTuple):
        path: str
        pss: int
        rss: int = 9 * MIB

    ours = f"{sys.prefix}/lib/site-packages"
    found = kinds(
        [
            Mapping("[heap]", 5 * MIB),
            Mapping("[anon]", 2 * MIB),
            Mapping(f"{ours}/numpy/_core/x.so", 1 * MIB),
            Mapping("/elsewhere/libsqlite3.so.0", 3 * MIB),
            Mapping("/elsewhere/libpython3.11.so.1.0", 2 * MIB),
            Mapping("/elsewhere/libc.so.6", 1 * MIB),
        ]
    )
    # What is of a virtual environment counts whole.
    assert found == {"numpy": 9, "objects": 7, "databases": 3, "Python": 2, "other libraries": 1}


def test_the_real_daemon_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "CONTENDERS", {"bare": "bare Python", "unheard of": "another"})
    extent = Extent(starts=1, settle_s=0.1, idle_s=0.5, images=2, every_s=0.1)
    found = footprint.measure(Conditions(quick=True, cache=tmp_path / "cache"), extent)
    rows = {str(row["what"]): row for row in found.rows}
    of_it = [row for name, row in rows.items() if name.startswith("of it ")]
    processes = [name for name in rows if not name.startswith("of it ")]
    assert processes == ["bare Python", DAEMON, RESTARTED, "the daemon, idle", "the daemon, 10 image/s"]
    assert set(found.targets) < set(found.figures)
    memory = [float(rows[name]["pss_mib"]) for name in processes]
    assert sum(float(row["pss_mib"]) for row in of_it) == pytest.approx(memory[-1], rel=0.05)
    assert 2 < memory[0] < 20 < max(memory[1:]) < 100  # Python alone, the daemon
    assert 0 < float(rows["bare Python"]["seconds"]) < float(rows[DAEMON]["seconds"])
    assert rows["the daemon, 10 image/s"]["write_calls"] > 0  # each verdict is a line in its log
    assert any(note.startswith("Left out: another (KeyError") for note in found.notes)
    assert list((tmp_path / "cache").iterdir()) == []  # cleared away
