"""The tiny world for the tests of the device, and what every trainer of theirs needs: few threads."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_world import World, make


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Bundles that never change; everything that is written goes into a test's own folder."""
    return make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def root() -> Path:
    """The checkout, from which subprocesses import."""
    return Path(__file__).resolve().parents[2]
