"""Which stage ends with which message, and how long each lasted. The whole loop runs in test_round."""

from __future__ import annotations

import pytest

from benchmarks.device.loop import STAGES, durations, stage_ended
from transfer import wire

SAID = {"device": "edge-1", "session": 1, "at_utc": 1.0}


def event(kind: str, **detail: str | int) -> wire.Event:
    return wire.Event(**SAID, seq=1, kind=kind, detail=detail)


def status(phase: str) -> wire.Status:
    return wire.Status(**SAID, online=True, phase=phase)


ROUND = [
    status("awaiting_teacher"),
    event("job_prepared", samples=20),
    status("admitted"),
    status("training"),
    event("progress", stage="prefix", done=0, total=2),
    event("progress", stage="prefix", done=2, total=2),
    event("progress", stage="train", done=0, total=4),
    event("progress", stage="train", done=4, total=4),
    event("progress", stage="write", done=0, total=1),
    status("verifying"),
    event("judged"),
    event("swapped", generation=2),
    event("promoted"),
]


def test_a_round_passes_through_all_stages_in_order() -> None:
    ended = list(dict.fromkeys(name for name in map(stage_ended, ROUND) if name is not None))
    assert tuple(ended) == STAGES
    assert stage_ended(wire.JobUpdate(**SAID, trigger_id="t", categories=("nine",), state="QUEUED")) is None


def test_the_head_has_nothing_to_load_but_itself() -> None:
    assert stage_ended(event("progress", stage="head", done=0, total=1)) == "load"


def test_stages_follow_each_other_and_lose_no_time() -> None:
    lasted = durations(10.0, {"prepare": 10.5, "admit": 12.0, "load": 11.9, "train": 15.0, "swap": 16.0})
    assert lasted == pytest.approx({"prepare": 0.5, "admit": 1.5, "load": 0.0, "train": 3.0, "swap": 1.0})
    assert sum(lasted.values()) == pytest.approx(6.0)
