"""One toy teacher and one cache for all tests of the methods, so that its students are trained once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.setting import Setting
from benchmarks.students import Student, recipe, student
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy

PLAN = replace(toy.PLAN, new_images=16, student=replace(toy.SHORT, epochs=6))
MakeSetting = Callable[..., Setting]


@pytest.fixture(scope="session")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A teacher of all four kinds of stripes."""
    return toy.teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_setting(knowing: Teacher, toy_cache: Path, tmp_path: Path) -> MakeSetting:
    """A setting of a table, with other fields where given; results go to the test's own folder."""
    return lambda table="table4", **changes: toy.setting(
        table, knowing, toy_cache, PLAN, **({"results": tmp_path / "results", "threads": 1} | changes)
    )


@pytest.fixture
def shipped(make_setting: MakeSetting) -> Student:
    """Knows all kinds but the last; its teacher knows them all."""
    setting = make_setting()
    return student(setting, recipe(setting, setting.known_without("plain")), "T10")


@pytest.fixture
def shipped_t9(make_setting: MakeSetting) -> Student:
    """Neither it nor its teacher knows the last kind."""
    setting = make_setting()
    return student(setting, recipe(setting, setting.known_without("plain")), "T9")
