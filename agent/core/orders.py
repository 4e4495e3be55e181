"""What may happen in any phase: starts, the link, and the operator's orders."""

from __future__ import annotations

from dataclasses import replace

from agent.core.commands import AskTeacher, Command, JudgeCandidate, ReportEvent, ReportJob, RollBack
from agent.core.events import (
    CancelOrdered,
    NovelSampleStored,
    Promoted,
    RollbackFailed,
    RollbackOrdered,
    RolledBack,
    Started,
    TriggerArrived,
)
from agent.core.learning import begin, end, prepare_job, retry, stop_trainer, to_probation
from agent.core.outcome import Given, Outcome, the_round, update
from agent.core.state import MAX_HANDLED_IDS, MAX_WAITING, Link, Phase, Standing, State, Wish

# ------------------------------------------------------------------------------------------------ in every phase


def started(given: Given, state: State) -> Outcome:
    """Take up the round where it stands; monotonic times of the last life mean nothing now and are re-armed."""
    event = given.event
    assert isinstance(event, Started)
    models = replace(state.models, active=event.active, previous=event.previous, labels=event.labels)
    state = replace(state, models=models, link=Link.DOWN)
    owed: list[Command] = [RollBack(state.owed_rollback_to)] if state.owed_rollback_to is not None else []
    if state.last_ending is not None:
        owed += [state.last_ending.report, state.last_ending.close]
    after, commands = _resume(given, state, event)
    return after, [*owed, *commands]


def _resume(given: Given, state: State, event: Started) -> Outcome:
    if state.round is None:
        return state, []
    models = state.models
    training = given.config.training
    limits = {
        Phase.COLLECTING: training.collect_limit_s,
        Phase.AWAITING_TEACHER: training.admission_limit_s,
        Phase.ADMITTED: training.admission_limit_s,
        Phase.TRAINING: training.admission_limit_s,
        Phase.VERIFYING: training.admission_limit_s,
        Phase.PROBATION: given.config.probation.limit_s,
    }
    state = update(state, deadline_at=event.at + limits[state.phase], not_before_at=event.at, paused=False)
    current = the_round(state)
    if state.phase is Phase.AWAITING_TEACHER:
        if current.prepared:
            return state, [AskTeacher(current.job_id)]
        return state, [prepare_job(current)]
    if state.phase is Phase.TRAINING:
        # The trainer died with the daemon; its checkpoint did not.
        return retry(given, state, "the daemon was restarted during training")
    if state.phase is Phase.VERIFYING:
        if models.candidate is not None and models.candidate == event.active:
            return to_probation(given, state)
        state = replace(state, models=replace(models, candidate=None, standing=Standing.SETTLED))
        return state, [JudgeCandidate(current.job_id)]
    if state.phase is Phase.PROBATION and models.candidate != event.active:
        # The pointer had gone back before the end of the round was written.
        return end(state, "FAILED", "rolled back")
    return state, []


def link_came(given: Given, state: State) -> Outcome:
    state = replace(state, link=Link.UP)
    if state.phase is Phase.AWAITING_TEACHER and the_round(state).prepared:
        return state, [AskTeacher(the_round(state).job_id)]
    return state, []


def link_went(given: Given, state: State) -> Outcome:
    return replace(state, link=Link.DOWN), []


def _remember(state: State, identity: str) -> State:
    return replace(state, handled_ids=(*state.handled_ids, identity)[-MAX_HANDLED_IDS:])


def trigger(given: Given, state: State) -> Outcome:
    """One effect per trigger id, however often it comes: a round, a place in the queue, or a refusal with a reason."""
    event = given.event
    assert isinstance(event, TriggerArrived)
    if event.trigger_id in state.handled_ids:
        return state, []
    state = _remember(state, event.trigger_id)
    wish = Wish(event.trigger_id, event.categories, event.samples_wanted, event.unseen)
    refusal = _refusal(given, state, wish)
    if refusal:
        return state, [ReportJob(wish.trigger_id, wish.categories, "REJECTED", refusal)]
    if state.phase is Phase.IDLE and not state.waiting:
        return begin(given, state, wish)
    state = replace(state, waiting=(*state.waiting, wish))
    return state, [ReportJob(wish.trigger_id, wish.categories, "QUEUED", "another round is under way")]


def _refusal(given: Given, state: State, wish: Wish) -> str:
    """Why a trigger has no round; "" if it has. Whole or not at all: what it asks for is one model."""
    ahead = [*state.waiting] + ([state.round.wish] if state.round else [])
    for category in wish.categories:
        if category in state.models.labels:
            return f"{category!r} is known already"
        if any(category in earlier.categories for earlier in ahead):
            return f"{category!r} is being learned already"
    if len(state.waiting) >= MAX_WAITING:
        return f"{MAX_WAITING} triggers wait already"
    return ""


def cancel(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, CancelOrdered)
    if event.command_id in state.handled_ids:
        return state, []
    state = _remember(state, event.command_id)
    if state.round is None:
        return state, []
    return end(state, "CANCELED", "cancelled by the operator", first=stop_trainer(state))


def cancel_in_probation(given: Given, state: State) -> Outcome:
    """Promoted already: cancelling would have to be a roll back, which is an order of its own."""
    event = given.event
    assert isinstance(event, CancelOrdered)
    return _remember(state, event.command_id), []


def rollback(given: Given, state: State) -> Outcome:
    """Ends whatever round is under way (it builds on the model that is to go) and goes back one generation."""
    event = given.event
    assert isinstance(event, RollbackOrdered)
    if event.command_id in state.handled_ids:
        return state, []
    state = _remember(state, event.command_id)
    commands: list[Command] = []
    previous = state.models.previous
    if previous is None:
        return state, [ReportEvent("rollback_refused", {"reason": "there is no previous generation"})]
    if state.round is not None:
        state, commands = end(state, "CANCELED", "rolled back by the operator", first=stop_trainer(state))
    return replace(state, owed_rollback_to=previous), [*commands, RollBack(previous)]


def rolled_back(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, RolledBack)
    previous = state.models.active if state.models.active != event.generation else state.models.previous
    models = replace(state.models, active=event.generation, previous=previous, labels=event.labels)
    state = replace(state, models=models, owed_rollback_to=None)
    report = ReportEvent("rolled_back", {"generation": event.generation})
    if state.phase is Phase.PROBATION:
        after, commands = end(state, "FAILED", state.reason or "rolled back")
        return after, [report, *commands]
    return state, [report]


def promoted(given: Given, state: State) -> Outcome:
    """A promotion whose round was cancelled while the swap was under way: it is undone."""
    event = given.event
    assert isinstance(event, Promoted)
    if event.generation == state.models.active:
        return state, []
    models = replace(state.models, active=event.generation, previous=event.previous, labels=event.labels)
    return replace(state, models=models, owed_rollback_to=event.previous), [RollBack(event.previous)]


def rollback_failed(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, RollbackFailed)
    state = replace(state, reason=event.reason, owed_rollback_to=None)
    return state, [ReportEvent("rollback_failed", {"reason": event.reason})]


def count_novel(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, NovelSampleStored)
    return replace(state, novel_count=event.count), []
