from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.methods import METHODS, knows_all, learner, matters
from benchmarks.setting import Setting
from benchmarks.students import Student


def test_every_method_begins_as_the_student(
    make_setting: Callable[..., Setting], shipped: Student, shipped_t9: Student
) -> None:
    setting = make_setting()
    assert knows_all(setting, shipped) and not knows_all(setting, shipped_t9)
    for name, method in METHODS.items():
        assert method.name == name
        for knowing in method.knowing:
            begun = shipped if knowing == "T10" else shipped_t9
            assert learner(setting, name, knowing, begun, 0).labels == ("across", "down", "red")


def test_another_choice_makes_another_result(make_setting: Callable[..., Setting]) -> None:
    setting = make_setting(quick=False)
    before = matters(setting, "lwf", "T10"), matters(setting, "lwf", "T9"), matters(setting, "default", "T10")
    setting.results.mkdir()
    row = {"baseline": "lwf", "teacher": "T10", "rate": 0.5, "weight": 1.0, "row": "chance", "harmonic": 1.0}
    (setting.results / "choices-cpu.json").write_text(json.dumps({"rows": [row]}))
    after = matters(setting, "lwf", "T10"), matters(setting, "lwf", "T9"), matters(setting, "default", "T10")
    assert repr(before[0]) != repr(after[0]) and repr(before[1:]) == repr(after[1:])
