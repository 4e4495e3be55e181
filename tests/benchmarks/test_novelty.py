from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import cells, novelty, table
from benchmarks.novelty import auroc, overall
from benchmarks.setting import Setting

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=20).map(lambda values: np.array(values, float))


@settings(deadline=None)
@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(low: np.ndarray, high: np.ndarray) -> None:
    pairs = (high[:, None] > low).mean() + 0.5 * (high[:, None] == low).mean()
    assert auroc(low, high) == pytest.approx(float(pairs))


def test_each_category_is_left_out_in_turn(make_setting: Callable[..., Setting]) -> None:
    setting = make_setting("novelty", new="each")
    known = novelty.cells(make_setting("novelty"))
    assert [cell.method for cell in known if cell.wanted] == ["across", "down", "red", "plain"]
    known = novelty.cells(setting)
    assert all(cell.wanted for cell in known)
    done, _ = cells.measure(setting, [known[2], known[3], known[7]], lambda line: None)
    assert [one.error for one in done] == ["", "", ""]
    rows = table.rows(novelty.TABLE, done)
    assert [row["method"] for row in rows] == ["red", "plain", "plain-t9", "default", "default-t9"]
    for row in rows:
        assert 0 <= row["auroc"] <= 1 and all(0 <= row[name] <= 100 for name in ("detected", "false_alarms", "recall"))
        assert row["all"] is None and row["params"] > 0
    assert rows[3]["auroc"] == pytest.approx((rows[0]["auroc"] + rows[1]["auroc"]) / 2)
    assert rows[0]["auroc"] > 0.5


def test_what_failed_does_not_enter_the_mean() -> None:
    row = {"method": "a", "teacher": "T10", "auroc": 0.5, "detected": 1.0, "false_alarms": 2.0, "recall": 4.0}
    failure = {"method": "c", "teacher": "T10", "error": "no"}
    (mean,) = overall([row, row | {"method": "b", "auroc": 0.7}, failure])
    assert mean["auroc"] == pytest.approx(0.6) and mean["seeds"] == 2 and mean["purity"] is None
    assert overall([failure]) == []
