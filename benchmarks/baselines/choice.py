"""The baselines' hyper-parameters: every combination is tried on images that nothing was trained on, none of them test
images (`python -m benchmarks choices`); what came of it stays in benchmarks/results/choices-<scale>.json and is read
here. The best harmonic mean of old and new wins: by plain accuracy, a method that learns nothing would look good.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from benchmarks.setting import Setting
from benchmarks.students import Knowing

Row = Literal["mean feature", "chance"]


class Choice(msgspec.Struct, frozen=True):
    """rate: the learning rate at its peak. weight: of all that is distilled, against the labels' cross entropy. row:
    how the classifier's new row starts (`start.grown`)."""

    rate: float
    weight: float = 1.0
    row: Row = "mean feature"


NOBODYS = Choice(rate=0.0)
RATES = (1e-3, 1e-4, 1e-2, 1e-5)
WEIGHTS = (1.0, 10.0)
ROWS: tuple[Row, ...] = ("chance", "mean feature")


def grid(*, distils: bool) -> list[Choice]:
    """What is tried for a method."""
    weights = WEIGHTS if distils else (1.0,)
    return [Choice(rate, weight, row) for row, rate, weight in itertools.product(ROWS, RATES, weights)]


def chosen(setting: Setting, name: str, knowing: Knowing, among: Sequence[Choice]) -> Choice:
    """The best of what was tried for the baseline `name` at this scale; where nothing was, as in --quick, the first of
    `among`, or one that nobody reads."""
    rows = [] if setting.quick else _tried(setting)
    mine = [row for row in rows if row.get("baseline") == name and row.get("teacher") == knowing]
    if not mine:
        return next(iter(among), NOBODYS)
    best = max(mine, key=lambda row: float(row["harmonic"]))
    return msgspec.convert({field: best[field] for field in Choice.__struct_fields__}, Choice)


def _tried(setting: Setting) -> list[dict[str, Any]]:
    """The rows of the sweep; none where there was none yet. Raises ValueError where the file is damaged."""
    path = setting.results / f"choices-{setting.scale}.json"
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row.get("harmonic") is not None]
