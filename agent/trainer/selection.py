"""What each of a job's samples is taken to be: of an old category, of a new one, of none known, or of no use.

The buffer holds what looked novel, and some known images always do. A label that a sample came with is believed. Where
it came with none, a teacher that knows the new category decides; where none has answered, the samples that lie together
in feature space are the new category, provided that it is only one.

    assigned = assign(inputs, taught)           int64 [n], see there
    inputs, left_out = settled(inputs, assigned)    what learns is given these inputs
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from agent.trainer.inputs import REFUSED, UNLABELLED, Inputs
from agent.trainer.teacher import Taught
from transfer.class_statistics import ClassStatistics
from transfer.novel_group import largest_cluster

MIN_CHOSEN = 4
"""Fewer training samples than this make no category."""

Assigned = npt.NDArray[np.int64]


def assign(inputs: Inputs, taught: Taught | None) -> Assigned:
    """What each sample is, in the order of `job.sample_ids`:

    k >= 0      the index of its label in `inputs.labels`: the old categories, then `job.categories`
    UNLABELLED  nobody knows, but the teacher was asked about it and it may train by the answer (J1 and Jb, no J3)
    REFUSED     not to be used

    An old category is the label only of samples that came with it: the teacher's word on what the model finds novel is
    reason enough to refuse a sample, not to change a category that is known. A sample that came with a label that is
    neither known nor being learned is refused, whatever it looks like: it waits for its own round. Only where
    `job.use_unlabelled` or `job.unseen` asks for it, and a teacher has answered, are samples UNLABELLED.
    """
    given = np.array(inputs.given, object)
    silent = given == ""
    assigned = np.full(len(given), REFUSED, np.int64)
    for index, label in enumerate(inputs.labels):
        assigned[given == label] = index
    word = by_teacher(taught, inputs.labels, inputs.known) if taught is not None else None
    if word is not None:
        assigned[silent] = np.where(word >= inputs.known, word, REFUSED)[silent]
    elif len(inputs.job.categories) == 1 and not inputs.job.unseen:
        candidates = silent | (assigned == inputs.known)  # those that came with the label say where the others lie
        known, width = inputs.model.statistics(), inputs.model.manifest.net.pooled_width
        members = by_cluster(inputs.features[candidates], known, width)
        assigned[np.flatnonzero(candidates)[members]] = inputs.known
    if taught is not None and (inputs.job.use_unlabelled or inputs.job.unseen):
        assigned[silent & (assigned == REFUSED)] = UNLABELLED
    return assigned


def settled(inputs: Inputs, assigned: Assigned) -> tuple[Inputs, dict[str, int]]:
    """The inputs to learn from, and the categories that are left out with how many training samples each had.

    In them, `job.categories` are those that can be learned (perhaps none): those with MIN_CHOSEN samples to train with
    and at least one to judge by. Samples of the others are REFUSED. With `job.unseen` no category is left out: one with
    too few samples has none, they are UNLABELLED, and it comes behind the others. Only samples of the new categories
    are held out: the others judge nothing.
    """
    holdout = _holdout(inputs, assigned)
    kept: list[int] = []
    unsampled: list[int] = []
    left_out: dict[str, int] = {}
    moved = np.where(assigned < inputs.known, assigned, UNLABELLED if inputs.job.unseen else REFUSED)
    for index, category in enumerate(inputs.job.categories, inputs.known):
        mine = assigned == index
        count = int((mine & ~holdout).sum())
        enough = count >= MIN_CHOSEN and bool((mine & holdout).any())
        if enough:
            moved[mine] = inputs.known + len(kept)
            kept.append(index)
        elif inputs.job.unseen:
            unsampled.append(index)
        else:
            left_out[category] = count
    job = msgspec.structs.replace(
        inputs.job,
        categories=tuple(inputs.labels[index] for index in (*kept, *unsampled)),
        holdout=tuple((holdout & (moved >= inputs.known)).tolist()),
    )
    return dataclasses.replace(inputs, job=job, assigned=moved), left_out


def foreign(inputs: Inputs) -> int:
    """How many samples came with a label that is neither known nor being learned."""
    return sum(label not in ("", *inputs.labels) for label in inputs.given)


def by_teacher(taught: Taught, labels: Sequence[str], known: int) -> Assigned | None:
    """[n]: the index in `labels` of what the teacher's largest logit names, REFUSED where it names something else.
    None where it knows none of the new categories, labels[known:]: it has no word on what they look like."""
    if not set(labels[known:]) & set(taught.labels):
        return None
    place = {label: index for index, label in enumerate(labels)}
    meant = np.array([place.get(label, REFUSED) for label in taught.labels], np.int64)
    word: Assigned = meant[taught.logits[:, 0].argmax(axis=1)]
    return word


def by_cluster(
    features: npt.NDArray[np.float32], known: ClassStatistics, width: int | None = None
) -> npt.NDArray[np.bool_]:
    """[n] mask of the samples in the largest cluster of features [n, D], of which the first `width` numbers are looked
    at: none where nothing lies together, all of them where they are too few to tell."""
    if len(features) < 8:
        return np.ones(len(features), bool)
    return largest_cluster(features, known, width)


def _holdout(inputs: Inputs, assigned: Assigned) -> npt.NDArray[np.bool_]:
    """[n]: who judges. The daemon drew it before anybody knew which sample is of which category. One that has enough
    samples for both is judged by at least one and trained with at least MIN_CHOSEN, chosen by the content's hash."""
    holdout = ~inputs.train
    for index in range(inputs.known, len(inputs.labels)):
        mine = sorted(np.flatnonzero(assigned == index), key=lambda row: inputs.job.sample_ids[row][::-1])
        drawn = int(holdout[mine].sum())
        wanted = min(max(drawn, 1), len(mine) - MIN_CHOSEN)
        if wanted > 0 and wanted != drawn:
            holdout[mine] = False
            holdout[mine[:wanted]] = True
    return holdout
