from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from benchmarks import ablation, cells, table
from benchmarks.ablation import DECISIONS
from benchmarks.choices import judges_of_each, new_rows, validation
from benchmarks.setting import Setting
from benchmarks.students import recipe
from tests.benchmarks.conftest import PLAN
from transfer.head import FUSION

MakeSetting = Callable[..., Setting]


def test_every_student_differs_from_the_first_in_one_thing(make_setting: MakeSetting) -> None:
    setting = make_setting("ablation")
    made = ablation._recipes(setting, recipe(setting, setting.known_without("plain")))
    usual = made.pop("default")
    assert usual.schedule.epochs <= ablation.SHORT
    for name, other in made.items():
        changed = [field.name for field in fields(usual) if getattr(usual, field.name) != getattr(other, field.name)]
        assert len(changed) == 1, name


def test_a_short_student_is_judged_before_and_after_its_round(make_setting: MakeSetting) -> None:
    setting = make_setting("ablation")
    done, _ = cells.measure(setting, ablation.cells(setting)[:1], lambda line: None)
    assert [one.error for one in done] == [""]
    (row,) = table.rows(ablation.TABLE, done)
    assert row["method"] == "default-6ep"
    for name in ("old", "new", "all", "before_old", "before_new"):
        assert 0 <= row[name] <= 100


def test_the_shipped_decision_is_one_of_those_tried(make_setting: MakeSetting) -> None:
    """What the device serves after the round is what `both` says with the shipped weight."""
    setting = make_setting("ablation")
    known = [cell for cell in ablation.cells(setting) if cell.method == "decision plain"]
    assert all(cell.wanted for cell in known)
    done, _ = cells.measure(setting, known[:1], lambda line: None)
    assert [one.error for one in done] == [""]
    (row,) = table.rows(ablation.TABLE, done)
    assert all(0 <= row[name] <= 100 for name in DECISIONS)
    assert row["all"] == row[f"both_{FUSION:g}"]


def test_a_round_learns_from_no_image_that_it_is_judged_by(make_setting: MakeSetting) -> None:
    setting = make_setting("ablation")
    judging = {image.tobytes() for image in validation(setting, "plain").test_images}
    shown = [ablation.shown(setting, "plain", seed) for seed in range(2)]
    assert len(shown[0]) == PLAN.new_images and len(new_rows(setting, "plain")) == 40 and judges_of_each(setting) == 5
    names = [{image.tobytes() for image in images} for images in shown]
    assert not (names[0] | names[1]) & judging and not np.array_equal(*shown)
