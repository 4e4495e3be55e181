"""The last linear layer, before and after learning: a row for every new category, and at the end all in balance.

A new category of which there is no sample (`inputs.unsampled`) has the row that a teacher gave it: when the model was
made (a dormant one), or now, by what it says of other images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from agent.trainer.inputs import Inputs, Unteachable
from agent.trainer.teacher import Taught
from transfer import unseen_rows
from transfer.blueprint import blueprint
from transfer.class_statistics import ClassStatistics
from transfer.head import HeadError, grown_rows
from transfer.regression import PSEUDO_FEATURES, rebalanced

Floats = npt.NDArray[np.float32]
Weights = dict[str, Floats]


def names(inputs: Inputs) -> tuple[str, str]:
    """Of the layer's weight and bias in the state dict."""
    layer = blueprint(inputs.model.manifest.net).logits
    return f"{layer}.weight", f"{layer}.bias"


def dormant_left(inputs: Inputs) -> tuple[str, ...]:
    """The model's dormant categories that are not being learned."""
    return tuple(name for name in inputs.model.manifest.dormant if name not in inputs.job.categories)


def begun(inputs: Inputs, taught: Taught | None = None) -> Weights:
    """The model's weights with a row for each new category: the one that the teacher shaped beforehand, if it knew the
    category, else one at the mean of its features, or where it has no sample, one by the teacher's answers. Raises
    Unteachable."""
    weights = dict(inputs.model.weights())
    weight, bias = names(inputs)
    dormant = list(inputs.model.manifest.dormant)
    for category in (inputs.labels[index] for index in inputs.unsampled):
        if taught is None or category in dormant:
            continue
        row = _by_teacher(inputs, weights[weight], weights[bias], taught, category)
        if row is not None:  # from here on it is as if the model had been made with it
            at = inputs.known + len(dormant)
            weights[weight] = np.insert(weights[weight], at, row[0], axis=0)
            weights[bias] = np.insert(weights[bias], at, row[1])
            dormant.append(category)
    means: dict[str, Floats | None] = {}
    for index, category in enumerate(inputs.job.categories, inputs.known):
        mine = inputs.features[inputs.of(index), : weights[weight].shape[1]]
        means[category] = mine.mean(axis=0) if len(mine) else None
    try:
        weights[weight], weights[bias], _ = grown_rows(weights[weight], weights[bias], inputs.known, dormant, means)
    except HeadError as error:
        raise Unteachable(str(error)) from None
    return weights


def _by_teacher(
    inputs: Inputs, weight: Floats, bias: Floats, taught: Taught, category: str
) -> tuple[npt.NDArray[np.floating], float] | None:
    """A row that says of the samples what the teacher's says; None where it cannot be had."""
    labels, there = inputs.model.manifest.labels, taught.labels
    mine = [index for index, label in enumerate(labels) if label in there]
    if category not in there or not mine:
        return None
    said = taught.logits[inputs.used, 0].astype(np.float64)
    known, column = said[:, [there.index(labels[index]) for index in mine]], said[:, there.index(category)]
    return unseen_rows.fitted(weight[mine], bias[mine], inputs.features[inputs.used], known, column)


def ended(inputs: Inputs, weights: Mapping[str, Floats], features: Floats, statistics: ClassStatistics) -> Weights:
    """The weights with the rows of old and new categories in balance, given the features [n, D] that the network now
    has of the job's samples, and the `statistics` of the categories that have any (`candidate.statistics`). The old
    categories take part as pseudo-features. Rows of unsampled categories get their bias last."""
    rows = np.flatnonzero(inputs.train & (inputs.assigned >= 0))
    weight, bias = names(inputs)
    row, offset = weights[weight], weights[bias]
    if len(rows):
        there = [(features[rows], inputs.assigned[rows]), *_expected(inputs, row, statistics)]
        every, which = (np.concatenate(each) for each in zip(*there, strict=True))
        row, offset = rebalanced(row, offset, inputs.model.statistics(), every, which, inputs.job.seed)
    offset, known = offset.copy(), len(statistics.labels)
    for index in inputs.unsampled:
        offset[index] = unseen_rows.levelled(
            statistics, row[:known], offset[:known], row[index], float(offset[index]), inputs.job.seed
        )
    return {**weights, weight: row, bias: offset}


def _expected(inputs: Inputs, row: Floats, statistics: ClassStatistics) -> list[tuple[Floats, npt.NDArray[np.int64]]]:
    """Pseudo-features of each unsampled category and their targets: where its row expects them."""
    drawn = []
    for index in inputs.unsampled:
        grown = unseen_rows.with_expected(statistics, row[: len(statistics.labels)], inputs.labels[index], row[index])
        features = grown.sample(inputs.labels[index], PSEUDO_FEATURES, inputs.job.seed * 100_003 + index)
        drawn.append((features, np.full(PSEUDO_FEATURES, index, np.int64)))
    return drawn
