from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.device.coded_rounds import Coding, Judged, judged
from benchmarks.setting import Setting
from transfer import activations
from transfer.activations import Activations


def test_losses_are_the_means_differences() -> None:
    found = Judged({"whole": (90.0, 91.0, 92.0), "ours": (89.5, 91.0, 91.9)})
    assert found.mean("whole") == 91.0 and found.spread("whole") == 1.0
    assert found.loss("ours", "whole") == pytest.approx(0.2)
    assert found.loss("strange", "whole") is None and Judged().loss("ours", "whole") is None
    assert Judged({"once": (5.0,)}).spread("once") is None


def test_rounds_differ_by_how_the_answer_came_and_by_nothing_else(make_setting: Callable[..., Setting]) -> None:
    seen: list[Activations] = []
    notes: list[str] = []

    def carried(answer: Activations) -> Activations:
        seen.append(answer)
        return activations.decode(activations.encode(answer))

    codings = {
        "whole": Coding(None, lambda answer: answer),
        "again": Coding(None, lambda answer: answer),
        "ours": Coding(2, carried),
    }
    found = judged(make_setting(), codings, notes.append)
    assert found.all["whole"] == found.all["again"] and all(0 <= found.all[name][0] <= 100 for name in codings)
    # 16 new images in the two views of the shipped configuration; the toy's last maps are 4 x 4.
    assert seen[0].maps[2].shape == (16, 2, 16, 2, 2)
    assert notes[2].startswith("seed 0, ours: ")
