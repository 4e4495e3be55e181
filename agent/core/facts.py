"""Plain numbers the core decides by. Adapters measure them, the core never looks for itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine at one instant; None where this machine cannot tell."""

    cpu_percent: float | None = None
    load1: float | None = None
    available_mib: float | None = None
    own_rss_mib: float | None = None
    temperature_c: float | None = None
    battery_percent: float | None = None
    on_power: bool | None = None
    disk_free_mib: float | None = None
    disk_free_inodes: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy (0..1) on held-out images of the old categories and of the new one, before and after a round.

    None where there is nothing to measure with.
    """

    old_before: float | None
    old_after: float | None
    new_before: float | None
    new_after: float | None
    old_count: int = 0
    new_count: int = 0


@dataclass(frozen=True, slots=True)
class LiveView:
    """What was served since the last promotion: the probation's evidence."""

    frames: int
    novel_frames: int
    mean_confidence: float
