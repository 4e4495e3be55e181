"""Something new among what is served: told once when a group of images first shows it, and shown as long as they do."""

from __future__ import annotations

from dataclasses import replace

from agent.core.commands import ReportEvent
from agent.core.events import GroupMeasured
from agent.core.outcome import Given, Outcome
from agent.core.state import State


def group_measured(given: Given, state: State) -> Outcome:
    """Nothing but telling follows: what it is called only an operator knows, and whether it is worth a round."""
    event = given.event
    assert isinstance(event, GroupMeasured)
    view = event.view
    if view.generation != state.models.active:
        return state, []
    if view.chance > given.config.novelty.group_false_alarms:
        return replace(state, noticed=None), []
    told = state.noticed is not None and state.noticed.generation == view.generation
    facts: dict[str, str | int | float | bool | None] = {"images": view.images, "novel": view.novel}
    facts |= {"chance": view.chance, "generation": view.generation}
    return replace(state, noticed=view), [] if told else [ReportEvent("something_new", facts)]
