"""Plain numbers the core decides by. Adapters measure them, the core never looks for itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine at one instant; None where this machine cannot tell."""

    cpu_percent: float | None = None
    load1: float | None = None
    load_per_core: float | None = None
    available_mib: float | None = None
    own_rss_mib: float | None = None
    temperature_c: float | None = None
    battery_percent: float | None = None
    on_power: bool | None = None
    disk_free_mib: float | None = None
    disk_free_inodes: int | None = None
    trainer_rss_mib: float | None = None
    written_today_mib: float | None = None
    """By daemon and trainers to the disk, in the last 24 hours."""
    minute_of_day: int | None = None
    """Local time; None where the clock has obviously never been set."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy (0..1) on held-out images of the old categories and of the new ones, before and after a round.

    None where there is nothing to measure with. `hardest_hit` is the old category that lost most, with its accuracy on
    its `hardest_count` images; "" where none lost anything. `weakest` is the new category that is known least.
    """

    old_before: float | None
    old_after: float | None
    new_before: float | None
    new_after: float | None
    old_count: int = 0
    new_count: int = 0
    hardest_hit: str = ""
    hardest_before: float = 0.0
    hardest_after: float = 0.0
    hardest_count: int = 0
    weakest: str = ""
    weakest_after: float = 0.0
    weakest_count: int = 0


@dataclass(frozen=True, slots=True)
class GroupView:
    """`images` in a row, served by `generation`, of which `novel` were novel enough to be kept. chance: how likely
    known images alone make such a group (a p-value)."""

    images: int
    novel: int
    chance: float
    generation: int


@dataclass(frozen=True, slots=True)
class LiveView:
    """What `generation` has served since it was loaded: the probation's evidence."""

    frames: int
    novel_frames: int
    mean_confidence: float
    generation: int
