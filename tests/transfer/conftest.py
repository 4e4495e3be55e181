from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny_networks

from transfer.spec import NetSpec


@pytest.fixture(scope="session")
def random_weights() -> Callable[[NetSpec, int], tiny_networks.Weights]:
    return tiny_networks.random_weights
