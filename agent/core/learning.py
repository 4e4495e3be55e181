"""The learning round, phase by phase: what each event means while it is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.core import policy
from agent.core.commands import (
    AskTeacher,
    CloseJob,
    Command,
    JobState,
    JudgeCandidate,
    PauseTrainer,
    PrepareJob,
    Promote,
    ReportEvent,
    ResumeTrainer,
    RollBack,
    StartTrainer,
    StopTrainer,
)
from agent.core.events import (
    BudgetMeasured,
    CandidateJudged,
    CandidateUnusable,
    JobPrepared,
    JobUnpreparable,
    LiveMeasured,
    NovelSampleStored,
    Promoted,
    PromotionFailed,
    Started,
    TeacherAnswered,
    TeacherRefused,
    TrainerEnded,
    TrainerProgressed,
)
from agent.core.outcome import Given, Outcome, report_of, the_round, update
from agent.core.state import Ending, Link, Phase, Round, Standing, State, Wish

# ------------------------------------------------------------------------------------------------ beginning and ending


def begin(given: Given, state: State, wish: Wish) -> Outcome:
    """IDLE only: a round for `wish`. Goes on at once where enough samples are buffered already."""
    tier = policy.tier_for(given.config)
    number = state.rounds_begun + 1
    current = Round(
        job_id=f"job-{number:06d}",
        wish=wish,
        tier=tier,
        needs_teacher=policy.needs_teacher(given.config, tier),
        deadline_at=given.event.at + given.config.training.collect_limit_s,
    )
    begun = replace(
        state,
        phase=Phase.COLLECTING,
        round=current,
        rounds_begun=number,
        reason=f"collecting samples of {wish}",
    )
    report = report_of(begun, "QUEUED", f"{state.novel_count} of {wish.samples_wanted} samples")
    if state.novel_count >= wish.samples_wanted:
        after, commands = prepare(given, begun)
        return after, [report, *commands]
    return begun, [report]


def prepare(given: Given, state: State) -> Outcome:
    current = the_round(state)
    after = update(
        state,
        phase=Phase.AWAITING_TEACHER,
        reason="preparing the job",
        prepared=False,
        deadline_at=given.event.at + given.config.training.admission_limit_s,
    )
    return after, [prepare_job(current)]


def prepare_job(current: Round) -> PrepareJob:
    wish = current.wish
    return PrepareJob(current.job_id, wish.categories, wish.samples_wanted, current.tier, wish.unseen)


def end(
    state: State, job_state: JobState, detail: str, *, learned: bool = False, first: Sequence[Command] = ()
) -> Outcome:
    """Back to IDLE from any phase; the candidate, if any, is dropped unless it was learned."""
    current = the_round(state)
    models = replace(state.models, candidate=None, standing=Standing.SETTLED)
    failures = 0 if job_state == "SUCCEEDED" else state.failures + (job_state in ("FAILED", "TIMED_OUT"))
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


# ------------------------------------------------------------------------------------------------ IDLE


def idle_ticked(given: Given, state: State) -> Outcome:
    if not state.waiting:
        return state, []
    wish, *rest = state.waiting
    return begin(given, replace(state, waiting=tuple(rest)), wish)


# ------------------------------------------------------------------------------------------------ COLLECTING


def collecting_stored(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, NovelSampleStored)
    state = replace(state, novel_count=event.count)
    if event.count >= the_round(state).wish.samples_wanted:
        return prepare(given, state)
    return state, []


def collecting_ticked(given: Given, state: State) -> Outcome:
    current = the_round(state)
    if given.event.at < current.deadline_at:
        return state, []
    if state.novel_count >= given.config.training.min_samples:
        return prepare(given, state)
    return end(state, "TIMED_OUT", f"only {state.novel_count} samples of {current.wish} came in time")


# ------------------------------------------------------------------------------------------------ AWAITING_TEACHER


def job_prepared(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, JobPrepared)
    current = the_round(state)
    if event.job_id != current.job_id:
        return state, []
    state = update(state, prepared=True)
    if not current.needs_teacher:
        return _admit(given, state, f"{event.samples} samples ready")
    after = update(
        state,
        reason=f"waiting for the teacher's answer about {event.samples} samples",
        asks=1,
        not_before_at=given.event.at + policy.ask_timeout_s(given.config.training, 1),
    )
    return after, [report_of(after, "IN_PROGRESS", after.reason), AskTeacher(current.job_id)]


def job_unpreparable(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, JobUnpreparable)
    if event.job_id != the_round(state).job_id:
        return state, []
    return end(state, "FAILED", event.reason)


def teacher_answered(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, TeacherAnswered)
    if event.job_id != the_round(state).job_id or not the_round(state).prepared:
        return state, []
    return _admit(given, state, "the teacher has answered")


def teacher_refused(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, TeacherRefused)
    if event.job_id != the_round(state).job_id or not the_round(state).prepared:
        return state, []
    return _go_on_without_teacher(given, state, f"the teacher refused: {event.reason}")


def awaiting_ticked(given: Given, state: State) -> Outcome:
    """Ask again with growing patience; a teacher that stays away does not stop the round, it costs it a tier."""
    current = the_round(state)
    if not current.prepared or given.event.at < current.not_before_at:
        return state, []
    if state.link is Link.UP and current.asks >= given.config.training.teacher_attempts:
        return _go_on_without_teacher(given, state, f"no answer from the teacher after {current.asks} requests")
    if state.link is Link.DOWN and given.event.at >= current.deadline_at:
        return _go_on_without_teacher(given, state, "no link to the teacher in time")
    if state.link is Link.DOWN:
        return replace(state, reason="no link to the broker: the teacher cannot be asked"), []
    asks = current.asks + 1
    wait_s = policy.ask_timeout_s(given.config.training, asks)
    return update(state, asks=asks, not_before_at=given.event.at + wait_s), [AskTeacher(current.job_id)]


def _go_on_without_teacher(given: Given, state: State, why: str) -> Outcome:
    tier = policy.tier_without_teacher(the_round(state).tier)
    return _admit(given, update(state, tier=tier, needs_teacher=False), f"{why}; going on without, tier {tier}")


def _admit(given: Given, state: State, why: str) -> Outcome:
    after = update(
        state,
        phase=Phase.ADMITTED,
        reason=f"{why}; waiting for the budget",
        not_before_at=given.event.at,
        deadline_at=given.event.at + given.config.training.admission_limit_s,
    )
    return after, [report_of(after, "IN_PROGRESS", after.reason)]


# ------------------------------------------------------------------------------------------------ ADMITTED, TRAINING


def admitted_measured(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, BudgetMeasured)
    current = the_round(state)
    if event.at < current.not_before_at:
        return state, []
    against = policy.objection(given.config.budget, event.reading, training=False)
    if against:
        return replace(state, reason=f"not training: {against}"), []
    after = update(
        state,
        phase=Phase.TRAINING,
        reason="training",
        paused=False,
        deadline_at=event.at + given.config.training.time_limit_s,
    )
    return after, [report_of(after, "IN_PROGRESS", "training"), StartTrainer(current.job_id, current.tier)]


def admitted_ticked(given: Given, state: State) -> Outcome:
    if given.event.at < the_round(state).deadline_at:
        return state, []
    return end(state, "TIMED_OUT", f"the budget never admitted it: {state.reason}")


def training_measured(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, BudgetMeasured)
    current = the_round(state)
    against = policy.objection(given.config.budget, event.reading, training=True, resuming=current.paused)
    if against and not current.paused:
        return update(state, paused=True, reason=f"paused: {against}"), [PauseTrainer(current.job_id)]
    if against:
        return replace(state, reason=f"paused: {against}"), []
    if current.paused:
        return update(state, paused=False, reason="training"), [ResumeTrainer(current.job_id)]
    return state, []


def training_progressed(given: Given, state: State) -> Outcome:
    """Progress beyond what earlier attempts reached clears their count: being killed often is not a crash loop."""
    event = given.event
    assert isinstance(event, TrainerProgressed)
    current = the_round(state)
    if event.job_id != current.job_id or event.done <= current.progress:
        return state, []
    return update(state, progress=event.done, attempts=0), []


def training_ended(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, TrainerEnded)
    current = the_round(state)
    if event.job_id != current.job_id:
        return state, []
    if event.outcome == "finished":
        after = update(state, phase=Phase.VERIFYING, reason="judging the candidate", paused=False)
        return after, [JudgeCandidate(current.job_id)]
    if event.outcome == "stopped":
        after = update(state, phase=Phase.ADMITTED, reason="stopped; goes on from its checkpoint", paused=False)
        return after, []
    why = f"the trainer ended: {event.outcome}" + (f" ({event.detail})" if event.detail else "")
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
        reason=f"{why}; attempt {attempts + 1} of {training.attempts} in {wait_s:.0f} s",
        not_before_at=given.event.at + wait_s,
        deadline_at=given.event.at + training.admission_limit_s,
    )
    return after, [ReportEvent("training_interrupted", {"reason": why, "attempts": attempts})]


def training_ticked(given: Given, state: State) -> Outcome:
    current = the_round(state)
    if current.paused:
        # Time spent paused is the budget's, not the trainer's.
        return state, []
    if given.event.at < current.deadline_at:
        return state, []
    limit_s = given.config.training.time_limit_s
    return end(state, "TIMED_OUT", f"training exceeded {limit_s:.0f} s", first=[StopTrainer(current.job_id)])


def training_stop_ordered(given: Given, state: State) -> Outcome:
    return state, [StopTrainer(the_round(state).job_id)]


# ------------------------------------------------------------------------------------------------ VERIFYING, PROBATION


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
    against = policy.live_objection(given.config.probation, event.view)
    previous = state.models.previous
    if state.owed_rollback_to is not None:
        return state, []
    if against and previous is not None:
        return replace(state, reason=f"rolled back: {against}", owed_rollback_to=previous), [RollBack(previous)]
    if event.view.frames >= given.config.probation.frames:
        return _settle(state)
    return state, []


def probation_ticked(given: Given, state: State) -> Outcome:
    over = given.event.at >= the_round(state).deadline_at and state.owed_rollback_to is None
    return _settle(state) if over else (state, [])


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
