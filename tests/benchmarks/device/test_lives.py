"""Lives begin, end by themselves or are ended, and each is waited for; nobody waits for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.device.commit_points import Plan, folder_for_journals
from benchmarks.device.lives import Beginning, Lives, LivesError


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    opened = Lives(tmp_path / "lives.log")
    yield opened
    opened.close()


def beginning(tmp_path: Path, config: str) -> Beginning:
    (tmp_path / "agent.yaml").write_text(config)
    plan = Plan(str(tmp_path / "state"), str(tmp_path / "journal"), str(folder_for_journals(tmp_path / "aside")))
    return Beginning(str(tmp_path / "agent.yaml"), str(tmp_path / "log"), plan)


def test_a_daemon_that_cannot_start_says_why_and_the_next_may(lives: Lives, tmp_path: Path) -> None:
    for _ in range(2):
        lives.begin(beginning(tmp_path, "source: {kind: radio}"))
        assert lives.ended(30) == 1
        assert lives.kill() == 1, "it ended by itself"
    assert (tmp_path / "log").read_text().count("source.kind") == 2


def test_one_that_is_killed_is_gone(lives: Lives, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    lives.begin(beginning(tmp_path, f"{{source: {{folder: {tmp_path}/in}}, device: {{state_dir: {tmp_path}/state}}}}"))
    lives.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(lives.pid, 0)


def test_the_end_of_the_process_that_forks_is_an_error(lives: Lives, tmp_path: Path) -> None:
    lives.close()
    with pytest.raises((LivesError, BrokenPipeError)):
        lives.begin(beginning(tmp_path, "{}"))
