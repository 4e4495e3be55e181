"""Ablation: what each of our own choices is worth, on training images that nothing was trained on.

The students are taught for SHORT epochs only, so that all of them can be tried; the images are those of `choices`, so
no test image takes part. before_old, before_new: what the student says of the known categories among themselves, and
of how many images of the new one its dormant row says that it is it, before any was shown. old, new, all: after a round
of tier transfer with the images of the new category.

default   nine categories, as they are taught in table 4
unmixed   never about mixtures of two images (ADR 12)
no-feature  without the teacher's feature, by its logits and the labels
no-cells  its feature holds the mean over the last map and nothing of an earlier one (ADR 13)
depth-3   three blocks a group, as ResNet-20, the teacher's last
views-4   asked about four views of each image

The rows `decision CATEGORY` are of the whole student of table 4 that lacks the category: how often ten categories are
named right by the Gaussians alone, by the logits alone, and by both, the logits counting so many times as much. The one
that is shipped is `transfer.head.FUSION`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks import rounds
from benchmarks.cells import Cell
from benchmarks.choices import judges_of_each, new_rows, validation
from benchmarks.judge import percent, served, truth_in
from benchmarks.learner import judged
from benchmarks.measured import Measured
from benchmarks.setting import Setting
from benchmarks.students import Student, key, recipe, student
from benchmarks.table import Table
from cloud_teacher.distil import Recipe
from cloud_teacher.progress import Report
from transfer import tflite
from transfer.bundle import Bundle
from transfer.head import decide
from transfer.preprocess import normalise

SHORT = 12
FUSIONS = (0.5, 1.0, 2.0, 4.0, 8.0)
DECISIONS = ("gaussian", *(f"both_{fusion:g}" for fusion in FUSIONS), "logits")
TABLE = Table("what our own choices are worth, on training images", ("before_old", "before_new", *DECISIONS))

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def cells(setting: Setting) -> list[Cell]:
    """The short trainings, and the ways to decide for the last category; for the others with --new."""
    category = setting.new_category
    known = setting.known_without(category)
    short = [
        Cell(
            f"{name}-{made.schedule.epochs}ep",
            0,
            partial(_taught, setting, made),
            (key(setting, made, "T10"), setting.plan.new_images, setting.plan.sweep_images, rounds.code()),
        )
        for name, made in _recipes(setting, recipe(setting, known)).items()
    ]
    ways = [
        Cell(
            f"decision {other}",
            seed,
            partial(_decided, setting, other, seed),
            (
                key(setting, recipe(setting, setting.known_without(other)), "T10"),
                setting.plan.new_images,
                setting.plan.sweep_images,
                rounds.code(),
                FUSIONS,
            ),
            wanted=setting.new in ("each", other) or (other == category and not setting.new),
        )
        for other in (category, *known)
        for seed in setting.seed_range
    ]
    return [*short, *ways]


def _recipes(setting: Setting, usual: Recipe) -> dict[str, Recipe]:
    """By name, each with one thing otherwise than in the first."""
    epochs = min(SHORT, usual.schedule.epochs)
    short = replace(usual, schedule=replace(usual.schedule, epochs=epochs))
    return {
        "default": short,
        "unmixed": replace(short, mixed=False),
        "no-feature": replace(short, features_weight=0.0),
        "no-cells": replace(short, cells=0),
        "depth-3": replace(short, depth=3),
        "views-4": replace(short, views=4),
    }


def _taught(setting: Setting, made: Recipe, report: Report) -> Measured:
    category = setting.new_category
    begun, data = student(setting, made, "T10"), validation(setting, category)
    fresh, labels = data.test_targets == data.labels.index(category), begun.bundle.manifest.labels
    said = served(begun.bundle, data.test_images[~fresh])
    # The dormant row comes behind those of the known categories.
    dormant = _outputs(begun.bundle, data.test_images[fresh])[0].argmax(axis=1) == len(labels)
    found = judged(_after_round(setting, begun, category, 0), data, (category,))
    before = {"before_old": percent(said == truth_in(data, labels)[~fresh]), "before_new": percent(dormant)}
    return msgspec.structs.replace(found, extra=before)


def _decided(setting: Setting, category: str, seed: int, report: Report) -> Measured:
    begun = student(setting, recipe(setting, setting.known_without(category)), "T10")
    data = validation(setting, category)
    learning = _after_round(setting, begun, category, seed)
    statistics, truth = learning.bundle.statistics(), truth_in(data, learning.labels)
    logits, features = _outputs(learning.bundle, data.test_images)
    scores = {"gaussian": decide("gaussian", statistics, logits, features)}
    scores |= {f"both_{w:g}": decide("fused", statistics, logits, features, fusion=w) for w in FUSIONS}
    scores |= {"logits": decide("logits", statistics, logits, features)}
    right = {name: percent(each.argmax(axis=1) == truth) for name, each in scores.items()}
    return msgspec.structs.replace(judged(learning, data, (category,)), extra=right)


def _after_round(setting: Setting, begun: Student, category: str, seed: int) -> rounds.DeviceRounds:
    learning = rounds.DeviceRounds(setting, begun, seed, "transfer")
    learning.learn(category, shown(setting, category, seed))
    return learning


def shown(setting: Setting, category: str, seed: int) -> Images:
    """The images of the category that a round learns from: others for every seed, and none that `validation` has."""
    rows, count, judging = new_rows(setting, category), setting.plan.new_images, judges_of_each(setting)
    rest = np.concatenate([rows[:count], rows[count + judging :]])
    images: Images = setting.dataset.train_images[rest[seed * count : (seed + 1) * count]]
    return images


def _outputs(model: Bundle, images: Images) -> tuple[Floats, Floats]:
    """logits and features, as a device computes them."""
    return tflite.run(model.read("model.tflite"), normalise(images, model.manifest.input))
