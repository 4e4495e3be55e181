"""The page of a running daemon answers what people ask, on eighty columns, with and without colour."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agent.status_page import MOST_LABELS, render, summary

RUNNING: dict[str, Any] = {
    "device": "cam",
    "online": True,
    "phase": "training",
    "reason": "",
    "categories": ["lime"],
    "generation": 2,
    "previous": 1,
    "labels": ["amber", "teal"],
    "collected": 12,
    "wanted": 20,
    "privacy": "upload",
    "frames": 100,
    "novel_frames": 7,
    "dropped_frames": 0,
    "link": "5",
    "samples": 12,
    "outbox_messages": 3,
    "reading": {"cpu_percent": 12.3, "available_mib": 512.0, "temperature_c": None},
    "egress": {
        "operational": {"allowed_messages": 4, "allowed_bytes": 1500, "denied_messages": 0, "denied_bytes": 0},
        "image": {"allowed_messages": 0, "allowed_bytes": 0, "denied_messages": 0, "denied_bytes": 0},
    },
    "progress": {"stage": "train", "done": 3, "total": 12},
}


@pytest.mark.spec("18.3")
def test_a_running_daemon_in_lines() -> None:
    text = render(RUNNING, colour=False)
    for part in (
        "cam  running",
        "training 'lime'",
        "train 3 of 12",
        "12 of 20 samples",
        "generation 2, previous 1: amber, teal",
        "100 frames, 7 novel, 0 dropped",
        "3 messages wait",
        "CPU 12 %, 512 MiB free",
        "upload: operational 1.5 kB out, 0 denied",
    ):
        assert part in text
    assert "°C" not in text and "image" not in text and "because" not in text and "\033" not in text


@pytest.mark.spec("5.3", "6.1", "16.3")
def test_what_is_spared_and_why_it_does_not_train_is_shown() -> None:
    status = {
        **RUNNING,
        "reason": "not training: temperature 78 °C is above 68 °C",
        "reading": {"temperature_c": 78.0, "written_today_mib": 512.34, "load_per_core": 0.52},
        "sparing": "written in a day 512 MiB is above 500 MiB",
        "not_written": {"samples": 12, "predictions": 300},
    }
    text = render(status, colour=False)
    for part in (
        "not training: temperature 78 °C is above 68 °C",
        "512.3 MiB written in a day",
        "written in a day 512 MiB is above 500 MiB",
        "12 samples, 300 predictions",
    ):
        assert part in text
    assert "unwritten" not in render({**status, "not_written": {}}, colour=False)


def test_colour_only_adds_colour() -> None:
    coloured = render(RUNNING, colour=True)
    assert "\033[1mcam" in coloured
    assert re.sub(r"\033\[\d+m", "", coloured) == render(RUNNING, colour=False)


def test_what_has_not_left_is_said() -> None:
    assert "upload: nothing has left" in render({**RUNNING, "egress": {}}, colour=False)


IN_THE_FIELD: dict[str, Any] = {
    **RUNNING,
    "phase": "admitted",
    "reason": "not training: temperature 81 °C is above 68 °C; it goes on when the margin of the budget is kept again",
    "serving": True,
    "errors": 2,
    "waiting_triggers": [["tram"], ["boat", "ferry"]],
    "failures": 2,
    "rolling_back_to": None,
    "last_round": {"state": "FAILED", "categories": ["tram"], "detail": "the candidate did not pass the gate"},
    "model": {
        "name": "a student + lime",
        "digest": "e05d0f100c5204dcb43eda9f9c9b0707",
        "made_by": "trainer, tier transfer, job-000001",
        "from": "round",
        "learned": ["teal"],
        "at_utc": 86_400.0,
        "golden_right": 61,
        "golden": 64,
        "scores": {"old_before": 0.96, "old_after": 0.95, "new_before": 0.0, "new_after": 0.9},
    },
    "live": {"frames": 120, "novel_frames": 6, "mean_confidence": 0.912, "generation": 2},
    "noticed": {"images": 500, "novel": 61, "chance": 0.0001, "generation": 2},
    "probes_missed": 0,
    "probes": 64,
    "outbox_dropped": {"too_old": 0, "made_room": 3, "refused": 0},
    "sparing": "free disk 90 MiB is below 200 MiB",
    "not_written": {"samples": 4},
    "disk_refused": {"outbox": 1},
    "trainer_uncontained": "the control group cannot be written",
}


@pytest.mark.spec("18.3")
def test_the_four_questions_are_answered() -> None:
    text = re.sub(r"\s+", " ", render(IN_THE_FIELD, colour=False))
    for part in (
        "doing admitted 'lime'",  # what is it doing
        "because not training: temperature 81 °C is above 68 °C",  # why is it not training
        "waiting 'tram'; 'boat', 'ferry'",
        "last round FAILED 'tram' (the candidate did not pass the gate)",
        "failed 2 rounds in a row",
        "generation 2, previous 1: amber, teal",  # which model is it
        "from a round here that learned 'teal', since 1970-01-02 00:00 UTC; digest e05d0f100c52",
        "old categories 95.0% (before 96.0%); new categories 90.0%",  # how good is it
        "61 of 64 held-out images right",
        "live 120 frames: 5% novel, mean confidence 0.91",
        "noticed 61 of 500 images in a row look new; known ones alone do so in 1 of 10,000 such groups",
        "2 not classified",
        "3 were given up",
        "free disk 90 MiB is below 200 MiB: nothing but state and reports is written",
        "left out: 4 samples",
        "refused by the disk: 1 outbox",
    ):
        assert part in text, part
    assert "probes" not in text


@pytest.mark.parametrize("width", [20, 60, 80, 300])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = {**IN_THE_FIELD, "labels": [f"category number {n}" for n in range(500)]}
    lines = render(long, colour=False, width=width).splitlines()
    assert max(map(len, lines)) <= max(40, min(width, 100))
    assert f"and {500 - MOST_LABELS} more" in re.sub(r"\s+", " ", " ".join(lines))


def test_what_is_wrong_stands_out() -> None:
    assert "\033[31mrunning, but not serving" in render({**RUNNING, "serving": False}, colour=True)
    missed = render({**IN_THE_FIELD, "probes_missed": 5}, colour=True)
    assert "\033[31m5 of 64 answered otherwise" in missed
    assert "going back to 1" in render({**RUNNING, "rolling_back_to": 1}, colour=False)


def test_an_idle_daemon_says_that_nobody_asks() -> None:
    idle = {**RUNNING, "phase": "idle", "categories": [], "wanted": 0}
    assert "nobody has asked for a new category" in render(idle, colour=False)


def test_a_line_for_where_there_is_no_page() -> None:
    assert summary(IN_THE_FIELD).startswith("admitted 'lime' | not training: temperature 81 °C")
    assert summary(IN_THE_FIELD).endswith("| generation 2") and "\n" not in summary(IN_THE_FIELD)
    assert summary({"error": "no"}) == render({"error": "no"}, colour=True) == "the daemon cannot say: no"
