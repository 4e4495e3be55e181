"""Something new is told once when groups begin to show it, and shown as long as they do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config import Config, Novelty
from agent.core import commands as do
from agent.core import events as ev
from agent.core.facts import GroupView
from agent.core.state import Models, Phase, State, durable
from agent.core.step import IGNORED, RULES, step

IDLE = State(models=Models(active=2, previous=1, labels=("a", "b")))
NEW, KNOWN = GroupView(500, 61, 1e-4, 2), GroupView(500, 24, 0.4, 2)


def after(*views: GroupView, state: State = IDLE, config: Config | None = None) -> tuple[State, list[do.Command]]:
    told: list[do.Command] = []
    for view in views:
        state, commands = step(state, ev.GroupMeasured(1, view), config or Config())
        told += commands
    return state, told


@pytest.mark.spec("18.5")
def test_it_is_told_once_and_shown_as_long_as_groups_show_it() -> None:
    state, told = after(NEW, replace(NEW, novel=70))
    assert told == [
        do.ReportEvent("something_new", {"images": 500, "novel": 61, "chance": 1e-4, "generation": 2}),
    ]
    assert state.noticed is not None and state.noticed.novel == 70
    assert after(NEW, KNOWN)[0].noticed is None
    assert len(after(NEW, KNOWN, NEW)[1]) == 2


def test_known_images_are_nothing_to_tell() -> None:
    assert after(KNOWN) == (IDLE, [])


def test_how_sure_it_must_be_is_configured() -> None:
    strict = Config(novelty=Novelty(group_false_alarms=1e-5))
    assert after(NEW, config=strict) == (IDLE, [])
    lenient = Config(novelty=Novelty(group_false_alarms=0.01))
    assert after(replace(NEW, chance=0.01), config=lenient)[1]
    assert not after(replace(NEW, chance=0.0101), config=lenient)[1]


def test_another_model_s_group_says_nothing_about_this_one() -> None:
    state, told = after(NEW, replace(KNOWN, generation=1))
    assert state.noticed == NEW and len(told) == 1
    # To the next model it is news again.
    grown = replace(state, models=replace(state.models, active=3))
    assert len(after(replace(NEW, generation=3), state=grown)[1]) == 1


def test_it_is_no_reason_to_write_to_the_card() -> None:
    assert durable(after(NEW)[0]) == durable(IDLE)


@pytest.mark.parametrize("phase", list(Phase))
def test_it_may_happen_in_any_phase(phase: Phase) -> None:
    assert ev.GroupMeasured in RULES[phase] and ev.GroupMeasured not in IGNORED[phase]
