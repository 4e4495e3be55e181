"""Settled inputs of jobs in the tiny world, as the gradient tiers are given them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_world import NEW, World, images, ready

from agent.trainer.inputs import Inputs

LIME = images(NEW, 24, seed=4)


@pytest.fixture
def prepared(world: World, tmp_path: Path) -> Callable[..., Inputs]:
    """prepared(tier, asked=True, ...) -> the inputs of a job about 24 images of NEW, answered by the teacher where it
    is asked."""

    def prepare(tier: str, *, asked: bool = False, **changes: object) -> Inputs:
        job = world.job(tmp_path / f"jobs-{len(list(tmp_path.iterdir()))}", LIME, tier=tier, **changes)
        if asked:
            world.answer(job)
        return ready(job)

    return prepare
