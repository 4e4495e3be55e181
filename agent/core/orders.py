"""What may happen in any phase: starts, the link, and the operator's orders."""

from __future__ import annotations

from dataclasses import replace

from agent.core.commands import AskTeacher, Command, JudgeCandidate, ReportEvent, ReportJob, RollBack
from agent.core.ending import end, stop_trainer
from agent.core.events import (
    CancelOrdered,
    NovelSampleStored,
    Probed,
    Promoted,
    ResumeOrdered,
    RollbackFailed,
    RollbackOrdered,
    RolledBack,
    Started,
    TriggerArrived,
)
from agent.core.outcome import Given, Outcome, the_round, update
from agent.core.policy import probe_objection
from agent.core.preparing import begin, prepare_job, rounds_stopped
from agent.core.proving import to_probation
from agent.core.state import MAX_HANDLED_IDS, MAX_WAITING, Link, Phase, Standing, State, Wish
from agent.core.training import retry

ROLL_BACK_AGAIN_S = 30.0
"""After so long a disk that refused a roll back is asked again."""

# ------------------------------------------------------------------------------------------------ in every phase


def started(given: Given, state: State) -> Outcome:
    """Take up the round where it stands; monotonic times of the last life mean nothing now and are re-armed."""
    event = given.event
    assert isinstance(event, Started)
    moved = event.active not in (state.models.active, state.models.candidate)
    if event.active not in (state.models.active, state.owed_rollback_to):
        state = replace(state, owed_rollback_to=None)  # overtaken by an order that needed no daemon
    models = replace(state.models, active=event.active, previous=event.previous, labels=event.labels)
    state = replace(state, models=models, link=Link.DOWN, sparing="", owed_again_at=0.0)
    owed: list[Command] = [RollBack(state.owed_rollback_to)] if state.owed_rollback_to is not None else []
    if event.given_up:
        owed.append(ReportEvent("model_given_up", {"generation": event.active, "reason": event.given_up}))
    owed += _answer_again(state)
    if state.last_ending is not None:
        owed += [state.last_ending.report, state.last_ending.close]
    if moved and state.phase not in (Phase.IDLE, Phase.PROBATION):
        why = event.given_up or "rolled back while the daemon was not running"
        after, commands = end(state, "CANCELED", f"the model that it builds on is gone: {why}")
    else:
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
    state = update(
        state,
        deadline_at=event.at + limits[state.phase],
        give_up_at=event.at + training.admission_limit_s,
        not_before_at=event.at,
        paused=False,
        told_to_end="",
    )
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
        return _end_gone_back(state, event.given_up or "rolled back")
    return state, []


def _end_gone_back(state: State, why: str) -> Outcome:
    if the_round(state).cancelled:
        return end(state, "CANCELED", "cancelled by the operator")
    return end(state, "FAILED", why)


def _answer_again(state: State) -> list[Command]:
    """The answer to the last trigger, unless a later report of it says more."""
    answer = state.last_answer
    if answer is None:
        return []
    waiting = {wish.trigger_id for wish in state.waiting}
    if state.round is not None and state.phase in (Phase.COLLECTING, Phase.AWAITING_TEACHER):
        waiting.add(state.round.wish.trigger_id)
    return [answer] if answer.state == "REJECTED" or answer.trigger_id in waiting else []


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
    wish = Wish(event.trigger_id, event.categories, event.samples_wanted, event.unseen)
    after, commands = _taken(given, _remember(state, event.trigger_id), wish)
    answer = next(command for command in commands if isinstance(command, ReportJob))
    return replace(after, last_answer=answer), commands


def _taken(given: Given, state: State, wish: Wish) -> Outcome:
    """Its round begins, it waits for one, or it is refused; a report says which."""
    refusal = _refusal(given, state, wish)
    if refusal:
        return state, [ReportJob(wish.trigger_id, wish.categories, "REJECTED", refusal)]
    stopped = rounds_stopped(given, state) or ("a roll back comes first" if state.owed_rollback_to is not None else "")
    if state.phase is Phase.IDLE and not state.waiting and not stopped:
        return begin(given, state, wish)
    state = replace(state, waiting=(*state.waiting, wish))
    return state, [ReportJob(wish.trigger_id, wish.categories, "QUEUED", stopped or "another round is under way")]


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
    """Promoted already: the round ends when the model from before it serves again."""
    event = given.event
    assert isinstance(event, CancelOrdered)
    if event.command_id in state.handled_ids:
        return state, []
    state, previous = _remember(state, event.command_id), state.models.previous
    if state.owed_rollback_to is not None:
        return state, []
    if previous is None:
        return state, [ReportEvent("rollback_refused", {"reason": "there is no previous generation"})]
    after = update(state, cancelled=True, reason="cancelled; the previous model is taken back")
    return replace(after, owed_rollback_to=previous), [RollBack(previous)]


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
    # First of all, and so that the round's end finds nothing of it in use.
    return replace(state, owed_rollback_to=previous), [RollBack(previous), *commands]


def resume(given: Given, state: State) -> Outcome:
    """The operator has looked into it: rounds that failed are forgotten, and what waits begins with the next tick."""
    event = given.event
    assert isinstance(event, ResumeOrdered)
    if event.command_id in state.handled_ids:
        return state, []
    state = _remember(state, event.command_id)
    stopped = rounds_stopped(given, state)
    state = replace(state, failures=0, reason="" if stopped and state.phase is Phase.IDLE else state.reason)
    return state, [ReportEvent("rounds_resumed", {"waiting": len(state.waiting)})] if stopped else []


def rolled_back(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, RolledBack)
    models = replace(state.models, active=event.generation, previous=event.previous, labels=event.labels)
    state = replace(state, models=models, owed_rollback_to=None, owed_again_at=0.0)
    report = ReportEvent("rolled_back", {"generation": event.generation})
    if state.phase is Phase.PROBATION:
        after, commands = _end_gone_back(state, state.reason or "rolled back")
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
    if event.again and state.owed_rollback_to is not None:
        state = replace(state, owed_again_at=given.event.at + ROLL_BACK_AGAIN_S)
    else:
        state = replace(state, reason=event.reason, owed_rollback_to=None)
    return state, [ReportEvent("rollback_failed", {"reason": event.reason})]


def probed(given: Given, state: State) -> Outcome:
    """Settled long ago: nobody says that the previous model would do better, but an operator should know."""
    event = given.event
    assert isinstance(event, Probed)
    against = probe_objection(given.config.probation, event.misses, event.count)
    if event.generation != state.models.active or not against:
        return state, []
    return state, [ReportEvent("probes_missed", {"generation": event.generation, "reason": against})]


def count_novel(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, NovelSampleStored)
    return replace(state, novel_count=event.count), []
