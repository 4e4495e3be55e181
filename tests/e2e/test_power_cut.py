"""The real daemon under load, killed at its commit points and at random, with what was not synced taken from it.

A handful of the thousand kills of `python -m benchmarks powercut`, which is what to run after a change to what is
written to the disk.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.device.conditions import Conditions
from benchmarks.device.powercut import measured
from demo.broker import Broker

KILLS = 8


@pytest.mark.e2e
@pytest.mark.timeout(240)
@pytest.mark.spec("4.1", "7.1", "7.2", "7.3")
def test_what_was_acknowledged_survives_power_cuts(mosquitto: Broker, tmp_path: Path) -> None:
    del mosquitto  # its fixture skips where there is none; each run has a broker of its own
    found = measured(tmp_path, KILLS, Conditions(quick=True, cache=tmp_path))
    figures = dict(found.figures)
    wrong = [note for note in found.notes if note.startswith("WRONG")]
    assert not wrong and figures["kills"] == KILLS
    assert [figures[name] for name in ("corrupt", "lost_acked", "no_active_model", "duplicated_effects")] == [0] * 4
    # It would prove nothing if nothing had happened.
    passed = {str(row["commit point"]): int(row["passed"]) for row in found.rows}
    assert passed["rename models/pointer.json"] >= 2 and passed["commit samples.db"] > 10
    assert passed["rename state.json"] > 5 and figures["cuts"] > 0
