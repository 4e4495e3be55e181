"""A round once there is a candidate: judging it, swapping it in, watching it."""

from __future__ import annotations

from dataclasses import replace

from agent.core import policy
from agent.core.commands import Promote, ReportEvent, RollBack
from agent.core.ending import end, roll_back_again
from agent.core.events import CandidateJudged, CandidateUnusable, LiveMeasured, Probed, Promoted, PromotionFailed
from agent.core.outcome import Given, Outcome, report_of, the_round, update
from agent.core.state import Phase, Standing, State


def judged(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, CandidateJudged)
    if event.job_id != the_round(state).job_id or state.models.standing is not Standing.SETTLED:
        return state, []
    models = replace(state.models, candidate=event.generation, standing=Standing.OFFERED)
    state = update(replace(state, models=models), scores=event.scores, left_out=event.left_out)
    against = policy.gate_objection(given.config.gate, event.scores, unseen=the_round(state).wish.unseen)
    if against:
        return end(state, "FAILED", f"the candidate did not pass the gate: {against}")
    return replace(state, reason="swapping"), [Promote(event.generation)]


def unusable(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, CandidateUnusable)
    if event.job_id != the_round(state).job_id:
        return state, []
    return end(state, "FAILED", f"the candidate cannot be used: {event.reason}")


def promoted(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, Promoted)
    if event.generation != state.models.candidate:
        return state, []
    models = replace(state.models, active=event.generation, previous=event.previous, labels=event.labels)
    return to_probation(given, replace(state, models=models))


def to_probation(given: Given, state: State) -> Outcome:
    models = replace(state.models, standing=Standing.PROVING)
    after = update(
        replace(state, models=models),
        phase=Phase.PROBATION,
        reason="on probation",
        deadline_at=given.event.at + given.config.probation.limit_s,
    )
    report = ReportEvent("promoted", {"generation": models.active, "categories": ", ".join(_learned(state))})
    return after, [report, report_of(after, "IN_PROGRESS", "swapped; on probation")]


def promotion_failed(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, PromotionFailed)
    if event.generation != state.models.candidate:
        return state, []
    return end(state, "FAILED", f"the swap failed: {event.reason}")


def probation_measured(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, LiveMeasured)
    if event.view.generation != state.models.active or state.owed_rollback_to is not None:
        return state, []
    against = policy.live_objection(given.config.probation, event.view)
    if against and state.models.previous is not None:
        return _regressed(state, against)
    if event.view.frames >= given.config.probation.frames:
        return _settle(state)
    return state, []


def probation_probed(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, Probed)
    if event.generation != state.models.active or state.owed_rollback_to is not None:
        return state, []
    against = policy.probe_objection(given.config.probation, event.misses, event.count)
    return _regressed(state, against) if against and state.models.previous is not None else (state, [])


def _regressed(state: State, against: str) -> Outcome:
    previous = state.models.previous
    assert previous is not None
    return replace(state, reason=f"rolled back: {against}", owed_rollback_to=previous), [RollBack(previous)]


def probation_ticked(given: Given, state: State) -> Outcome:
    if state.owed_rollback_to is not None:
        return roll_back_again(given, state)
    return _settle(state) if given.event.at >= the_round(state).deadline_at else (state, [])


def _learned(state: State) -> list[str]:
    """What the candidate knows of what was wished for."""
    current = the_round(state)
    return [category for category in current.wish.categories if category not in current.left_out]


def _settle(state: State) -> Outcome:
    learned, left_out = _learned(state), the_round(state).left_out
    detail = f"{', '.join(map(repr, learned))} {'is' if len(learned) == 1 else 'are'} learned"
    if left_out:
        detail += f"; left out for want of samples: {', '.join(map(repr, left_out))}"
    return end(state, "SUCCEEDED", detail, learned=True)
