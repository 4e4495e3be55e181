"""The core's state survives: replaced whole, with a copy behind it, and never a reason not to start."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.state_file import MAX_BYTES, StateFile
from agent.core.commands import CloseJob, ReportJob
from agent.core.facts import Scores
from agent.core.state import Ending, Link, Models, Phase, Round, Standing, State, Wish

FULL = State(
    models=Models(2, 1, 3, Standing.PROVING, ("amber", "teal")),
    phase=Phase.PROBATION,
    link=Link.UP,
    round=Round("job-000001", Wish("t1", ("lime",), 30), "transfer", True, scores=Scores(0.9, 0.8, None, 1.0, 30, 8)),
    waiting=(Wish("t2", ("pink", "grey"), 20, unseen=True),),
    handled_ids=("t1", "t2"),
    last_ending=Ending(ReportJob("t0", ("plum",), "FAILED", "no"), CloseJob("job-000000", False, 3)),
    owed_rollback_to=1,
)


def test_every_part_of_a_state_comes_back(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "state.json").save(FULL)
    assert StateFile(tmp_path / "state.json").load() == FULL


def test_without_a_file_there_is_no_state(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    assert file.load() is None and file.peek() is None and file.quarantined == []


def test_the_same_state_is_not_written_twice(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    assert file.save(FULL)
    written = (tmp_path / "state.json").stat().st_ino
    assert not file.save(FULL)
    assert (tmp_path / "state.json").stat().st_ino == written
    assert file.save(replace(FULL, reason="x"))


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def test_a_torn_file_is_put_aside_and_its_copy_used(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    file.save(FULL)
    file.save(replace(FULL, reason="newer"))
    torn(tmp_path / "state.json")
    again = StateFile(tmp_path / "state.json")
    assert again.peek() == FULL and again.quarantined == [] and (tmp_path / "state.json").exists()
    assert again.load() == FULL
    assert again.quarantined == [tmp_path / "state.json.corrupt"] and again.quarantined[0].exists()


def test_with_both_torn_it_starts_fresh_and_can_save(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    file.save(FULL)
    file.save(replace(FULL, reason="newer"))
    torn(tmp_path / "state.json")
    torn(tmp_path / "state.json.bak")
    again = StateFile(tmp_path / "state.json")
    assert again.load() is None and len(again.quarantined) == 2
    assert again.save(FULL) and StateFile(tmp_path / "state.json").load() == FULL


def test_an_immense_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "state.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert StateFile(tmp_path / "state.json").load() is None


def test_a_disk_that_refuses_is_said_and_the_old_state_stays(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    file = StateFile(folder / "state.json")
    file.save(FULL)
    folder.rename(tmp_path / "gone")
    with pytest.raises(OSError):
        file.save(replace(FULL, reason="newer"))
    (tmp_path / "gone").rename(folder)
    assert StateFile(folder / "state.json").load() == FULL
    assert file.save(replace(FULL, reason="newer"))


def test_endless_nesting_is_a_fresh_start(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b'{"models":' * 20_000)
    assert StateFile(path).peek() is None and StateFile(path).load() is None


@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_a_fresh_start(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any-state.json"
    path.write_bytes(data)
    assert StateFile(path).load() is None


@pytest.mark.spec("7.4")
def test_a_full_disk_spoils_neither_the_state_nor_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(tmp_path / "state.json")
    file.save(FULL)
    file.save(replace(FULL, reason="newer"))

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        for n in range(3):
            with pytest.raises(OSError, match="No space"):
                file.save(replace(FULL, reason=str(n)))
    assert StateFile(tmp_path / "state.json").peek() == replace(FULL, reason="newer")
    assert StateFile(tmp_path / "state.json.bak").peek() is not None
    assert file.save(FULL) and StateFile(tmp_path / "state.json").peek() == FULL


def test_the_copy_costs_no_bytes_and_is_of_the_last_life_too(tmp_path: Path) -> None:
    StateFile(tmp_path / "state.json").save(FULL)
    inode = (tmp_path / "state.json").stat().st_ino
    again = StateFile(tmp_path / "state.json")
    again.load()
    again.save(replace(FULL, reason="newer"))
    assert (tmp_path / "state.json.bak").stat().st_ino == inode
    assert StateFile(tmp_path / "state.json.bak").peek() == FULL


def test_where_a_file_cannot_have_two_names_the_copy_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    file = StateFile(tmp_path / "state.json")
    file.save(FULL)
    file.save(replace(FULL, reason="newer"))
    assert StateFile(tmp_path / "state.json.bak").peek() == FULL
