from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from transfer.spec import NetSpec, weight_shapes

Weights = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def random_weights() -> Callable[[NetSpec, int], Weights]:
    """Weights as a trained network may have them: batch norms that are not the identity, activations of order 1."""

    def make(spec: NetSpec, seed: int) -> Weights:
        rng = np.random.default_rng(seed)
        weights: Weights = {}
        for name, shape in weight_shapes(spec).items():
            if len(shape) > 1:
                array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
            elif "bn" in name and name.endswith((".weight", ".running_var")):
                array = rng.uniform(0.5, 1.5, shape)
            else:
                array = rng.standard_normal(shape) / 10
            weights[name] = array.astype(np.float32)
        return weights

    return make
