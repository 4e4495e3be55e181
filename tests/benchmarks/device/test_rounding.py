"""A trained student packed both ways, at toy size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.device.rounding import judged
from benchmarks.setting import Setting
from benchmarks.students import Student
from transfer import tflite_writer


def test_int8_weights_are_judged_like_float_ones(
    make_setting: Callable[..., Setting], shipped: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite_writer, "_QUANTISE_FROM", 100)  # nothing in a tiny network is worth it otherwise
    setting = make_setting()
    plain, small = (judged(setting, shipped, quantise) for quantise in ("none", "dynamic_int8"))
    assert small.bytes < plain.bytes
    for each in (plain, small):
        assert 0 <= each.top1 <= 100 and 0 <= each.auroc <= 1
    assert abs(plain.top1 - small.top1) < 10 and abs(plain.auroc - small.auroc) < 0.1
    assert plain != small
