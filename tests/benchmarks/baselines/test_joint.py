from __future__ import annotations

from collections.abc import Callable

from benchmarks.baselines.joint import JointT9, JointT10
from benchmarks.learner import judged, new_images
from benchmarks.setting import Setting
from benchmarks.students import Student
from tests.benchmarks import toy


def test_with_a_knowing_teacher_it_is_the_student_of_all_categories(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    setting = make_setting()
    learner = JointT10(setting, shipped, 0)
    learner.learn("plain", new_images(setting, "plain", 0))
    found = judged(learner, toy.data(), ("plain",))
    assert found.all is not None and found.all > 50 and found.seconds is None
    assert learner.net.classes == 4


def test_its_labels_may_be_in_another_order_than_the_data_set_s(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    setting = make_setting()
    learner = JointT10(setting, shipped, 0)
    learner.labels = ("plain", "red", "down", "across")
    found = judged(learner, toy.data(), ("plain",))
    assert found.all is not None and found.all > 50


def test_without_one_the_student_is_trained_on_and_a_second_time_found(
    make_setting: Callable[..., Setting], shipped_t9: Student
) -> None:
    setting = make_setting()
    trained: list[str] = []
    object.__setattr__(setting, "report", lambda stage, done, total, detail="": trained.append(f"{stage} {done}"))
    said = []
    for _ in range(2):
        learner = JointT9(setting, shipped_t9, 0)
        learner.learn("plain", new_images(setting, "plain", 0))
        said.append(learner.predict(toy.data().test_images))
        assert learner.labels == ("across", "down", "red", "plain") and learner.net.classes == 4
    assert (said[0] == said[1]).all()
    assert trained.count("train joint 1") == 1  # the second time it went on after the last epoch
