"""Students to experiment with: bundles made by `cloud_teacher.compress`, once for each recipe, and found in the cache
afterwards.

T10 and T9 are the paper's two readings (where its text is ambiguous): whether the teacher knows the categories that the
device is going to learn. Either way a student is taught all that its teacher says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.setting import Setting, teacher_key
from cloud_teacher.compress import compress
from cloud_teacher.distil import Recipe, features_weight, mixes
from cloud_teacher.train import identity_of
from cloud_teacher.zoo import Teacher
from transfer import bundle
from transfer.bundle import Bundle
from transfer.spec import NetSpec

VERSION = 5
"""To be raised when `compress` makes other students of the same recipe."""

Knowing = Literal["T10", "T9"]
"""T10: the teacher knows every category. T9: it knows those that the student knows and no others."""


@dataclass(frozen=True, eq=False)
class Student:
    """A bundle and the teacher it was made by, which is also the one that answers the device."""

    bundle: Bundle
    teacher: Teacher


def recipe(setting: Setting, known: Sequence[str], seed: int = 0) -> Recipe:
    """The scale's student of the `known` categories."""
    plan = setting.plan
    return Recipe(
        known=tuple(known),
        schedule=replace(plan.student, seed=seed % plan.student_seeds),
        depth=plan.depth,
        most_parameters=plan.most_parameters,
        views=plan.views,
        holdout_per_class=plan.holdout_per_class,
        features_weight=features_weight(setting.teacher.widths, plan.depth),
    )


def key(setting: Setting, made: Recipe, knowing: Knowing) -> str:
    """Names the student before it is made; what is measured on it depends on it (`Cell.matters`)."""
    teacher = setting.teacher.digest if knowing == "T10" else _teacher_key(setting, made.known)
    labels = setting.teacher.labels if knowing == "T10" else made.known
    mixed = ["mixed"] if mixes(made, labels) else []
    return identity_of("benchmark student", VERSION, _fingerprint(setting, made.known), teacher, made, *mixed)


# Taking some categories of a large data set copies it, and every cell of a table asks for its key.
@lru_cache(maxsize=256)
def _fingerprint(setting: Setting, known: tuple[str, ...]) -> str:
    return setting.dataset.only(known).fingerprint


@lru_cache(maxsize=256)
def _teacher_key(setting: Setting, known: tuple[str, ...]) -> str:
    return teacher_key(setting.dataset.only(known), t9_spec(setting, len(known)), setting.plan.teacher)


def student(setting: Setting, made: Recipe, knowing: Knowing) -> Student:
    """The student of that recipe; its trainings, and its own teacher's, go on from their checkpoints."""
    teacher = teacher_of(setting, made.known, knowing)
    out: Path = setting.cache / "students" / key(setting, made, knowing)[:16]
    if not out.is_dir():
        compress(teacher, setting.dataset, made, out_dir=out, cache_dir=setting.cache, report=setting.report)
    return Student(bundle.load(out, trusted=None), teacher)


def teacher_of(setting: Setting, known: Sequence[str], knowing: Knowing) -> Teacher:
    """T9: a teacher trained on the known categories' images alone."""
    if knowing == "T10":
        return setting.teacher
    return setting.trained_teacher(setting.dataset.only(known), t9_spec(setting, len(known)))


def t9_spec(setting: Setting, classes: int) -> NetSpec:
    """The knowing teacher's shape, as deep as the plan allows."""
    spec, most = setting.teacher.spec, setting.plan.teacher_blocks
    groups = spec.groups if most is None else tuple(blocks[-most:] for blocks in spec.groups)
    return msgspec.structs.replace(spec, groups=groups, classes=classes)
