"""Cancelling and going back, in any phase and over any restart: the state is as if the round had not begun."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Config, Privacy, Probation
from agent.core import commands as do
from agent.core import events as ev
from agent.core.facts import LiveView, Reading, Scores
from agent.core.state import Models, Phase, State
from agent.core.step import step

UPLOAD = Config(privacy=Privacy(mode="upload", consent_to_upload=True))
GOOD = Scores(0.95, 0.95, 0.0, 0.9, 100, 20)
OLD, GROWN = ("a", "b"), ("a", "b", "c")
JOB = "job-000001"
BEFORE = State(models=Models(active=2, previous=1, labels=OLD), failures=1)

ROUND: list[ev.Event] = [
    ev.TriggerArrived(1, "t1", ("c",), 50),
    ev.NovelSampleStored(2, 50),
    ev.JobPrepared(3, JOB, 50),
    ev.TeacherAnswered(4, JOB),
    ev.BudgetMeasured(5, Reading()),
    ev.TrainerProgressed(6, JOB, 1, 4),
    ev.TrainerEnded(7, JOB, "finished"),
    ev.CandidateJudged(8, JOB, 3, GOOD),
    ev.Promoted(9, 3, 2, GROWN),
    ev.LiveMeasured(10, LiveView(5, 1, 0.9, 3)),
]
PHASES = (
    Phase.COLLECTING,
    Phase.AWAITING_TEACHER,
    Phase.AWAITING_TEACHER,
    Phase.ADMITTED,
    Phase.TRAINING,
    Phase.TRAINING,
    Phase.VERIFYING,
    Phase.VERIFYING,
    Phase.PROBATION,
    Phase.PROBATION,
)


class World:
    """What lies outside the core, as far as it matters here: which generation the pointer names, and what it says
    when it is told to go back. A promotion that was ordered comes about `promoting` orders later, or never."""

    def __init__(self, state: State = BEFORE) -> None:
        self.state, self.pointer, self.previous = state, state.models.active, state.models.previous
        self.at, self.commands = 0.0, list[do.Command]()

    def __call__(self, event: ev.Event) -> None:
        self.at = max(self.at + 1, event.at)
        self.state, commands = step(self.state, msgspec.structs.replace(event, at=self.at), UPLOAD)
        self.commands += commands
        for command in commands:
            if isinstance(command, do.RollBack):
                self.pointer, self.previous = command.to, command.to - 1 or None
                self(ev.RolledBack(0, command.to, OLD, self.previous))

    def tell(self, event: ev.Event) -> None:
        if isinstance(event, ev.Promoted):
            self.pointer, self.previous = event.generation, event.previous
        self(event)

    def restart(self, given_up: str = "") -> None:
        self.state = msgspec.json.decode(msgspec.json.encode(self.state), type=State)
        labels = GROWN if self.pointer == 3 else OLD
        self(ev.Started(0, self.pointer, self.previous, labels, given_up))

    def job_states(self) -> list[str]:
        return [command.state for command in self.commands if isinstance(command, do.ReportJob)]


def lasting(state: State) -> State:
    """`state` without its memory of what was ordered and what was said of it."""
    return replace(state, rounds_begun=0, handled_ids=(), last_ending=None, last_answer=None, reason="", novel_count=0)


def reached(events: int) -> World:
    world = World()
    for event in ROUND[:events]:
        world.tell(event)
    assert world.state.phase is PHASES[events - 1]
    return world


@pytest.mark.spec("14.2")
@settings(deadline=None)
@given(
    events=st.integers(1, len(ROUND)),
    restarts=st.sets(st.sampled_from(["before", "after"])),
    late=st.booleans(),
    twice=st.booleans(),
)
def test_a_cancelled_round_leaves_the_state_as_if_it_had_not_begun(
    events: int, restarts: set[str], late: bool, twice: bool
) -> None:
    """In whichever phase; over restarts; ordered twice; and though what was under way still says how it ended."""
    world = reached(events)
    if "before" in restarts:
        world.restart()
    for _ in range(1 + twice):
        world.tell(ev.CancelOrdered(0, "x"))
    if late and world.pointer != 3:
        for event in ROUND[events:-1]:
            world.tell(event)
    if "after" in restarts:
        world.restart()
    assert world.state.phase is Phase.IDLE and world.state.owed_rollback_to is None
    assert (world.pointer, world.previous) == (2, 1)
    assert lasting(world.state) == lasting(BEFORE)
    assert set(world.job_states()) - {"QUEUED", "IN_PROGRESS"} == {"CANCELED"}
    closed = {command for command in world.commands if isinstance(command, do.CloseJob)}
    assert {(command.job_id, command.learned) for command in closed} == {(JOB, False)}


@pytest.mark.spec("14.1")
@settings(deadline=None)
@given(events=st.integers(1, len(ROUND)), restart=st.booleans())
def test_a_roll_back_may_be_ordered_in_any_phase(events: int, restart: bool) -> None:
    """It ends the round, goes back one generation, and a restart in the middle finishes it."""
    world = World(replace(BEFORE))
    for event in ROUND[:events]:
        world.tell(event)
    goal = world.pointer - 1
    state, commands = step(world.state, ev.RollbackOrdered(world.at + 1, "r"), UPLOAD)
    assert commands[0] == do.RollBack(goal) and state.owed_rollback_to == goal  # written down before it is begun
    world.state = state
    if restart:  # the process dies before it was carried out
        world.restart()
    else:
        world.pointer, world.previous = goal, goal - 1 or None
        world.tell(ev.RolledBack(0, goal, OLD, world.previous))
    assert world.pointer == goal == world.state.models.active
    assert world.state.owed_rollback_to is None and world.state.phase is Phase.IDLE


@pytest.mark.spec("14.1")
@pytest.mark.parametrize("events", range(1, 8))
def test_a_roll_back_without_a_daemon_ends_the_round_that_built_on_it(events: int) -> None:
    world = reached(events)
    world.pointer, world.previous = 1, None  # `understudy agent rollback`, while nothing ran
    world.restart()
    assert world.state.phase is Phase.IDLE and world.state.models.active == 1
    assert world.job_states()[-1] == "CANCELED"
    assert "rolled back while the daemon was not running" in world.state.reason


def test_an_owed_roll_back_is_overtaken_by_one_without_a_daemon() -> None:
    """Going back to 2 was owed and done; then somebody went back to 1: a restart must not lead forward again."""
    world = World(replace(BEFORE, owed_rollback_to=2, models=Models(active=3, previous=2, labels=GROWN)))
    world.pointer, world.previous = 1, None
    world.restart()
    assert world.pointer == 1 and world.state.owed_rollback_to is None


@pytest.mark.spec("11.4")
def test_a_model_that_was_given_up_ends_its_probation_and_is_told() -> None:
    world = reached(9)
    world.pointer, world.previous = 2, 1
    world.restart("2 starts in a row did not settle with generation 3: gone back to generation 2")
    events = [command for command in world.commands if isinstance(command, do.ReportEvent)]
    assert events[-1].kind == "model_given_up" and events[-1].detail["generation"] == 2
    assert world.job_states()[-1] == "FAILED" and "did not settle" in world.state.reason


# ------------------------------------------------------------------------------------------------ probation


def on_probation() -> State:
    return reached(9).state


@pytest.mark.spec("10.4")
@pytest.mark.parametrize(
    "event",
    [
        ev.LiveMeasured(20, LiveView(30, 29, 0.9, 3)),
        ev.LiveMeasured(20, LiveView(30, 0, 0.1, 3)),
        ev.Probed(20, 3, 2, 64),
    ],
    ids=["novel", "unsure", "probes"],
)
def test_what_fails_on_probation_goes_back_at_once_and_once(event: ev.Event) -> None:
    state, commands = step(on_probation(), event, UPLOAD)
    assert commands == [do.RollBack(2)] and state.owed_rollback_to == 2
    assert step(state, event, UPLOAD)[1] == []
    state, commands = step(state, ev.RolledBack(21, 2, OLD, 1), UPLOAD)
    assert lasting(state) == lasting(replace(BEFORE, failures=2))
    assert [c.state for c in commands if isinstance(c, do.ReportJob)] == ["FAILED"]


@pytest.mark.spec("10.4")
@pytest.mark.parametrize(
    "event",
    [
        ev.Probed(20, 3, 1, 64),
        ev.Probed(20, 2, 60, 64),
        ev.Probed(20, 3, 0, 0),
        ev.LiveMeasured(20, LiveView(1000, 999, 0.1, 2)),
        ev.LiveMeasured(20, LiveView(1000, 1, 0.9, 2)),
    ],
    ids=["one of many", "of the model before", "none to ask", "its frames are bad", "its frames are good"],
)
def test_what_is_within_bounds_or_not_its_own_decides_nothing(event: ev.Event) -> None:
    """Verdicts of the model before come in late: they must neither condemn nor settle the new one."""
    before = on_probation()
    assert step(before, event, UPLOAD) == (before, [])


def test_probes_of_a_settled_model_are_reported_and_nothing_is_swapped() -> None:
    state, commands = step(BEFORE, ev.Probed(20, 2, 5, 64), UPLOAD)
    assert state == BEFORE
    (report,) = commands
    assert isinstance(report, do.ReportEvent) and report.kind == "probes_missed"
    assert "5 of 64 held-out images" in str(report.detail["reason"])
    assert step(BEFORE, ev.Probed(20, 2, 1, 64), UPLOAD) == (BEFORE, [])
    lenient = replace(UPLOAD, probation=Probation(max_probe_misses=0.1))
    assert step(BEFORE, ev.Probed(20, 2, 5, 64), lenient) == (BEFORE, [])


def test_a_roll_back_that_the_disk_refused_is_tried_again_until_it_is_written_down() -> None:
    state, _ = step(on_probation(), ev.Probed(20, 3, 60, 64), UPLOAD)
    state, (report,) = step(state, ev.RollbackFailed(21, "No space left on device", True), UPLOAD)
    assert isinstance(report, do.ReportEvent) and report.kind == "rollback_failed"
    assert step(state, ev.Ticked(30), UPLOAD)[1] == []
    state, commands = step(state, ev.Ticked(60), UPLOAD)
    assert commands == [do.RollBack(2)]
    assert step(state, ev.Ticked(3600), UPLOAD)[1] == []  # under way; and the probation does not end by time
    state, _ = step(state, ev.RolledBack(3601, 2, OLD, 1), UPLOAD)
    assert state.phase is Phase.IDLE and state.models == BEFORE.models


def test_while_a_roll_back_is_owed_no_round_begins() -> None:
    state = replace(BEFORE, owed_rollback_to=1)
    state, (report,) = step(state, ev.TriggerArrived(1, "t", ("d",), 5), UPLOAD)
    assert isinstance(report, do.ReportJob) and report.state == "QUEUED" and "roll back" in report.detail
    assert step(state, ev.Ticked(2), UPLOAD) == (state, [])
    state, _ = step(state, ev.RolledBack(3, 1, OLD), UPLOAD)
    assert step(state, ev.Ticked(4), UPLOAD)[0].phase is Phase.COLLECTING
