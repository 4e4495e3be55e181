"""The student itself: which part of the teacher it keeps (arXiv 2201.10947, section 3), and its training.

It is trained against *all* of the teacher's logits, those of categories it must not know included, and against the
teacher's feature: what the teacher sees of a truck in a picture of a car shapes features that later tell trucks apart,
though no truck was ever shown. The extra rows of its last layer are dropped in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cloud_teacher import compute
from cloud_teacher.augmentation import augment
from cloud_teacher.datasets import Dataset
from cloud_teacher.given_shape import GivenShape
from cloud_teacher.progress import Report
from cloud_teacher.teacher_outputs import TeacherOutputs
from cloud_teacher.train import AfterEpoch, Rows, Schedule, identity_of, optimise
from cloud_teacher.zoo import Teacher, fast
from transfer.blueprint import parameters
from transfer.limit import Limit
from transfer.networks import Network, build, weights_of
from transfer.plan import Depth
from transfer.pruning import Plan, filter_widths, plan, shrink, shrunk_spec, widths_within, zero_fractions
from transfer.questions import to_tensor
from transfer.spec import InputSpec
from transfer.taylor import importance
from transfer.trimming import trimmed

Images = npt.NDArray[np.uint8]

PRUNING_BATCH = 128
"""Images over which eq. 2 is averaged: the paper's batch size."""
LOGITS_WEIGHT, FEATURES_WEIGHT, LABELS_WEIGHT = 20.0, 20.0, 0.1
"""Chosen on ResNet-56 and CIFAR-10's training images, a tenth of them held out: 10 epochs give 92.1 % on nine
categories without the features and 93.1 % with them."""
SHALLOW_FEATURES_WEIGHT = 2.0
"""Of a student that keeps less than a quarter of its teacher's blocks: it cannot compute the same feature, and trying
costs it accuracy. Of one block in nine of ResNet-56, chosen likewise: 12 epochs give 85.2 % on ten categories with it,
84.0 with 20, 84.8 with 1 and with none (a held-out tenth, 5,000 images)."""
SILENCE = 1e-3
"""Added to what is divided by: a teacher barely trained may have features that are all but zero."""

Taught = Literal["all", "known", "labels"]


class CompressionError(ValueError):
    """No usable student came of it; the message says why."""


@dataclass(frozen=True)
class Recipe:
    """How to make a student.

    known: the categories the device knows. depth: see `transfer.plan.Depth`. Widths: by `threshold` (P of eq. 2), or to
    fill `most_parameters` or `most_macs`, or the teacher's own. score: what goes first under a limit, filters of many
    `zeros` (the paper), each layer by the same share, or coupled channels by their `gradient`, from where they are
    missed least. views: how many views of each image the teacher is asked about; the epochs go through them in turn.
    holdout_per_class: images set aside for the bundle, to judge candidates on the device by. inherit: start from the
    weights of the kept filters, not from chance. taught: by `all` that the teacher says, by its logits of the `known`
    categories alone, or by the `labels` without a teacher. features_weight: see
    `features_weight`. mixed: where the teacher has more to say than the labels of `known`, every second view is of two
    images at once (see `mixes`). cells: a side, of an earlier map, whose means the packed student's feature holds as
    well; 2 where that keeps its class statistics small if None (see `transfer.cells`). Its training does not know them.
    """

    known: tuple[str, ...]
    schedule: Schedule
    depth: Depth = 1
    threshold: float | None = None
    most_parameters: int | None = None
    views: int = 4
    holdout_per_class: int = 25
    quantise: Literal["none", "dynamic_int8"] = "none"
    inherit: bool = True
    taught: Taught = "all"
    score: Literal["zeros", "gradient"] = "zeros"
    most_macs: int | None = None
    features_weight: float = FEATURES_WEIGHT
    mixed: bool = True
    cells: int | None = None

    def __repr__(self) -> str:
        """Without what is as usual: trainings are named after this text and must be found again."""
        usual = {"features_weight": FEATURES_WEIGHT, "mixed": True, "cells": None}
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        told = (f"{name}={value!r}" for name, value in values.items() if usual.get(name, ...) != value)
        return f"Recipe({', '.join(told)})"


def features_weight(teacher: Sequence[Sequence[int]], depth: Depth) -> float:
    """What the teacher's feature counts in the loss of a student of `depth` blocks a group; `teacher`: its `widths`."""
    deepest = depth if isinstance(depth, int) else max(depth)
    return SHALLOW_FEATURES_WEIGHT if 4 * deepest < max(map(len, teacher)) else FEATURES_WEIGHT


def mixes(recipe: Recipe, labels: Sequence[str]) -> bool:
    """Whether every second view that the student is asked about is of two images at once (`cloud_teacher.mixed_views`):
    where a teacher of these `labels` knows categories that the student is not shown and teaches it about them. Of those
    the student learns more by mixtures; one that is shown them all does not (ADR 12)."""
    return recipe.mixed and recipe.taught == "all" and not set(labels) <= set(recipe.known)


