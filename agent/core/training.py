"""A round while it may train: waiting for the budget, training, pausing, trying again."""

from __future__ import annotations

from dataclasses import replace

from agent.core import budget, policy
from agent.core.commands import (
    JudgeCandidate,
    KillTrainer,
    PauseTrainer,
    ReportEvent,
    ResumeTrainer,
    StartTrainer,
    StopTrainer,
)
from agent.core.ending import end
from agent.core.events import BudgetMeasured, Started, TrainerEnded, TrainerProgressed
from agent.core.outcome import Given, Outcome, report_of, the_round, update
from agent.core.state import Phase, State


def measured(given: Given, state: State) -> Outcome:
    """In every phase: whether the card is to be spared."""
    event = given.event
    assert isinstance(event, BudgetMeasured)
    sparing = budget.to_spare(given.config.budget, event.reading, already=state.sparing != "")
    after = replace(state, sparing=budget.refreshed(state.sparing, sparing))
    if sparing and not state.sparing:
        return after, [ReportEvent("writes_suspended", {"reason": sparing})]
    return after, [ReportEvent("writes_resumed")] if state.sparing and not sparing else []


def admitted_measured(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, BudgetMeasured)
    state, told = measured(given, state)
    current = the_round(state)
    if event.at < current.not_before_at:
        return state, told
    against = budget.objection(given.config.budget, event.reading, training=False)
    if against:
        return replace(state, reason=budget.refreshed(state.reason, f"not training: {against}")), told
    after = update(
        state,
        phase=Phase.TRAINING,
        reason=_training(given, event),
        paused=False,
        told_to_end="",
        heard_at=event.at,
        deadline_at=event.at + given.config.training.time_limit_s,
    )
    return after, [*told, report_of(after, "IN_PROGRESS", after.reason), StartTrainer(current.job_id, current.tier)]


def _training(given: Given, event: BudgetMeasured) -> str:
    return "training" + budget.caveat(given.config.budget, event.reading)


def admitted_ticked(given: Given, state: State) -> Outcome:
    if given.event.at < the_round(state).deadline_at:
        return state, []
    return end(state, "TIMED_OUT", f"the budget never admitted it: {state.reason}")


def training_measured(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, BudgetMeasured)
    state, told = measured(given, state)
    current = the_round(state)
    if current.told_to_end:
        return state, told
    limits = given.config.budget
    too_much = budget.must_end(limits, event.reading)
    if too_much:
        after, commands = _tell_to_end(state, too_much, blamed=not current.paused)
        return after, [*told, *commands]
    against = budget.objection(limits, event.reading, training=True, resuming=current.paused)
    if against and not current.paused:
        after = update(state, paused=True, paused_at=event.at, reason=f"paused: {against}")
        return after, [*told, PauseTrainer(current.job_id)]
    if against:
        return replace(state, reason=budget.refreshed(state.reason, f"paused: {against}")), told
    if current.paused:
        # Time spent paused is the budget's, not the trainer's.
        deadline_at = current.deadline_at + max(0.0, event.at - current.paused_at)
        after = update(state, paused=False, heard_at=event.at, deadline_at=deadline_at, reason=_training(given, event))
        return after, [*told, ResumeTrainer(current.job_id)]
    return state, told


def _tell_to_end(state: State, why: str, *, blamed: bool) -> Outcome:
    """The round goes on with another trainer, from the checkpoint that this one leaves."""
    after = update(state, told_to_end=why, blamed=blamed, reason=f"ending the trainer: {why}")
    return after, [StopTrainer(the_round(state).job_id)]


def training_progressed(given: Given, state: State) -> Outcome:
    """Progress beyond what earlier attempts reached clears their count: being killed often is not a crash loop."""
    event = given.event
    assert isinstance(event, TrainerProgressed)
    current = the_round(state)
    if event.job_id != current.job_id:
        return state, []
    state = update(state, heard_at=event.at)
    if event.stage != "train" or event.done <= current.progress:
        return state, []
    give_up_at = event.at + given.config.training.admission_limit_s
    return update(state, progress=event.done, attempts=0, give_up_at=give_up_at), []


def training_ended(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, TrainerEnded)
    current = the_round(state)
    if event.job_id != current.job_id:
        return state, []
    if event.outcome == "finished":
        after = update(state, phase=Phase.VERIFYING, reason="judging the candidate", paused=False)
        return after, [JudgeCandidate(current.job_id)]
    as_told = event.outcome == "stopped" or (current.told_to_end != "" and event.outcome == "hung")
    if as_told and current.told_to_end and current.blamed:
        return retry(given, state, current.told_to_end)
    if as_told:
        after = update(
            state,
            phase=Phase.ADMITTED,
            reason=f"set aside, goes on from its checkpoint: {current.told_to_end or 'the trainer was stopped'}",
            paused=False,
            told_to_end="",
            deadline_at=current.give_up_at,  # not for ever: a machine may be too hot each time before it gets anywhere
        )
        return after, []
    why = f"the trainer {policy.ENDS[event.outcome]}" + (f" ({event.detail})" if event.detail else "")
    tier = policy.tier_after_crash(current.tier, event.outcome)
    return retry(given, update(state, tier=tier), why)


def retry(given: Given, state: State, why: str) -> Outcome:
    training = given.config.training
    attempts = the_round(state).attempts + 1
    if attempts >= training.attempts:
        return end(state, "FAILED", f"{why}; {attempts} attempts without progress")
    wait_s = policy.backoff_s(training.backoff_s, attempts)
    # A restart of the daemon is not the trainer's fault: the first one costs no wait.
    if isinstance(given.event, Started) and attempts == 1:
        wait_s = 0.0
    after = update(
        state,
        phase=Phase.ADMITTED,
        attempts=attempts,
        paused=False,
        told_to_end="",
        reason=f"{why}; attempt {attempts + 1} of {training.attempts} in {wait_s:.0f} s",
        not_before_at=given.event.at + wait_s,
        deadline_at=given.event.at + training.admission_limit_s,
    )
    return after, [ReportEvent("training_interrupted", {"reason": why, "attempts": attempts})]


def training_ticked(given: Given, state: State) -> Outcome:
    current = the_round(state)
    training, at = given.config.training, given.event.at
    if current.told_to_end:
        return state, []
    if current.paused:
        paused_s = at - current.paused_at
        if paused_s < budget.LONGEST_PAUSE_S:
            return state, []
        return _tell_to_end(state, state.reason, blamed=False)
    if at >= current.deadline_at:
        why = f"training exceeded {training.time_limit_s:.0f} s"
        return end(state, "TIMED_OUT", why, first=[StopTrainer(current.job_id)])
    if at - current.heard_at >= training.hang_s:
        # Armed again: should its end not be reported, it is killed again.
        return update(state, heard_at=at), [KillTrainer(current.job_id)]
    return state, []


def training_stop_ordered(given: Given, state: State) -> Outcome:
    return _tell_to_end(state, "the daemon is stopping", blamed=False)
