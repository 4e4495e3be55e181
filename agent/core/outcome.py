"""What every handler of the core takes and gives, and the few words they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.config import Config
from agent.core.commands import Command, JobState, ReportJob
from agent.core.events import Event
from agent.core.state import Phase, Round, State

Outcome = tuple[State, list[Command]]


class TransitionError(AssertionError):
    """A handler left its table: a defect of the core, never of an input."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a handler is given besides the state."""

    config: Config
    event: Event


Handler = Callable[[Given, State], Outcome]


def the_round(state: State) -> Round:
    if state.round is None:
        raise TransitionError(f"no round in {state.phase.name}")
    return state.round


def update(state: State, *, reason: str | None = None, phase: Phase | None = None, **changes: object) -> State:
    """`state` with changes to its round, and perhaps another phase or reason."""
    current = dataclasses.replace(the_round(state), **changes)  # type: ignore[arg-type]
    return replace(
        state,
        round=current,
        phase=state.phase if phase is None else phase,
        reason=state.reason if reason is None else reason,
    )


def report_of(state: State, job_state: JobState, detail: str = "") -> ReportJob:
    current = the_round(state)
    return ReportJob(
        trigger_id=current.wish.trigger_id,
        categories=current.wish.categories,
        state=job_state,
        detail=detail,
        left_out=current.left_out,
        scores=current.scores,
        generation=state.models.candidate,
    )
