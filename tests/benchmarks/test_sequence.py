from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import cells, sequence, table
from benchmarks.sequence import _forgetting, halves
from benchmarks.setting import Setting

MakeSetting = Callable[..., Setting]


def test_half_is_learned_one_after_the_other(make_setting: MakeSetting) -> None:
    setting = make_setting("sequence", quick=False)
    assert halves(setting) == (("across", "down"), ("red", "plain"))
    chosen = [cell for cell in sequence.cells(setting) if cell.method in ("slda", "ncm-t9", "joint") and not cell.seed]
    done, _ = cells.measure(setting, chosen, lambda line: None)
    assert [one.error for one in done] == ["", "", ""]
    rows = {row["method"]: row for row in table.rows(sequence.TABLE, done)}
    for name in ("slda", "ncm-t9"):
        row = rows[name]
        assert row["after 4"] == row["all"] == (row["old"] + row["new"]) / 2
        assert 0 <= row["after 3"] <= 100 and -100 <= row["forgetting"] <= 100 and row["seconds"] > 0
    assert rows["slda"]["all"] > 50
    assert "after 3" not in rows["joint"] and rows["joint"]["after 4"] == rows["joint"]["all"]


def test_every_method_that_makes_sense_is_in_it(make_setting: MakeSetting) -> None:
    methods = {cell.method for cell in sequence.cells(make_setting("sequence", quick=False))}
    assert {"default", "default-t9", "head", "sparse", "transfer", "lwf", "latent-replay-t9", "joint"} <= methods
    assert not methods & {"rilod-teacher-t9", "fitnet-hints"}
    quick = {cell.method for cell in sequence.cells(make_setting("sequence"))}
    assert quick < methods and "default" in quick


def test_forgetting_is_the_best_less_the_last() -> None:
    seen = [{"a": 90.0, "b": 50.0}, {"a": 70.0, "b": 60.0, "c": 99.0}]
    assert _forgetting(seen, ("a", "b")) == pytest.approx((20 + 0) / 2)
    assert _forgetting(seen[:1], ("a", "b")) == 0
