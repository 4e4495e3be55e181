"""How a round ends, from any phase, and going back where the disk had refused it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.core.commands import CloseJob, Command, JobState, RollBack, StopTrainer
from agent.core.outcome import Given, Outcome, report_of, the_round
from agent.core.state import Ending, Phase, Standing, State


def end(
    state: State, job_state: JobState, detail: str, *, learned: bool = False, first: Sequence[Command] = ()
) -> Outcome:
    """Back to IDLE from any phase; the candidate, if any, is dropped unless it was learned."""
    current = the_round(state)
    models = replace(state.models, candidate=None, standing=Standing.SETTLED)
    # Samples or a budget that do not come in time are no failure: the next round may have them.
    failed = job_state == "FAILED" or (job_state == "TIMED_OUT" and state.phase is Phase.TRAINING)
    failures = 0 if job_state == "SUCCEEDED" else state.failures + failed
    report = report_of(state, job_state, detail)
    close = CloseJob(current.job_id, learned=learned, candidate=state.models.candidate)
    after = replace(
        state,
        phase=Phase.IDLE,
        round=None,
        models=models,
        reason=detail,
        failures=failures,
        last_ending=Ending(report, close),
    )
    return after, [*first, report, close]


def stop_trainer(state: State) -> list[Command]:
    """What must happen to a living trainer before its round may end."""
    return [StopTrainer(the_round(state).job_id)] if state.phase is Phase.TRAINING else []


def roll_back_again(given: Given, state: State) -> Outcome:
    """While a roll back is owed: order it anew where the disk had refused it."""
    if state.owed_rollback_to is None or not 0 < state.owed_again_at <= given.event.at:
        return state, []
    return replace(state, owed_again_at=0.0), [RollBack(state.owed_rollback_to)]
