"""The arithmetic on known numbers, and a whole measurement at toy size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.device import step
from benchmarks.device.conditions import Conditions
from benchmarks.device.model import LABELS
from benchmarks.device.step import Extent, figures, measure, rows
from transfer import regression
from transfer.spec import resnet_cifar

SECONDS = {"full": [0.2, 2.0, 0.2], "transfer": [0.08, 0.8, 0.1], "sparse": [0.01, 0.1, 0.01], "head": [0.3, 3.0, 0.3]}


def test_ratios_are_those_of_the_rounds_and_the_head_is_shared_out() -> None:
    found = figures(SECONDS, head_batches=1000)
    assert found == pytest.approx({"head": 0.0015, "sparse": 0.05, "transfer": 0.4, "head_in_full_steps": 1.5})


def test_a_row_has_a_steps_time_and_its_memory_where_it_was_measured() -> None:
    made = {row["step"]: row for row in rows(SECONDS, 1000, {"transfer": 300.0, "full": None})}
    assert list(made) == ["full", "transfer", "sparse", "head"]
    assert made["head"]["median_ms"] == pytest.approx(0.3) and made["head"]["by_full"] == pytest.approx(0.0015)
    assert made["full"]["by_full"] == 1 and made["full"]["median_ms"] == pytest.approx(200)
    assert (made["transfer"]["peak_rss_mib"], made["sparse"]["peak_rss_mib"]) == (300.0, None)


def test_batches_are_of_64_however_few_there_are() -> None:
    few = step._batches(5)
    drawn = [next(few) for _ in range(3)]
    assert [len(batch) for batch in drawn] == [64, 64, 64] and set(np.concatenate(drawn).tolist()) == set(range(5))


def test_everything_is_measured(tmp_path: Path) -> None:
    small = resnet_cifar(8, len(LABELS), widths=(4, 6, 8))
    told: list[str] = []
    conditions = Conditions(quick=True, cache=tmp_path, note=told.append)
    found = measure(conditions, Extent(samples=20, rounds=2, peaks=("transfer",), spec=small))
    assert set(found.figures) == {"head", "sparse", "transfer", "head_in_full_steps", "peak_rss_mib"}
    assert all(isinstance(value, float) and value > 0 for value in found.figures.values())
    assert found.figures["peak_rss_mib"] == found.rows[1]["peak_rss_mib"] and found.rows[2]["peak_rss_mib"] is None
    assert found.targets == {"head": 0.001, "sparse": 0.06, "transfer": 0.45} and told
    batches = regression.STEPS * math.ceil((10 * regression.PSEUDO_FEATURES + 16) / 64)
    assert found.figures["head"] == pytest.approx(found.figures["head_in_full_steps"] / batches)
