"""step(state, event) -> (state, commands): every decision of the agent, pure.

`RULES` and `IGNORED` together name every (phase, event) pair. A handler may only reach the phases its table allows,
which `step` checks, and may assume what its phase guarantees (a round exists outside IDLE).
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.config import Config
from agent.core import noticing, orders, preparing, proving, training
from agent.core.events import (
    BudgetMeasured,
    CancelOrdered,
    CandidateJudged,
    CandidateUnusable,
    Event,
    GroupMeasured,
    JobPrepared,
    JobUnpreparable,
    LinkCame,
    LinkWent,
    LiveMeasured,
    NovelSampleStored,
    Probed,
    Promoted,
    PromotionFailed,
    ResumeOrdered,
    RollbackFailed,
    RollbackOrdered,
    RolledBack,
    Started,
    StopOrdered,
    TeacherAnswered,
    TeacherRefused,
    Ticked,
    TrainerEnded,
    TrainerProgressed,
    TriggerArrived,
)
from agent.core.outcome import Given, Handler, Outcome, TransitionError
from agent.core.state import LINK_TRANSITIONS, PHASE_TRANSITIONS, STANDING_TRANSITIONS, Phase, State


def step(state: State, event: Event, config: Config) -> Outcome:
    """Apply one event. Commands are to be executed in order, after the new state has been persisted."""
    kind = type(event)
    handler = RULES[state.phase].get(kind)
    if handler is None:
        if kind not in IGNORED[state.phase]:
            raise TransitionError(f"{kind.__name__} in {state.phase.name} is neither handled nor ignored")
        return state, []
    after, commands = handler(Given(config, event), state)
    _check(state, after)
    return after, commands


def _check(before: State, after: State) -> None:
    pairs: Sequence[tuple[object, object, frozenset[object]]] = (
        (before.phase, after.phase, frozenset(PHASE_TRANSITIONS[before.phase])),
        (before.link, after.link, frozenset(LINK_TRANSITIONS[before.link])),
        (before.models.standing, after.models.standing, frozenset(STANDING_TRANSITIONS[before.models.standing])),
    )
    for old, new, allowed in pairs:
        if new is not old and new not in allowed:
            raise TransitionError(f"{old} -> {new} is not in the table")
    if (after.round is None) != (after.phase is Phase.IDLE):
        raise TransitionError(f"phase {after.phase.name} with round {after.round}")


# ------------------------------------------------------------------------------------------------ the tables

_EVERYWHERE: dict[type[Event], Handler] = {
    Started: orders.started,
    LinkCame: orders.link_came,
    LinkWent: orders.link_went,
    TriggerArrived: orders.trigger,
    CancelOrdered: orders.cancel,
    RollbackOrdered: orders.rollback,
    RolledBack: orders.rolled_back,
    RollbackFailed: orders.rollback_failed,
    Probed: orders.probed,
    ResumeOrdered: orders.resume,
    BudgetMeasured: training.measured,
    NovelSampleStored: orders.count_novel,
    GroupMeasured: noticing.group_measured,
    Promoted: orders.promoted,
}

RULES: dict[Phase, dict[type[Event], Handler]] = {
    Phase.IDLE: {**_EVERYWHERE, Ticked: preparing.idle_ticked},
    Phase.COLLECTING: {
        **_EVERYWHERE,
        NovelSampleStored: preparing.collecting_stored,
        Ticked: preparing.collecting_ticked,
    },
    Phase.AWAITING_TEACHER: {
        **_EVERYWHERE,
        JobPrepared: preparing.job_prepared,
        JobUnpreparable: preparing.job_unpreparable,
        TeacherAnswered: preparing.teacher_answered,
        TeacherRefused: preparing.teacher_refused,
        Ticked: preparing.awaiting_ticked,
    },
    Phase.ADMITTED: {**_EVERYWHERE, BudgetMeasured: training.admitted_measured, Ticked: training.admitted_ticked},
    Phase.TRAINING: {
        **_EVERYWHERE,
        BudgetMeasured: training.training_measured,
        TrainerProgressed: training.training_progressed,
        TrainerEnded: training.training_ended,
        StopOrdered: training.training_stop_ordered,
        Ticked: training.training_ticked,
    },
    Phase.VERIFYING: {
        **_EVERYWHERE,
        CandidateJudged: proving.judged,
        CandidateUnusable: proving.unusable,
        Promoted: proving.promoted,
        PromotionFailed: proving.promotion_failed,
    },
    Phase.PROBATION: {
        **_EVERYWHERE,
        CancelOrdered: orders.cancel_in_probation,
        LiveMeasured: proving.probation_measured,
        Probed: proving.probation_probed,
        Ticked: proving.probation_ticked,
    },
}

_Kinds = frozenset[type[Event]]
_BEFORE_TRAINING: _Kinds = frozenset({JobPrepared, JobUnpreparable, TeacherAnswered, TeacherRefused})
_OF_A_TRAINER: _Kinds = frozenset({TrainerProgressed, TrainerEnded})
_OF_A_JOB = _BEFORE_TRAINING | _OF_A_TRAINER
_OF_A_CANDIDATE: _Kinds = frozenset({CandidateJudged, CandidateUnusable, PromotionFailed})
_OF_THE_MACHINE: _Kinds = frozenset({LiveMeasured, StopOrdered})

IGNORED: dict[Phase, _Kinds] = {
    # What a job or candidate still says after its round has ended (cancelled, timed out) concerns nobody any more.
    Phase.IDLE: _OF_A_JOB | _OF_A_CANDIDATE | _OF_THE_MACHINE,
    Phase.COLLECTING: _OF_A_JOB | _OF_A_CANDIDATE | _OF_THE_MACHINE,
    Phase.AWAITING_TEACHER: _OF_A_TRAINER | _OF_A_CANDIDATE | _OF_THE_MACHINE,
    # An answer may arrive twice, and a trainer stopped by an order of ours may end a moment later.
    Phase.ADMITTED: _OF_A_JOB | _OF_A_CANDIDATE | {LiveMeasured, StopOrdered},
    Phase.TRAINING: _BEFORE_TRAINING | _OF_A_CANDIDATE | {LiveMeasured},
    # Judging and swapping take seconds and always end in an event; there is nothing to time out.
    Phase.VERIFYING: _OF_A_JOB | _OF_THE_MACHINE | {Ticked},
    Phase.PROBATION: _OF_A_JOB | _OF_A_CANDIDATE | {StopOrdered},
}
