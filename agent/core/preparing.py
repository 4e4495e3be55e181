"""A round until its job is ready: begun, collecting samples, asking the teacher."""

from __future__ import annotations

from dataclasses import replace

from agent.core import budget, policy
from agent.core.commands import AskTeacher, PrepareJob
from agent.core.ending import end, roll_back_again
from agent.core.events import JobPrepared, JobUnpreparable, NovelSampleStored, TeacherAnswered, TeacherRefused
from agent.core.outcome import Given, Outcome, report_of, the_round, update
from agent.core.state import Link, Phase, Round, State, Wish


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
    if state.novel_count >= wish.samples_wanted and not state.sparing:
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


# ------------------------------------------------------------------------------------------------ IDLE


def rounds_stopped(given: Given, state: State) -> str:
    """Why no round is begun though one is wished for: too many in a row have failed. '' where one may be."""
    if state.failures < given.config.training.failures:
        return ""
    last = f"; the last one: {state.last_ending.report.detail}" if state.last_ending else ""
    failed = "a round has failed" if state.failures == 1 else f"{state.failures} rounds in a row have failed"
    return f"{failed}, none is begun until `understudy agent resume`{last}"


def idle_ticked(given: Given, state: State) -> Outcome:
    if state.owed_rollback_to is not None:
        return roll_back_again(given, state)
    stopped = rounds_stopped(given, state)
    if stopped:
        return replace(state, reason=stopped), []
    if not state.waiting:
        return state, []
    wish, *rest = state.waiting
    return begin(given, replace(state, waiting=tuple(rest)), wish)


# ------------------------------------------------------------------------------------------------ COLLECTING


def collecting_stored(given: Given, state: State) -> Outcome:
    event = given.event
    assert isinstance(event, NovelSampleStored)
    return _prepare_if_enough(given, replace(state, novel_count=event.count))


def collecting_ticked(given: Given, state: State) -> Outcome:
    current = the_round(state)
    if given.event.at < current.deadline_at:
        return _prepare_if_enough(given, state)
    if state.sparing:
        return end(state, "TIMED_OUT", f"no samples of {current.wish} could be kept in time: {state.sparing}")
    if state.novel_count >= given.config.training.min_samples:
        return prepare(given, state)
    return end(state, "TIMED_OUT", f"only {state.novel_count} samples of {current.wish} came in time")


def _prepare_if_enough(given: Given, state: State) -> Outcome:
    if state.sparing:
        return replace(state, reason=budget.refreshed(state.reason, f"keeping no samples: {state.sparing}")), []
    current = the_round(state)
    if state.novel_count >= current.wish.samples_wanted:
        return prepare(given, state)
    return replace(state, reason=f"collecting samples of {current.wish}"), []


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
    limit_at = given.event.at + given.config.training.admission_limit_s
    after = update(
        state,
        phase=Phase.ADMITTED,
        reason=f"{why}; waiting for the budget",
        not_before_at=given.event.at,
        deadline_at=limit_at,
        give_up_at=limit_at,
    )
    return after, [report_of(after, "IN_PROGRESS", after.reason)]
