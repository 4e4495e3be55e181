"""Each test gets a fleet of its own; the models are made once a session."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from real_fleet import NEW, TWO_NEW, Fleet, Models

from cloud_teacher.datasets import Dataset, digits
from demo.broker import Broker
from demo.processes import run_with_progress
from transfer import signing


@pytest.fixture(scope="session")
def data() -> Dataset:
    return digits()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache directory that the demo, too, uses in these tests, so that models are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Models:
    home = tmp_path_factory.mktemp("models")
    key = home / "cloud.key"
    signing.generate(key)
    common = ["--data", "digits", "--cache", str(cache), "--json-progress"]
    trained = home / "trained"
    run_with_progress("cloud_teacher", ["teacher", "train", *common, "--out", str(trained)], _quiet, home / "train.log")
    return _compressed(home, cache, key, unknown=NEW)


@pytest.fixture(scope="session")
def models_of_two(models: Models, cache: Path) -> Models:
    """The same teacher, and a student that has seen neither of two digits."""
    return _compressed(models.student.parent, cache, models.key, unknown=",".join(TWO_NEW))


def _compressed(home: Path, cache: Path, key: Path, unknown: str) -> Models:
    student, teacher = home / f"without-{unknown}", home / f"teacher-of-{unknown}"
    arguments = ["teacher", "compress", "--data", "digits", "--cache", str(cache), "--json-progress"]
    arguments += ["--teacher", str(home / "trained"), "--unknown", unknown, "--key", str(key)]
    arguments += ["--out", str(student), "--as-teacher-bundle", str(teacher)]
    run_with_progress("cloud_teacher", arguments, _quiet, home / f"compress-{unknown}.log")
    return Models(student, teacher, key)


def _quiet(*_: object) -> None:
    pass


@pytest.fixture
def make_fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Fleet]]:
    made: list[Fleet] = []

    def make(
        broker: Broker,
        *,
        agent_port: int | None = None,
        of: tuple[Models, Dataset, str] | None = None,
        **overrides: dict[str, Any],
    ) -> Fleet:
        if of is None:
            of = request.getfixturevalue("models"), request.getfixturevalue("data"), NEW
        scene = tmp_path / "scene"
        scene.mkdir()
        key = scene / "operator.key"
        signing.generate(key)
        fleet = Fleet(scene, of[0], of[1], broker.port, agent_port or broker.port, key, overrides, of[2])
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()
