"""Tier `head`: the new category's Gaussian in closed form; the old ones stay as they are. numpy, about a second."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.trainer import candidate
from agent.trainer.inputs import Inputs
from transfer.head import append_row


def learn(inputs: Inputs, chosen: npt.NDArray[np.bool_]) -> None:
    """Write the candidate from the features of the `chosen` [n] samples; no weight but the new row changes."""
    features = inputs.features[chosen]
    weights = inputs.model.weights()
    known = len(inputs.model.manifest.labels)
    row, bias = append_row(weights["linear.weight"][:known], weights["linear.bias"][:known], features.mean(axis=0))
    weights["linear.weight"], weights["linear.bias"] = row.astype(np.float32), bias.astype(np.float32)
    statistics = inputs.model.statistics().with_class(inputs.job.category, features)
    candidate.write(inputs, weights, statistics, expected=None)
