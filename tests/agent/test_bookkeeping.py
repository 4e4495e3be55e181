"""A decision is written down before it has an effect; where it cannot be, nothing is promised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.state_file import StateFile
from agent.bookkeeping import Bookkeeping
from agent.core import commands as do
from agent.core.state import Models, State

STATE = State(models=Models(active=1))
ORDERED = replace(STATE, handled_ids=("t1",))
REPORT = do.ReportJob("t1", ("lime",), "QUEUED")
WORK = do.AskTeacher("job-000001")


class Disk:
    """A state file in a folder that can be taken away, as a disk is that refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "disk"
        self.folder.mkdir()
        self.path = self.folder / "state.json"
        self.done: list[tuple[do.Command, bool]] = []
        self.books = Bookkeeping(StateFile(self.path), STATE, self._carry_out)

    def _carry_out(self, command: do.Command) -> None:
        self.done.append((command, StateFile(self.path).peek() == ORDERED))

    def refuse(self) -> None:
        self.folder.rename(self.folder.with_name("gone"))

    def recover(self) -> None:
        self.folder.with_name("gone").rename(self.folder)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.mark.spec("7.1", "7.3")
def test_the_state_is_on_disk_when_its_commands_are_carried_out(disk: Disk) -> None:
    disk.books.follow(ORDERED, [WORK, REPORT])
    assert disk.done == [(WORK, True), (REPORT, True)]
    assert disk.books.trouble == (0, "")


@pytest.mark.spec("7.1")
def test_that_an_order_need_not_come_again_is_said_when_its_state_is_on_disk(disk: Disk) -> None:
    said: list[State | None] = []
    disk.books.follow(ORDERED, [], lambda: said.append(StateFile(disk.path).peek()))
    assert said == [ORDERED]

    disk.refuse()
    disk.books.follow(STATE, [], lambda: said.append(StateFile(disk.path).peek()))
    disk.books.catch_up()
    assert said == [ORDERED], "the disk still refuses"
    disk.recover()
    disk.books.catch_up()
    assert said == [ORDERED, STATE]


@pytest.mark.spec("7.1", "7.4")
def test_a_report_waits_for_the_disk_and_the_work_does_not(disk: Disk) -> None:
    disk.refuse()
    disk.books.follow(ORDERED, [WORK, REPORT])
    assert disk.done == [(WORK, False)]
    count, why = disk.books.trouble
    assert count == 1 and "No such file" in why
    disk.books.catch_up()
    assert len(disk.done) == 1
    disk.recover()
    disk.books.catch_up()
    assert disk.done[1:] == [(REPORT, True)] and disk.books.trouble == (2, "")
    disk.books.catch_up()
    assert len(disk.done) == 2


def test_reports_keep_their_order(disk: Disk) -> None:
    disk.refuse()
    later = do.ReportJob("t1", ("lime",), "IN_PROGRESS")
    disk.books.follow(ORDERED, [REPORT])
    disk.books.follow(ORDERED, [later])
    disk.recover()
    disk.books.catch_up()
    assert [command for command, _ in disk.done] == [REPORT, later]


def test_what_is_measured_anew_is_not_written(disk: Disk) -> None:
    disk.books.follow(replace(STATE, novel_count=7, reason="collecting"), [])
    assert not disk.path.exists()
