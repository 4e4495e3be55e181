"""Every figure counts its own kind of fault; and what a daemon's log says of damage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.device.powercut import TARGETS, findings
from benchmarks.device.powercut_lane import Lane, Tally, is_damage, together
from benchmarks.device.promises import Promises


def lane(tally: Tally, promises: Promises | None = None) -> Lane:
    return cast(Lane, SimpleNamespace(tally=tally, promises=promises or Promises()))


def test_figures_are_of_all_lanes_together() -> None:
    first = Tally(kills=3, starts=2, cuts=1, corrupt=["torn"])
    first.passed.update({"rename a": 5, "sync a": 2})
    first.hits.update({"rename a": 1})
    second = Tally(kills=4, starts=4, cuts=2, no_active_model=["none"])
    second.passed.update({"rename a": 1})
    promises = Promises(broken=["sample", "order"], repeated=["round"])
    found = findings([lane(first), lane(second, promises)], 12.0)
    assert found.figures == {
        "kills": 7,
        "corrupt": 1,
        "lost_acked": 2,
        "no_active_model": 1,
        "duplicated_effects": 1,
        "seconds": 12.0,
        "cuts": 3,
        "starts": 6,
        "commit_points": 2,
        "commit_points_hit": 1,
    }
    assert {row["commit point"]: (row["passed"], row["killed at"]) for row in found.rows} == {
        "rename a": (6, 1),
        "sync a": (2, 0),
    }
    assert sum(note.startswith("WRONG") for note in found.notes) == 5
    assert set(TARGETS.values()) == {0.0} and set(TARGETS) <= set(found.figures)


def test_a_faultless_run_has_nothing_wrong() -> None:
    found = findings([lane(Tally(kills=1))], 1.0)
    assert all(found.figures[name] == 0 for name in TARGETS)
    assert not any("WRONG" in note for note in found.notes)


def test_lanes_stay_as_they_are_when_they_are_added_up() -> None:
    one = Tally(kills=1, corrupt=["a"])
    together([lane(one), lane(Tally(kills=2, corrupt=["b"]))])
    assert one.corrupt == ["a"] and one.kills == 1


@pytest.mark.parametrize(
    ("line", "damage"),
    [
        ('{"event": "database_quarantined", "which": "samples"}', True),
        ('{"event": "state_quarantined"}', True),
        ('{"event": "model_store_repaired", "what": "generation 2 does not verify (missing): gone"}', True),
        ('{"event": "model_store_repaired", "what": "removed .000002.tmp, left over"}', False),
        ('{"event": "trainer_ended", "detail": "cannot be read: Traceback"}', False),
        ("Traceback (most recent call last):", True),
        ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", False),
        ("[1, 2]", False),
    ],
)
def test_what_counts_as_damage(line: str, damage: bool) -> None:
    assert is_damage(line) is damage


def test_the_command_line_takes_a_number_of_kills(capsys: pytest.CaptureFixture[Any]) -> None:
    from benchmarks.device import command

    with pytest.raises(SystemExit):
        command.main("powercut", ["--help"])
    assert "--kills N" in capsys.readouterr().out
