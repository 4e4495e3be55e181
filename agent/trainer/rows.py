"""The last linear layer, before and after learning: a row for every new category, and at the end all in balance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from agent.trainer.inputs import Inputs, Unteachable
from transfer.blueprint import blueprint
from transfer.head import HeadError, grown_rows
from transfer.regression import rebalanced

Floats = npt.NDArray[np.float32]
Weights = dict[str, Floats]


def names(inputs: Inputs) -> tuple[str, str]:
    """Of the layer's weight and bias in the state dict."""
    layer = blueprint(inputs.model.manifest.net).logits
    return f"{layer}.weight", f"{layer}.bias"


def dormant_left(inputs: Inputs) -> tuple[str, ...]:
    """The model's dormant categories that are not being learned."""
    return tuple(name for name in inputs.model.manifest.dormant if name not in inputs.job.categories)


def begun(inputs: Inputs) -> Weights:
    """The model's weights with a row for each new category: the one that the teacher shaped beforehand, if it knew the
    category, else one at the mean of its features. Raises Unteachable."""
    weights = dict(inputs.model.weights())
    weight, bias = names(inputs)
    means: dict[str, Floats | None] = {}
    for index, category in enumerate(inputs.job.categories, inputs.known):
        mine = inputs.features[inputs.of(index)]
        means[category] = mine.mean(axis=0) if len(mine) else None
    try:
        weights[weight], weights[bias], _ = grown_rows(
            weights[weight], weights[bias], inputs.known, inputs.model.manifest.dormant, means
        )
    except HeadError as error:
        raise Unteachable(str(error)) from None
    return weights


def ended(inputs: Inputs, weights: Mapping[str, Floats], features: Floats) -> Weights:
    """The weights with the rows of old and new categories in balance, given the features [n, D] that the network now
    has of the job's samples. The old categories take part as pseudo-features."""
    rows = np.flatnonzero(inputs.train & (inputs.assigned >= 0))
    weight, bias = names(inputs)
    balanced = rebalanced(
        weights[weight],
        weights[bias],
        inputs.model.statistics(),
        features[rows],
        inputs.assigned[rows],
        inputs.job.seed,
    )
    return {**weights, weight: balanced[0], bias: balanced[1]}
