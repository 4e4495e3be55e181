"""Under a teacher's digest lies that teacher, whole, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_world import World

from agent.adapters.teacher_shelf import TeacherShelf
from transfer import bundle
from transfer.bundle import BundleError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "teachers"


def test_what_was_taken_in_is_found(folder: Path, world: World) -> None:
    shelf = TeacherShelf(folder, (world.public,))
    digest = world.digest_of_teacher
    assert shelf.find(digest) is None
    home = shelf.take_in(bundle.pack(world.teacher), digest)
    assert shelf.find(digest) == TeacherShelf(folder, (world.public,)).find(digest) == home


def test_another_than_was_asked_for_is_not_kept(folder: Path, world: World) -> None:
    with pytest.raises(BundleError, match="not the teacher asked for"):
        TeacherShelf(folder, (world.public,)).take_in(bundle.pack(world.teacher), "0" * 64)
    assert list(folder.iterdir()) == []


@pytest.mark.spec("4.1")
def test_a_damaged_one_goes_to_be_fetched_again(folder: Path, world: World) -> None:
    shelf = TeacherShelf(folder, (world.public,))
    home = shelf.take_in(bundle.pack(world.teacher), world.digest_of_teacher)
    (home / bundle.WEIGHTS).write_bytes(b"bit rot")
    assert shelf.find(world.digest_of_teacher) is None
    assert list(folder.iterdir()) == []
    assert shelf.take_in(bundle.pack(world.teacher), world.digest_of_teacher) == home


def test_one_that_nobody_trusts_any_more_is_not_used(folder: Path, world: World) -> None:
    TeacherShelf(folder, (world.public,)).take_in(bundle.pack(world.teacher), world.digest_of_teacher)
    assert TeacherShelf(folder, ("0" * 64,)).find(world.digest_of_teacher) is None


def test_what_a_power_cut_left_half_done_goes_at_the_start(folder: Path, world: World) -> None:
    for name in (".0a.x.tmp", f"{world.digest_of_teacher}.arrived", ".0a.removed"):
        (folder / name).mkdir(parents=True)
    shelf = TeacherShelf(folder, (world.public,))
    assert list(folder.iterdir()) == []
    assert shelf.find(world.digest_of_teacher) is None


def test_the_newest_stays_whatever_its_size(folder: Path, world: World) -> None:
    shelf = TeacherShelf(folder, (world.public,), max_bytes=1)
    assert shelf.take_in(bundle.pack(world.teacher), world.digest_of_teacher).exists()
