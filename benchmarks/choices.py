"""The baselines' hyper-parameters, every combination tried once and judged on training images that nothing was trained
on. See `benchmarks.baselines.choice`, which reads the rows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import msgspec
import numpy as np

from benchmarks.baselines.choice import Choice
from benchmarks.cells import Cell
from benchmarks.learner import judged
from benchmarks.measured import Measured
from benchmarks.methods import METHODS, VERSION
from benchmarks.setting import Setting, drawn
from benchmarks.students import Knowing, key, recipe, student
from benchmarks.table import Table
from cloud_teacher.compress import divide
from cloud_teacher.datasets import Dataset
from cloud_teacher.progress import Report

COLUMNS = ("baseline", "teacher", "rate", "weight", "row")
TABLE = Table("hyper-parameters of the baselines, tried on training images", COLUMNS)
SALT = "choices"
BOTH: tuple[Knowing, ...] = ("T10", "T9")


def cells(setting: Setting) -> list[Cell]:
    """One cell a combination; its accuracies are on validation images."""
    known = setting.known_without(setting.new_category)
    return [
        Cell(
            method=f"{name}{'' if knowing == 'T10' else '-t9'} {choice.rate:g} {choice.weight:g} {choice.row}",
            seed=0,
            run=partial(_try, setting, name, knowing, choice),
            matters=(
                key(setting, recipe(setting, known), knowing),
                setting.plan.new_images,
                setting.plan.sweep_images,
                choice,
                VERSION,
            ),
            columns={"baseline": name, "teacher": knowing, **msgspec.structs.asdict(choice)},
        )
        for name, method in METHODS.items()
        for knowing in BOTH
        if knowing in method.knowing
        for choice in (method.tried[:1] if setting.quick else method.tried)
    ]


def _try(setting: Setting, name: str, knowing: Knowing, choice: Choice, report: Report) -> Measured:
    category = setting.new_category
    begun = student(setting, recipe(setting, setting.known_without(category)), knowing)
    learning = METHODS[name].begin(setting, begun, 0, choice)
    data = validation(setting, category)
    rows = new_rows(setting, category)
    learning.learn(category, setting.dataset.train_images[rows[: setting.plan.new_images]])
    return judged(learning, data, (category,))


def validation(setting: Setting, category: str) -> Dataset:
    """The data set with training images in place of its test images: of the old categories such as no student was
    trained on (`divide`'s calibration images), of the new one those behind the ones that are learned from here."""
    data = setting.dataset
    each = judges_of_each(setting)
    known = np.flatnonzero(data.train_targets != data.labels.index(category))
    # The very rows of `data.only(known)`, whose order is that of the whole data set.
    place = np.unique(data.train_targets[known], return_inverse=True)[1].astype(np.int64)
    spare = known[divide(place, setting.plan.holdout_per_class).calibration]
    old = [drawn(spare[data.train_targets[spare] == at], each, SALT) for at in np.unique(data.train_targets[spare])]
    new = new_rows(setting, category)[setting.plan.new_images :][:each]
    rows = np.concatenate([*old, new])
    return replace(data, test_images=data.train_images[rows], test_targets=data.train_targets[rows])


def judges_of_each(setting: Setting) -> int:
    """How many images of every category are judged by."""
    return max(1, setting.plan.sweep_images // len(setting.dataset.labels))


def new_rows(setting: Setting, category: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """All training images of the new category, in an order that no table uses."""
    data = setting.dataset
    rows = np.flatnonzero(data.train_targets == data.labels.index(category))
    return drawn(rows, len(rows), SALT)
