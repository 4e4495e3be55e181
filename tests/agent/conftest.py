"""The tiny world for the tests of the device, and what every trainer of theirs needs: few threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_shop import Shop
from tiny_world import World, make

from agent import workshop
from agent.config import Config, Training


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Bundles that never change; everything that is written goes into a test's own folder."""
    return make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def root() -> Path:
    """The checkout, from which subprocesses import."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def shop(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(workshop, "FIRST_FRAME_WAIT_S", -1.0)  # no camera here: no frame would come
    shop = Shop(world, tmp_path, Config(training=Training(min_samples=8)))
    yield shop
    shop.inference.close()
