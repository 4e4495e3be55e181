"""Trouble with the disk is said when it begins and when it is over, not in between."""

from __future__ import annotations

from typing import Any

import structlog
from structlog.testing import LogCapture

from agent.adapters.disk_trouble import QUIET_S, DiskTrouble, Trouble


class Scene:
    """Two stores on a disk, and what was said of them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.found: dict[str, Trouble] = {"samples": (0, ""), "outbox": (0, "")}
        self.capture = LogCapture()
        log: Any = structlog.wrap_logger(None, processors=[self.capture])
        parts = {part: (lambda part=part: self.found[part]) for part in self.found}
        self.disk = DiskTrouble(parts, log, lambda: self.now)

    def look(self, seconds: float = 1.0, **found: Trouble) -> list[str]:
        """What was said meanwhile."""
        before = len(self.capture.entries)
        self.now += seconds
        self.found.update(found)
        self.disk.look()
        return [f"{entry['event']} {entry['which']}" for entry in self.capture.entries[before:]]


def test_a_disk_without_trouble_says_nothing() -> None:
    assert Scene().look() == []


def test_it_is_said_once_however_often_it_fails() -> None:
    scene = Scene()
    assert scene.look(samples=(3, "full")) == ["disk_refuses samples"]
    assert [line for n in range(100) for line in scene.look(samples=(4 + n, "full"))] == []
    assert scene.disk.refused() == {"samples": 103}


def test_parts_are_told_apart() -> None:
    scene = Scene()
    scene.look(samples=(1, "full"))
    assert scene.look(outbox=(1, "full")) == ["disk_refuses outbox"]


def test_it_is_over_when_something_was_written_and_nothing_failed_for_a_while() -> None:
    scene = Scene()
    scene.look(samples=(1, "full"))
    assert scene.look(2 * QUIET_S) == [], "nothing was written yet"
    assert scene.look(samples=(1, "")) == ["disk_takes_again samples"]
    assert scene.look(samples=(2, "full")) == ["disk_refuses samples"]


def test_one_that_fails_now_and_then_is_not_called_well_each_time() -> None:
    scene = Scene()
    scene.look(samples=(1, "full"))
    said = [
        line for n in range(1, 50) for line in (*scene.look(samples=(n, "")), *scene.look(samples=(n + 1, "error")))
    ]
    assert said == []
