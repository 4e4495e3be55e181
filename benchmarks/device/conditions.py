"""What a benchmark of the device is given: parsed once, never changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Conditions:
    """quick: within a minute, to see that everything works. cache: what is expensive to make is kept here.

    data_dir, teacher: CIFAR-10's official files and a teacher of it (its bundle or published weights), for what must be
    judged on real images; without them a benchmark takes digits, or leaves those figures out and says so. kills: how
    many power cuts, minutes: how long a soak, None for the usual. note: tells a person what is being done; a line at a
    time.
    """

    quick: bool
    cache: Path
    data_dir: Path | None = None
    teacher: Path | None = None
    kills: int | None = None
    minutes: float | None = None
    note: Callable[[str], None] = lambda line: None
