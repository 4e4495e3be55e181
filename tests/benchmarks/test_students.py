from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.setting import Setting
from benchmarks.students import Student, key, recipe, student, t9_spec
from cloud_teacher.zoo import Teacher


def test_a_student_is_made_once_and_named_by_all_that_makes_it(
    make_setting: Callable[..., Setting], shipped: Student, knowing: Teacher
) -> None:
    setting = make_setting()
    made = recipe(setting, setting.known_without("plain"))
    assert student(setting, made, "T10").bundle.digest == shipped.bundle.digest
    assert shipped.bundle.manifest.teacher == knowing.digest
    names = {key(setting, one, "T10") for one in (made, replace(made, depth=2), recipe(setting, ("across", "red")))}
    assert len(names | {key(setting, made, "T9")}) == 4


def test_the_t9_teacher_knows_what_its_student_knows(shipped_t9: Student, knowing: Teacher) -> None:
    assert shipped_t9.teacher.labels == shipped_t9.bundle.manifest.labels == ("across", "down", "red")
    assert shipped_t9.teacher.spec.groups == knowing.spec.groups
    assert shipped_t9.bundle.manifest.teacher == shipped_t9.teacher.digest


def test_a_plan_may_give_the_t9_teacher_fewer_blocks(make_setting: Callable[..., Setting], knowing: Teacher) -> None:
    setting = make_setting()
    assert t9_spec(setting, 3).groups == knowing.spec.groups and t9_spec(setting, 3).classes == 3
    setting.__dict__["plan"] = replace(setting.plan, teacher_blocks=1)
    assert t9_spec(setting, 3).groups == tuple(blocks[-1:] for blocks in knowing.spec.groups)


def test_seeds_share_the_students_that_the_plan_allows(make_setting: Callable[..., Setting]) -> None:
    setting = make_setting()
    assert recipe(setting, ("red", "down"), 0) == recipe(setting, ("red", "down"), 5)
    setting.__dict__["plan"] = replace(setting.plan, student_seeds=2)
    assert [recipe(setting, ("red", "down"), seed).schedule.seed for seed in range(4)] == [0, 1, 0, 1]
