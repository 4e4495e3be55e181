"""Table 4: a student of all categories but one learns that one from 500 images of it, and no image of the others.

Every method stands in it twice, by what the teacher knows (`students.Knowing`): plain names are T10, the paper's
premise; names in -t9 are the harder reading, in which nobody knows the category beforehand. `new_category` says which
was learned; --new each adds the others, one row a category and their mean. `seconds` are the device's own. The images
come with their label, as in the paper: in rows that are marked as outdated our rounds, and no baseline, had to find out
which of the 500 belong together.
"""

from __future__ import annotations

from functools import partial

from benchmarks.cells import Cell
from benchmarks.learner import judged, new_images
from benchmarks.measured import Measured
from benchmarks.methods import METHODS, learner, matters
from benchmarks.setting import Setting
from benchmarks.students import Knowing, key, recipe, student
from benchmarks.table import Row, Table, mean, spread
from cloud_teacher.progress import Report

OTHERS = ("default", "joint")
"""Measured on other choices of the new category too; a method named by --only also is."""
BOTH: tuple[Knowing, ...] = ("T10", "T9")


def cells(setting: Setting) -> list[Cell]:
    """All methods on the data set's last category, then on the others."""
    first = setting.new_category
    categories = (first, *setting.known_without(first))
    return [
        cell
        for category in categories
        for knowing in BOTH
        for name, method in METHODS.items()
        if knowing in method.knowing
        for cell in _cells(setting, name, knowing, category)
    ]


def _cells(setting: Setting, name: str, knowing: Knowing, category: str) -> list[Cell]:
    method, first = METHODS[name], category == setting.new_category
    label = name if knowing == "T10" else f"{name}-t9"
    asked = setting.new in ("each", category) or (first and not setting.new)
    return [
        Cell(
            method=label if first else f"{label} {category}",
            seed=seed,
            run=partial(learn_one, setting, name, knowing, category, seed),
            matters=(
                category,
                key(setting, recipe(setting, setting.known_without(category), seed), knowing),
                setting.plan.new_images,
                matters(setting, name, knowing),
            ),
            columns={"teacher": knowing, "new_category": category, "note": method.note or None},
            wanted=asked and (first or name in OTHERS or label in setting.only),
        )
        for seed in setting.seed_range
    ]


def learn_one(setting: Setting, name: str, knowing: Knowing, category: str, seed: int, report: Report) -> Measured:
    """The method with the student that lacks `category`, judged on the test images of all categories."""
    begun = student(setting, recipe(setting, setting.known_without(category), seed), knowing)
    learning = learner(setting, name, knowing, begun, seed)
    learning.learn(category, new_images(setting, category, seed))
    return judged(learning, setting.dataset, (category,))


def others(found: list[Row]) -> list[Row]:
    """For every method that was measured on other choices of the new category: their mean, and the spread over them."""
    means = []
    for row in found:
        same = [one for one in found if one["method"].startswith(f"{row['method']} ")]
        if same:
            means.append(
                row
                | {column: mean([one.get(column) for one in same]) for column in AVERAGED}
                | {"method": f"{row['method']} others", "spread": spread([one["all"] for one in same])}
                | {"new_category": f"mean of {len(same)} others"}
            )
    return means


AVERAGED = ("old", "new", "all", "harmonic", "seconds", "seeds")
TABLE = Table("9+1: a student of all categories but one learns it", ("teacher", "new_category", "note"), others)
