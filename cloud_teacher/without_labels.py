"""A student for devices from pictures that nobody labelled (arXiv 2201.10947, section 4.2): its teacher and any folder.

It follows the teacher on all categories (`cloud_teacher.unseen`). What else a bundle needs pictures of a known category
for, its class statistics and its held-out images, has the teacher's word for a label, where the teacher is sure of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_teacher.compress import Compressed, Made, Parts, check_cells, check_new, divide, pack
from cloud_teacher.datasets import Dataset, DatasetError, split
from cloud_teacher.distil import CompressionError, Recipe, choose
from cloud_teacher.progress import Report, silent
from cloud_teacher.train import Rows
from cloud_teacher.unseen import Lesson, follow
from cloud_teacher.zoo import Teacher

if TYPE_CHECKING:
    from nacl.signing import SigningKey

Images = npt.NDArray[np.uint8]

SURE = 0.9
"""Least probability that the teacher gives to what it names."""
FEWEST = 20
"""Pictures of a category, by the teacher's word, of which statistics can be made and held-out images kept."""
COMPARED = 0.1
"""Share of those that only say how often the student agrees with its teacher."""
ASKED_AT_ONCE = 256
MADE_BY = "understudy teacher compress --unlabelled (labels of the class statistics: the teacher's word)"


@dataclass(frozen=True, eq=False)
class Named:
    """Pictures that the teacher is sure about, as a data set whose `test` images are set apart; `rows` [n] and
    `apart` [m] say which of all pictures its training and its test images are."""

    data: Dataset
    rows: Rows
    apart: Rows


def compress_unlabelled(
    teacher: Teacher,
    pictures: Images,
    recipe: Recipe,
    *,
    out_dir: Path,
    key: SigningKey | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> Compressed:
    """Make the bundle `out_dir` of a student that knows `recipe.known`, taught by `pictures` uint8 [n, h, w, 3] of
    the teacher's size (`cloud_teacher.unlabelled`); the teacher's other categories stay in it as
    dormant rows. Its accuracy is how often it agrees with the teacher, on parts of pictures of which other parts may
    have taught it. Of the recipe, `views` and `taught` have no meaning here.

    Raises CompressionError, DatasetError, TeacherError (pruning a network that is not our own) and BundleError.
    """
    check_new(out_dir)
    _check_known(teacher, recipe.known)
    _ = teacher.manifest
    named = name_pictures(teacher, pictures, recipe.known, recipe.schedule.seed, report)
    parts = divide(named.data.train_targets, recipe.holdout_per_class)
    shown = np.setdiff1d(np.arange(len(pictures)), _kept_back(named, parts))
    chosen = choose(teacher, pictures[shown], recipe)
    check_cells(teacher, chosen, recipe.cells, teacher.input)
    lesson = Lesson(recipe.schedule, inherit=recipe.inherit)
    student = follow(teacher, pictures[shown], chosen, lesson, cache_dir=cache_dir, report=report)
    dormant = tuple(label for label in teacher.labels if label not in named.data.labels)
    made = Made(student, chosen, teacher.input, dormant, MADE_BY)
    return pack(made, teacher, named.data, parts, recipe, out_dir=out_dir, key=key, report=report)


def name_pictures(teacher: Teacher, pictures: Images, known: Sequence[str], seed: int, report: Report) -> Named:
    """The pictures uint8 [n, h, w, 3] of which the teacher is sure that they are of one of the `known` categories.

    Raises DatasetError where there are too few of one.
    """
    parts = []
    for at in range(0, len(pictures), ASKED_AT_ONCE):
        parts.append(teacher.logits(pictures[at : at + ASKED_AT_ONCE]))
        report("ask teacher", min(at + ASKED_AT_ONCE, len(pictures)), len(pictures))
    logits = np.concatenate(parts)
    probability = np.exp(logits - logits.max(axis=1, keepdims=True))
    said = logits.argmax(axis=1)
    rows = np.flatnonzero(1 / probability.sum(axis=1) >= SURE)
    labels = tuple(label for label in teacher.labels if label in known)
    place = np.array([labels.index(label) if label in labels else -1 for label in teacher.labels], np.int64)
    rows = rows[place[said[rows]] >= 0]
    targets = place[said[rows]]
    _check_enough(labels, np.bincount(targets, minlength=len(labels)), len(pictures))
    train, apart = split(targets, COMPARED, seed)
    images = pictures[rows]
    data = Dataset(
        "unlabelled",
        labels,
        images[train],
        targets[train],
        images[apart],
        targets[apart],
        teacher.input,
        teacher.flip,
    )
    return Named(data, rows[train], rows[apart])


def _kept_back(named: Named, parts: Parts) -> Rows:
    """The pictures that must not teach the student."""
    return np.concatenate([named.rows[parts.calibration], named.rows[parts.holdout], named.apart])


def _check_known(teacher: Teacher, known: Sequence[str]) -> None:
    strange = [label for label in known if label not in teacher.labels]
    if strange:
        raise CompressionError(f"the teacher has no category {', '.join(strange)}; it has {', '.join(teacher.labels)}")
    if len(set(known)) < 2:
        raise CompressionError("a student must know at least two categories")


def _check_enough(labels: Sequence[str], counts: npt.NDArray[np.int64], pictures: int) -> None:
    few = [f"{label} ({count})" for label, count in zip(labels, counts.tolist(), strict=True) if count < FEWEST]
    if few:
        raise DatasetError(
            f"of {pictures} pictures and parts of pictures the teacher is sure of fewer than {FEWEST} for each of: "
            f"{', '.join(few)}. Add pictures that show them, or leave them out with --known: the student follows its "
            "teacher there all the same, and a device can learn them later without an image"
        )
