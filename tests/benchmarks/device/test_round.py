"""The arithmetic on known numbers, and one whole measurement of real processes at toy size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from agent.config import Config
from benchmarks import rounds
from benchmarks.baselines.start import outputs
from benchmarks.device import round as measuring
from benchmarks.device.loop import STAGES
from benchmarks.device.rivals import EPOCHS, Learned
from benchmarks.device.round import Extent, Ours, findings, measured
from benchmarks.setting import Setting
from benchmarks.students import Student
from tests.benchmarks import toy


def learned(seconds: float, epochs: int = EPOCHS) -> Learned:
    return Learned(lambda images: np.zeros(len(images), np.int64), seconds, epochs)


def accuracy(every: float) -> dict[str, float | None]:
    return {"old": every, "new": every, "all": every}


def test_rivals_are_measured_by_the_mean_of_our_rounds() -> None:
    laps = [
        Ours("transfer", {"train": 6.0, "swap": 2.0}, accuracy(90)),
        Ours("transfer", {"train": 8.0, "swap": 4.0}, accuracy(92)),
    ]
    theirs = {
        "fine-tuning": (learned(200.0), accuracy(80)),
        "rilod": (learned(400.0, epochs=12), accuracy(85)),
        "rilod-unseen": (learned(100.0), accuracy(90)),
        "refit": (learned(5.0), accuracy(88)),
    }
    found = findings(laps, [Ours("head", {"train": 1.0}, accuracy(91))], theirs)
    assert found.figures == {
        "vs_finetune": 20.0,
        "vs_rilod": 40.0,
        "vs_refit": 0.5,
        "vs_rilod_as_run": 9.6,
        "points_above_rilod": 6.0,
        "points_above_rilod_unseen": 1.0,
        "seconds": 10.0,
        "seconds_by_stage": {"train": 7.0, "swap": 3.0},
    }
    del theirs["rilod-unseen"]
    assert findings(laps, [], theirs).figures["points_above_rilod_unseen"] is None
    assert found.at_least == {"vs_finetune": 10, "vs_rilod": 50}
    assert [row["way"] for row in found.rows] == [
        "tier transfer",
        "tier transfer",
        "tier head",
        "fine-tuning",
        "rilod",
        "rilod-unseen",
        "refit",
    ]
    assert found.rows[2]["by_ours"] == 0.1 and found.rows[3]["seconds"] == 200.0
    (note,) = found.notes
    assert note.startswith("rilod: 12 of 50 epochs")


@pytest.mark.e2e
def test_the_real_loop_and_all_rivals(make_setting: Callable[..., Setting], shipped: Student) -> None:
    """Toy networks need not pass the gate, and a machine that runs tests has no memory budget to keep."""
    overrides = measuring.LENIENT | {
        "budget": {"max_cpu_percent": 100.0, "max_load_per_core": 1000.0, "min_available_mib": 50.0, "sample_s": 0.5},
        "training": {"min_samples": 10},
    }
    extent = Extent(laps=1, tiers=(), epochs={"fine-tuning": 1, "rilod": 1}, overrides=overrides)
    setting = make_setting(new="plain")
    told: list[str] = []
    found = measured(setting, told.append, extent)
    stages = found.figures["seconds_by_stage"]
    assert isinstance(stages, dict) and tuple(stages) == STAGES
    assert found.figures["seconds"] == pytest.approx(sum(stages.values()))
    # The cache is shared: another test may have left a teacher there that does not know the category.
    ways = [row["way"] for row in found.rows if row["way"] != "rilod-unseen"]
    assert ways == ["tier transfer", "fine-tuning", "rilod", "refit"]
    assert all(float(row["seconds"]) > 0 for row in found.rows) and told
    assert {row["all"] is not None for row in found.rows} == {True}


def test_the_uncompressed_network_has_no_row_of_the_new_category(shipped: Student) -> None:
    labels = ("red", "across", "down")
    start = measuring._knowing_only(shipped.teacher, labels)
    assert start.labels == labels and start.net.spec.classes == 3
    images = toy.data().test_images[:6]
    whole = shipped.teacher.logits(images)
    mine = outputs(start.net, images, start.input)[0].numpy()
    columns = [shipped.teacher.labels.index(label) for label in labels]
    np.testing.assert_allclose(mine, whole[:, columns], rtol=1e-2, atol=0.1)


def test_the_default_of_the_device_is_what_is_measured() -> None:
    assert Config().training.tier == "auto" and rounds.default_tier() == "transfer"
