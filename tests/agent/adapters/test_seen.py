"""Each version of a file is handled once, across restarts and corrupt databases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.seen import SeenFiles


def test_seen_is_this_version_of_this_path(tmp_path: Path) -> None:
    seen = SeenFiles(tmp_path / "seen.db")
    assert not seen.contains("/in/a.png", 10, 20, 30)
    seen.add("/in/a.png", 10, 20, 30)
    for flushed in (False, True):
        if flushed:
            assert seen.flush()
        assert seen.contains(Path("/in/a.png"), 10, 20, 30)
        assert not seen.contains("/in/a.png", 11, 20, 30)
        assert not seen.contains("/in/a.png", 10, 21, 30)
        assert not seen.contains("/in/a.png", 10, 20, 31)
        assert not seen.contains("/in/b.png", 10, 20, 30)
    seen.add("/in/a.png", 11, 21, 30)
    assert seen.contains("/in/a.png", 11, 21, 30) and not seen.contains("/in/a.png", 10, 20, 30)


def test_only_what_was_flushed_survives(tmp_path: Path) -> None:
    seen = SeenFiles(tmp_path / "seen.db")
    seen.add("/in/a", 1, 1, 1)
    seen.flush()
    seen.add("/in/b", 2, 2, 2)
    again = SeenFiles(tmp_path / "seen.db")
    assert again.contains("/in/a", 1, 1, 1) and not again.contains("/in/b", 2, 2, 2)
    seen.close()
    assert again.contains("/in/b", 2, 2, 2)


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    seen = SeenFiles(tmp_path / "seen.db")
    name = os.fsdecode(b"/in/\xff\xfe.png")
    seen.add(name, 1, 2, 3)
    seen.flush()
    assert SeenFiles(tmp_path / "seen.db").contains(name, 1, 2, 3)


def test_prune_forgets_what_is_gone(tmp_path: Path) -> None:
    seen = SeenFiles(tmp_path / "seen.db")
    for n in range(1000):
        seen.add(f"/in/{n}", n, n, n)
    seen.flush()
    assert seen.prune(Path(f"/in/{n}") for n in range(0, 1000, 10)) == 900
    assert seen.contains("/in/10", 10, 10, 10) and not seen.contains("/in/11", 11, 11, 11)
    assert seen.prune([]) == 100  # a second time: the temporary table of the first is gone


def test_prune_with_an_interrupted_listing_forgets_nothing(tmp_path: Path) -> None:
    seen = SeenFiles(tmp_path / "seen.db")
    seen.add("/in/a", 1, 1, 1)
    seen.flush()

    def listing() -> list[str]:
        raise InterruptedError

    assert seen.prune(path for path in iter(listing, None)) == 0
    assert seen.contains("/in/a", 1, 1, 1)


def test_a_corrupt_database_does_not_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "seen.db").write_bytes(b"\x00garbage" * 1000)
    seen = SeenFiles(tmp_path / "seen.db")
    assert seen.quarantined == tmp_path / "seen.db.corrupt-1"
    seen.add("/in/a", 1, 1, 1)
    assert seen.flush() and seen.contains("/in/a", 1, 1, 1)


def test_without_a_disk_it_works_from_memory_and_keeps_for_later(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_bytes(b"")
    seen = SeenFiles(blocked / "seen.db")
    seen.add("/in/a", 1, 1, 1)
    assert not seen.flush()
    assert seen.contains("/in/a", 1, 1, 1)
    blocked.unlink()
    assert seen.flush()
    assert SeenFiles(blocked / "seen.db").contains("/in/a", 1, 1, 1)


def test_many_are_looked_up_at_once(tmp_path: Path) -> None:
    seen = SeenFiles(tmp_path / "seen.db")
    files = [(f"/in/{n}", (n, n, n)) for n in range(9)]
    for flushed, (path, stamp) in enumerate(files[::2]):
        seen.add(path, *stamp)
        if flushed % 2:
            seen.flush()
    rewritten = ("/in/4", (4, 5, 4))
    assert seen.new_among([*files, rewritten]) == ["/in/1", "/in/3", "/in/5", "/in/7", "/in/4"]
    assert seen.new_among([]) == []


_stamp = st.tuples(*[st.integers(0, 2**62)] * 3)


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(st.tuples(st.sampled_from("abc"), _stamp, st.booleans()), max_size=15))
def test_it_agrees_with_a_dict(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, tuple[int, int, int], bool]]
) -> None:
    folder = tmp_path_factory.mktemp("seen")
    seen, model = SeenFiles(folder / "seen.db"), dict[str, tuple[int, int, int]]()
    for path, stamp, flush in steps:
        assert seen.contains(path, *stamp) == (model.get(path) == stamp)
        seen.add(path, *stamp)
        model[path] = stamp
        if flush:
            seen.flush()
    seen.close()
    reopened = SeenFiles(folder / "seen.db")
    assert all(reopened.contains(path, *stamp) for path, stamp in model.items())


@pytest.mark.spec("7.1", "9.4")
def test_a_file_is_written_down_only_when_its_image_is_done_with(tmp_path: Path) -> None:
    """Cut off between the two, it must be handled again."""
    counts = {"taken": 0, "done": 0}
    seen = SeenFiles(tmp_path / "seen.db")
    seen.follow(lambda: counts["taken"], lambda: counts["done"])
    for path in "abc":
        counts["taken"] += 1
        seen.add(path, 1, 1, 1)
        assert seen.contains(path, 1, 1, 1)
    known = []
    for counts["done"] in range(4):
        assert seen.flush()
        after_a_cut = SeenFiles(tmp_path / "seen.db")
        known.append([path for path in "abc" if after_a_cut.contains(path, 1, 1, 1)])
    assert known == [[], ["a"], ["a", "b"], ["a", "b", "c"]]
