from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from benchmarks.baselines.choice import NOBODYS, RATES, ROWS, WEIGHTS, Choice, chosen, grid
from benchmarks.setting import Setting

TRIED = (Choice(1e-3), Choice(3e-3))


def row(baseline: str, rate: float, harmonic: float | None, **fields: object) -> dict[str, object]:
    found = {"baseline": baseline, "teacher": "T10", "rate": rate, "weight": 2, "row": "chance", "harmonic": harmonic}
    return found | fields


@pytest.fixture
def setting(make_setting: Callable[..., Setting]) -> Setting:
    setting = make_setting(quick=False)
    setting.results.mkdir()
    rows = [
        row("lwf", 0.1, 50.0),
        row("lwf", 0.2, 60.0),
        row("lwf", 0.3, None, error="it diverged"),
        row("lwf", 0.4, 70.0, teacher="T9"),
        row("rilod", 0.5, 80.0),
    ]
    (setting.results / "choices-cpu.json").write_text(json.dumps({"rows": rows}))
    return setting


def test_the_best_that_was_tried_for_this_method_and_teacher_is_taken(setting: Setting) -> None:
    assert chosen(setting, "lwf", "T10", TRIED) == Choice(0.2, 2.0, "chance")
    assert chosen(setting, "lwf", "T9", TRIED) == Choice(0.4, 2.0, "chance")


def test_where_nothing_was_tried_the_first_is_taken(setting: Setting, make_setting: Callable[..., Setting]) -> None:
    assert chosen(setting, "paper", "T10", TRIED) == TRIED[0]
    assert chosen(make_setting(quick=False, scale="paper"), "lwf", "T10", TRIED) == TRIED[0]
    assert chosen(make_setting(results=setting.results), "lwf", "T10", TRIED) == TRIED[0]  # --quick
    assert chosen(setting, "ncm", "T10", ()) == NOBODYS


def test_the_grid_has_every_combination_once() -> None:
    assert len(set(grid(distils=True))) == len(ROWS) * len(RATES) * len(WEIGHTS)
    assert len(set(grid(distils=False))) == len(ROWS) * len(RATES)