def choose(teacher: Teacher, images: Images, recipe: Recipe) -> Plan:
    """Which blocks and filters the student keeps, judged by one batch of `images`, taken from all over them."""
    batch = images[:: max(1, len(images) // PRUNING_BATCH)][:PRUNING_BATCH]
    judges, limit = to_tensor(batch, teacher.input), _limit(teacher, recipe)
    if recipe.score == "zeros":
        return _by_zeros(teacher, judges, recipe, limit)
    # A threshold counts zeros: it says how large the student is, and the gradient which channels it has.
    limit = limit or Limit(parameters(shrunk_spec(teacher.spec, _by_zeros(teacher, judges, recipe, None))))
    return trimmed(teacher.spec, importance(teacher.net, judges), recipe.depth, limit)


def _by_zeros(teacher: Teacher, judges: Tensor, recipe: Recipe, limit: Limit | None) -> Plan:
    zeros = zero_fractions(teacher.net, judges)
    if recipe.threshold is not None:
        widths = filter_widths(zeros, recipe.threshold)
    elif limit is not None:
        widths = widths_within(teacher.spec, zeros, recipe.depth, limit)
    else:
        widths = {name: share.shape[1] for name, share in zeros.items()}
    return plan(teacher.spec, zeros, recipe.depth, widths)


def _limit(teacher: Teacher, recipe: Recipe) -> Limit | None:
    if sum(given is not None for given in (recipe.threshold, recipe.most_parameters, recipe.most_macs)) > 1:
        raise CompressionError("a student's size is asked for in one way: by a threshold, its parameters or its MACs")
    if recipe.most_parameters is not None:
        return Limit(recipe.most_parameters)
    if recipe.most_macs is not None:
        return Limit(recipe.most_macs, (teacher.input.height, teacher.input.width))
    return None


def distil(
    teacher: Teacher,
    data: Dataset,
    rows: Rows,
    chosen: Plan | GivenShape,
    recipe: Recipe,
    cache_dir: Path | None,
    report: Report,
    after_epoch: AfterEpoch | None = None,
    input: InputSpec | None = None,
) -> Network:
    """The student, with all the teacher's logits, trained on `rows` as the recipe says. Logits that it was not taught
    stay as they were inherited. `input`: what the student takes, where it is not what its teacher takes."""
    torch.manual_seed(recipe.schedule.seed)
    student = fast(_untrained(teacher, chosen, recipe))
    takes = input or teacher.input
    known = torch.tensor([teacher.labels.index(label) for label in data.labels], device=compute.device())
    answering = chosen.feature if isinstance(chosen, GivenShape) else chosen.out[-1]
    kept = torch.tensor(answering, device=compute.device())
    targets = torch.from_numpy(data.train_targets[rows])
    views = min(recipe.views, recipe.schedule.epochs)
    outputs = None
    mixed = mixes(recipe, teacher.labels)
    if recipe.taught != "labels":
        outputs = TeacherOutputs(teacher, data, cache_dir, rows if mixed else None)
        outputs.prepare(views, lambda done, total: report("ask teacher", done, total))

    def loss_of(batch: Rows, epoch: int, random: np.random.Generator) -> Tensor:
        if outputs is None:
            images = augment(data.train_images[rows[batch]], random, flip=data.flip)
        else:
            images = outputs.pictures(epoch % views, rows[batch])
        with compute.rounded():
            mine = student(to_tensor(images, takes).to(compute.device()))
        logits, wanted = mine.logits.float(), targets[torch.from_numpy(batch)].to(compute.device())
        labels: Tensor = functional.cross_entropy(logits[:, known], wanted)
        if outputs is None:
            return labels
        said = outputs.of(epoch % views, rows[batch])
        theirs = said.logits.to(compute.device())
        if outputs.mixes(epoch % views):
            labels = labels.new_zeros(())
        if recipe.taught == "known":
            return LABELS_WEIGHT * labels + LOGITS_WEIGHT * apart(logits[:, known], theirs[:, known])
        features = apart(mine.feature.float()[:, : len(kept)], said.features.to(compute.device())[:, kept])
        return LABELS_WEIGHT * labels + LOGITS_WEIGHT * apart(logits, theirs) + recipe.features_weight * features

    # All that decides the training; how its shape was found and how the student is packed does not.
    weights = (LOGITS_WEIGHT, recipe.features_weight, LABELS_WEIGHT)
    terms = (recipe.schedule, views, recipe.inherit, recipe.taught, *weights, *(["mixed"] if mixed else []))
    identity = identity_of("student", teacher.digest, data.fingerprint, rows.tobytes(), chosen, takes, *terms)
    optimise(
        student,
        len(rows),
        loss_of,
        recipe.schedule,
        stage="train student",
        cache_dir=cache_dir,
        identity=identity,
        report=report,
        after_epoch=after_epoch,
    )
    return student


def apart(mine: Tensor, theirs: Tensor) -> Tensor:
    """Squared distance as a share of theirs: the same weight suits teachers that speak loudly and softly."""
    return (mine - theirs).square().mean() / (theirs.square().mean() + SILENCE)


def _untrained(teacher: Teacher, chosen: Plan | GivenShape, recipe: Recipe) -> Network:
    if isinstance(chosen, GivenShape):
        return Network(chosen.spec)
    spec, weights = shrink(teacher.spec, weights_of(teacher.net), chosen)
    return build(spec, weights) if recipe.inherit else Network(spec)


def narrowed(net: Network, rows: Sequence[int]) -> Network:
    """The network with only these rows of its last layer."""
    weights = weights_of(net)
    for name in (f"{net.blueprint.logits}.weight", f"{net.blueprint.logits}.bias"):
        weights[name] = weights[name][list(rows)]
    return build(msgspec.structs.replace(net.spec, classes=len(rows)), weights)
