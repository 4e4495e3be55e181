"""5+1+1+1+1+1: a student of the first half of the categories learns the others one after the other, each from 500
images that are gone when the next one comes.

`after k`: accuracy on the test images of the k categories known by then; `all` is the last of them. old: accuracy in
the end on the first half; new: on all that were learned on the device. forgetting: of every category but the last, by
how much its accuracy in the end lies below its best, averaged. In -t9 rows the teacher knows the first half only.
"""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np

from benchmarks.cells import Cell
from benchmarks.judge import measured, percent, truth_in
from benchmarks.learner import Learner, new_images
from benchmarks.measured import Extra, Measured
from benchmarks.methods import METHODS, learner, matters
from benchmarks.setting import Setting
from benchmarks.students import Knowing, key, recipe, student
from benchmarks.table import Table
from cloud_teacher.progress import Report

LEFT_OUT = ("fitnet-hints", "rilod-teacher")
"""Of the methods in table 4: what collapses there with the first category needs no second one; the uncompressed network
is no device's."""
NOT_QUICK = ("sparse", "transfer")
"""Under --quick `default` stands for them, and only QUICK_LATER categories are learned."""
QUICK_LATER = 2
TABLE = Table("5+1+1+1+1+1: categories learned one after the other", ("teacher", "forgetting", "note"))
BOTH: tuple[Knowing, ...] = ("T10", "T9")


def cells(setting: Setting) -> list[Cell]:
    first, later = halves(setting)
    return [
        Cell(
            method=name if knowing == "T10" else f"{name}-t9",
            seed=seed,
            run=partial(learn_all, setting, name, knowing, seed),
            matters=(
                later,
                key(setting, recipe(setting, first, seed), knowing),
                setting.plan.new_images,
                matters(setting, name, knowing),
            ),
            columns={"teacher": knowing, "note": method.note or None},
        )
        for knowing in BOTH
        for name, method in METHODS.items()
        if knowing in method.knowing and name not in (LEFT_OUT + NOT_QUICK if setting.quick else LEFT_OUT)
        for seed in setting.seed_range
    ]


def halves(setting: Setting) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The categories of the student, and those that it learns, in the data set's order."""
    labels = setting.dataset.labels
    first = len(labels) - QUICK_LATER if setting.quick else (len(labels) + 1) // 2
    return labels[:first], labels[first:]


def learn_all(setting: Setting, name: str, knowing: Knowing, seed: int, report: Report) -> Measured:
    first, later = halves(setting)
    begun = student(setting, recipe(setting, first, seed), knowing)
    learning = learner(setting, name, knowing, begun, seed)
    # Joint training has no steps in between: it sees everything at once.
    stepwise = name != "joint"
    seen: list[dict[str, float]] = []
    found, after = Measured(), dict[str, Extra]()
    for number, category in enumerate(later, 1):
        report(f"sequence {name}", number - 1, len(later), category)
        learning.learn(category, new_images(setting, category, seed))
        if stepwise or number == len(later):
            found, of_each = _judge(setting, learning, later[:number])
            seen.append(of_each)
            after[f"after {len(learning.labels)}"] = found.all
    report(f"sequence {name}", len(later), len(later))
    forgetting = _forgetting(seen, learning.labels[:-1]) if stepwise else None
    return msgspec.structs.replace(found, extra={**after, "forgetting": forgetting})


def _judge(setting: Setting, learning: Learner, learned: tuple[str, ...]) -> tuple[Measured, dict[str, float]]:
    """Measured on all categories known by now, and the accuracy of each."""
    truth = truth_in(setting.dataset, learning.labels)
    images, truth = setting.dataset.test_images[truth >= 0], truth[truth >= 0]
    said = learning.predict(images)
    new = [learning.labels.index(label) for label in learned]
    side = (images.shape[1], images.shape[2])
    found = measured(said, truth, new, spec=learning.net, side=side, seconds=learning.seconds)
    each = {label: percent((said == truth)[truth == at]) for at, label in enumerate(learning.labels)}
    return found, {label: value for label, value in each.items() if value is not None}


def _forgetting(seen: list[dict[str, float]], labels: tuple[str, ...]) -> float:
    """Mean over `labels` of the best accuracy so far less the last (Chaudhry et al. 2018), in points."""
    best = {label: max(one[label] for one in seen if label in one) for label in labels}
    return float(np.mean([best[label] - seen[-1][label] for label in labels]))
