"""The core driven by scripts (event in, command out) and by hypothesis (any events in any order)."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Budget, Config, Privacy, Training
from agent.core import commands as do
from agent.core import events as ev
from agent.core.budget import LONGEST_PAUSE_S
from agent.core.facts import GroupView, LiveView, Reading, Scores
from agent.core.state import Link, Models, Phase, Standing, State, Wish, durable
from agent.core.step import IGNORED, RULES, step

UPLOAD = Config(privacy=Privacy(mode="upload", consent_to_upload=True))
LOCAL = Config()
GOOD = Scores(0.95, 0.95, 0.0, 0.9, 100, 20)
BAD = Scores(0.95, 0.5, 0.0, 0.9, 100, 20)
CALM = Reading(cpu_percent=5, available_mib=4000, temperature_c=40, disk_free_mib=9000)
HOT = replace(CALM, temperature_c=90.0)
FULL = replace(CALM, disk_free_mib=5.0)
TIGHT = replace(CALM, available_mib=100.0, trainer_rss_mib=400.0, own_rss_mib=45.0)


def fresh() -> State:
    return State(models=Models(active=1, labels=("a", "b")))


class Script:
    """Feeds events one second apart and remembers every command."""

    def __init__(self, config: Config = UPLOAD, state: State | None = None) -> None:
        self.config, self.state, self.at = config, state or fresh(), 0.0
        self.commands: list[do.Command] = []

    def __call__(self, kind: type[ev.Event], *args: object, after_s: float = 1.0) -> list[do.Command]:
        self.at += after_s
        self.state, commands = step(self.state, kind(self.at, *args), self.config)
        self.commands += commands
        return commands

    @property
    def phase(self) -> Phase:
        return self.state.phase

    def until_training(self) -> Script:
        self(ev.LinkCame)
        self(ev.TriggerArrived, "t1", ("c",), 50)
        self(ev.NovelSampleStored, 50)
        self(ev.JobPrepared, "job-000001", 50)
        if self.phase is Phase.AWAITING_TEACHER:
            self(ev.TeacherAnswered, "job-000001")
        self(ev.BudgetMeasured, CALM)
        return self


def kinds(commands: list[do.Command]) -> list[str]:
    return [type(c).__name__ for c in commands]


def reports(commands: list[do.Command]) -> list[str]:
    return [c.state for c in commands if isinstance(c, do.ReportJob)]


def test_a_round_from_trigger_to_settled() -> None:
    s = Script()
    s(ev.LinkCame)
    assert kinds(s(ev.TriggerArrived, "t1", ("c",), 50)) == ["ReportJob"]
    assert s.phase is Phase.COLLECTING
    assert s(ev.NovelSampleStored, 49) == []
    assert s(ev.NovelSampleStored, 50) == [do.PrepareJob("job-000001", ("c",), 50, "transfer")]
    assert kinds(s(ev.JobPrepared, "job-000001", 50)) == ["ReportJob", "AskTeacher"]
    s(ev.TeacherAnswered, "job-000001")
    assert s.phase is Phase.ADMITTED
    assert do.StartTrainer("job-000001", "transfer") in s(ev.BudgetMeasured, CALM)
    assert s(ev.TrainerEnded, "job-000001", "finished") == [do.JudgeCandidate("job-000001")]
    assert s(ev.CandidateJudged, "job-000001", 2, GOOD) == [do.Promote(2)]
    s(ev.Promoted, 2, 1, ("a", "b", "c"))
    assert (s.phase, s.state.models.active, s.state.models.previous) == (Phase.PROBATION, 2, 1)
    last = s(ev.LiveMeasured, LiveView(50, 2, 0.9, 2))
    assert reports(last) == ["SUCCEEDED"]
    assert do.CloseJob("job-000001", learned=True, candidate=2) in last
    assert s.phase is Phase.IDLE


@pytest.mark.spec("2.2")
def test_the_same_trigger_id_has_one_effect() -> None:
    s = Script()
    s(ev.TriggerArrived, "t1", ("c",), 50)
    assert s(ev.TriggerArrived, "t1", ("c",), 50) == []


def test_a_known_category_is_refused_with_its_reason() -> None:
    (report,) = Script()(ev.TriggerArrived, "t1", ("a",), 50)
    assert isinstance(report, do.ReportJob)
    assert report.state == "REJECTED" and "known already" in report.detail


def test_several_categories_are_one_round() -> None:
    s = Script()
    s(ev.LinkCame)
    s(ev.NovelSampleStored, 50)
    _, prepare = s(ev.TriggerArrived, "t1", ("c", "d"), 50)
    assert prepare == do.PrepareJob("job-000001", ("c", "d"), 50, "transfer")
    s(ev.JobPrepared, "job-000001", 50)
    s(ev.TeacherAnswered, "job-000001")
    s(ev.BudgetMeasured, CALM)
    s(ev.TrainerEnded, "job-000001", "finished")
    s(ev.CandidateJudged, "job-000001", 2, GOOD, ("d",))
    event, _ = s(ev.Promoted, 2, 1, ("a", "b", "c"))
    assert event == do.ReportEvent("promoted", {"generation": 2, "categories": "c"})
    report, _ = s(ev.LiveMeasured, LiveView(50, 2, 0.9, 2))
    assert isinstance(report, do.ReportJob)
    assert (report.state, report.categories, report.left_out) == ("SUCCEEDED", ("c", "d"), ("d",))
    assert report.detail == "'c' is learned; left out for want of samples: 'd'"


@pytest.mark.parametrize(("categories", "says"), [(("c", "a"), "'a' is known already"), (("e", "d"), "'d' is being")])
def test_one_category_that_cannot_be_learned_refuses_them_all(categories: tuple[str, ...], says: str) -> None:
    s = Script()
    s(ev.TriggerArrived, "t1", ("d",), 50)
    (report,) = s(ev.TriggerArrived, "t2", categories, 50)
    assert isinstance(report, do.ReportJob) and report.state == "REJECTED" and says in report.detail


@pytest.mark.parametrize("config", [LOCAL, replace(UPLOAD, training=Training(tier="sparse"))])
def test_unseen_categories_need_no_teacher_where_the_model_may_have_been_taught_about_them(config: Config) -> None:
    s = Script(config)
    s(ev.NovelSampleStored, 50)
    prepare = s(ev.TriggerArrived, "t1", ("c",), 50, True)[1]
    assert prepare == do.PrepareJob("job-000001", ("c",), 50, "sparse", unseen=True)


def test_unseen_categories_go_on_by_what_the_model_knows_where_the_teacher_stays_away() -> None:
    s = Script()
    s(ev.LinkCame)
    s(ev.NovelSampleStored, 50)
    assert s(ev.TriggerArrived, "t1", ("c",), 50, True)[1] == do.PrepareJob(
        "job-000001", ("c",), 50, "transfer", unseen=True
    )
    s(ev.JobPrepared, "job-000001", 50)
    s(ev.TeacherRefused, "job-000001", "unknown teacher")
    assert "going on without, tier sparse" in s.state.reason
    assert s.state.round is not None and not s.state.round.needs_teacher and s.state.round.wish.unseen


def test_unseen_categories_are_promoted_by_what_can_be_measured() -> None:
    s = Script()
    s(ev.LinkCame)
    s(ev.NovelSampleStored, 50)
    s(ev.TriggerArrived, "t1", ("c",), 50, True)
    s(ev.JobPrepared, "job-000001", 50)
    s(ev.TeacherAnswered, "job-000001")
    s(ev.BudgetMeasured, CALM)
    s(ev.TrainerEnded, "job-000001", "finished")
    assert s(ev.CandidateJudged, "job-000001", 2, Scores(0.95, 0.95, None, None, 100)) == [do.Promote(2)]


def test_a_second_trigger_waits_and_begins_after_the_first() -> None:
    s = Script().until_training()
    assert reports(s(ev.TriggerArrived, "t2", ("d",), 5)) == ["QUEUED"]
    s(ev.CancelOrdered, "x")
    s(ev.Ticked)
    assert s.state.round is not None and s.state.round.wish.categories == ("d",)


def test_a_hot_device_pauses_with_its_reason_and_resumes_with_hysteresis() -> None:
    s = Script().until_training()
    assert s(ev.BudgetMeasured, HOT) == [do.PauseTrainer("job-000001")]
    assert "temperature 90" in s.state.reason
    assert s(ev.BudgetMeasured, replace(CALM, temperature_c=74.0)) == []  # below the limit, not below the margin
    assert s(ev.BudgetMeasured, CALM) == [do.ResumeTrainer("job-000001")]


# ------------------------------------------------------------------------------------------------ budgets


@pytest.mark.spec("16.1", "16.2")
def test_a_pause_takes_nothing_from_the_trainers_time() -> None:
    s = Script().until_training()
    s(ev.BudgetMeasured, HOT, after_s=UPLOAD.training.time_limit_s - 10)
    s(ev.BudgetMeasured, CALM, after_s=250)
    assert s(ev.Ticked) == [] and s.phase is Phase.TRAINING
    assert reports(s(ev.Ticked, after_s=10)) == ["TIMED_OUT"]


@pytest.mark.spec("16.1")
def test_a_long_pause_sets_the_trainer_aside_and_the_round_goes_on_later() -> None:
    s = Script().until_training()
    s(ev.BudgetMeasured, HOT)
    assert s(ev.Ticked, after_s=LONGEST_PAUSE_S - 1) == []
    assert s(ev.Ticked, after_s=1) == [do.StopTrainer("job-000001")]
    assert s(ev.Ticked) == [] and s(ev.BudgetMeasured, CALM) == []  # it is ending
    s(ev.TrainerEnded, "job-000001", "hung")  # it did not obey in time; that is no fault of the round
    assert s.phase is Phase.ADMITTED and "paused: temperature 90" in s.state.reason
    assert s.state.round is not None and s.state.round.attempts == 0
    assert kinds(s(ev.BudgetMeasured, CALM)) == ["ReportJob", "StartTrainer"]


@pytest.mark.spec("16.1")
def test_a_round_that_is_set_aside_again_and_again_without_progress_is_given_up_in_time() -> None:
    def set_aside(done: int) -> None:
        s(ev.TrainerProgressed, "job-000001", done, 20, after_s=50)
        s(ev.BudgetMeasured, HOT)
        s(ev.Ticked, after_s=LONGEST_PAUSE_S)
        s(ev.TrainerEnded, "job-000001", "stopped")

    s = Script(replace(UPLOAD, training=Training(admission_limit_s=2000))).until_training()
    for done in range(20):  # it gets somewhere each time
        set_aside(done)
        s(ev.Ticked)
        s(ev.BudgetMeasured, CALM, after_s=100)
        assert s.phase is Phase.TRAINING
    cycles = 0
    while s.phase is Phase.TRAINING:
        set_aside(19)
        s(ev.Ticked)
        s(ev.BudgetMeasured, CALM, after_s=100)
        cycles += 1
    assert s.phase is Phase.IDLE and reports(s.commands)[-1] == "TIMED_OUT" and 3 <= cycles <= 6
    assert "temperature 90" in s.state.reason


@pytest.mark.spec("11.1", "16.1", "16.3")
@pytest.mark.parametrize(
    ("config", "says"),
    [
        (UPLOAD, "available memory 100 MiB is below 300 MiB"),
        (
            replace(UPLOAD, budget=Budget(max_rss_mib=400, min_available_mib=50)),
            "memory of daemon and trainer 445 MiB is above 400 MiB",
        ),
    ],
)
def test_a_trainer_that_takes_too_much_memory_is_ended_and_tried_again_later(config: Config, says: str) -> None:
    s = Script(config).until_training()
    for attempt in range(1, 4):
        assert s(ev.BudgetMeasured, TIGHT) == [do.StopTrainer("job-000001")]
        assert says in s.state.reason
        s(ev.TrainerEnded, "job-000001", "stopped", "")
        if attempt < 3:
            assert s(ev.BudgetMeasured, CALM, after_s=0.1) == [] and says in s.state.reason  # backing off
            s(ev.BudgetMeasured, CALM, after_s=4000)
    assert s.phase is Phase.IDLE and reports(s.commands)[-1] == "FAILED" and says in s.state.reason


@pytest.mark.spec("16.1")
def test_what_it_had_finished_when_it_was_told_to_end_is_judged() -> None:
    s = Script().until_training()
    s(ev.BudgetMeasured, TIGHT)
    assert s(ev.TrainerEnded, "job-000001", "finished") == [do.JudgeCandidate("job-000001")]


@pytest.mark.spec("16.2")
@settings(deadline=None)
@given(st.lists(st.floats(75 * 0.9, 75), min_size=1, max_size=40))
def test_a_temperature_between_limit_and_margin_does_not_flicker(degrees: list[float]) -> None:
    s = Script().until_training()
    s(ev.BudgetMeasured, HOT)
    for temperature_c in degrees:
        assert s(ev.BudgetMeasured, replace(CALM, temperature_c=max(temperature_c, 67.51))) == []
    s(ev.BudgetMeasured, CALM)
    reason = s.state.reason
    for temperature_c in degrees:
        assert s(ev.BudgetMeasured, replace(CALM, temperature_c=temperature_c)) == []
    assert s.state.reason == reason == "training"


@pytest.mark.spec("16.3")
def test_a_temperature_that_moves_is_said_once() -> None:
    s = Script().until_training()
    s(ev.BudgetMeasured, HOT)
    reason = s.state.reason
    s(ev.BudgetMeasured, replace(HOT, temperature_c=91.0))
    assert s.state.reason == reason == "paused: temperature 90 °C is above 75 °C"


@pytest.mark.spec("8.2")
def test_a_round_that_ignores_the_windows_says_so() -> None:
    s = Script(replace(UPLOAD, budget=Budget(windows=("01:00-02:00",)))).until_training()
    assert s.phase is Phase.TRAINING and "clock was never set" in s.state.reason


# ------------------------------------------------------------------------------------------------ sparing the card


@pytest.mark.spec("5.3", "6.2")
def test_on_a_full_disk_nothing_is_prepared_until_there_is_room_with_a_margin() -> None:
    s = Script(LOCAL)
    assert s(ev.BudgetMeasured, FULL) == [
        do.ReportEvent("writes_suspended", {"reason": "free disk 5 MiB is below 200 MiB"})
    ]
    s(ev.NovelSampleStored, 50)
    assert reports(s(ev.TriggerArrived, "t1", ("c",), 50)) == ["QUEUED"]
    s(ev.Ticked)
    assert s.phase is Phase.COLLECTING and s.state.reason == "keeping no samples: free disk 5 MiB is below 200 MiB"
    assert s(ev.BudgetMeasured, replace(FULL, disk_free_mib=210.0)) == []  # above the floor, not by the margin
    assert s(ev.Ticked) == []
    assert s(ev.BudgetMeasured, CALM) == [do.ReportEvent("writes_resumed")]
    assert kinds(s(ev.Ticked)) == ["PrepareJob"]


@pytest.mark.spec("6.2")
def test_a_worn_card_is_spared_in_every_phase_and_forgotten_by_a_restart() -> None:
    config = replace(UPLOAD, budget=Budget(max_written_mib_a_day=100))
    s = Script(config).until_training()
    commands = s(ev.BudgetMeasured, replace(CALM, written_today_mib=101.0))
    assert kinds(commands) == ["ReportEvent", "PauseTrainer"]
    assert "written in a day 101 MiB is above 100 MiB" in s.state.sparing and "written" in s.state.reason
    again = Script(config, msgspec.json.decode(msgspec.json.encode(s.state), type=State))
    again(ev.Started, 1, None, ("a", "b"))
    assert again.state.sparing == ""  # measured anew before anything is decided by it
    assert durable(s.state).sparing == ""  # and no reason to write


def test_collecting_on_a_full_disk_ends_in_time_with_the_reason() -> None:
    s = Script(LOCAL)
    s(ev.BudgetMeasured, FULL)
    s(ev.TriggerArrived, "t1", ("c",), 50)
    (report, _) = s(ev.Ticked, after_s=LOCAL.training.collect_limit_s)
    assert isinstance(report, do.ReportJob) and report.state == "TIMED_OUT" and "free disk 5 MiB" in report.detail
    assert s.state.failures == 0


# ------------------------------------------------------------------------------------------------ a bad end


@pytest.mark.spec("11.3", "8.1")
def test_a_trainer_that_shows_no_progress_is_killed_and_it_counts() -> None:
    s = Script().until_training()
    s(ev.TrainerProgressed, "job-000001", 3, 9, "prefix", after_s=899)
    assert s(ev.Ticked, after_s=899) == []
    assert s(ev.Ticked, after_s=1) == [do.KillTrainer("job-000001")]
    assert s(ev.Ticked) == []  # once is enough
    s(ev.TrainerEnded, "job-000001", "hung")
    assert s.state.round is not None and s.state.round.attempts == 1
    assert s.state.reason == "the trainer hung and was killed; attempt 2 of 3 in 30 s"


@pytest.mark.spec("11.3")
def test_time_spent_paused_is_no_hang() -> None:
    config = replace(UPLOAD, training=Training(hang_s=50))
    s = Script(config).until_training()
    s(ev.BudgetMeasured, HOT, after_s=49)
    assert s(ev.Ticked, after_s=200) == []
    s(ev.BudgetMeasured, CALM)
    assert s(ev.Ticked, after_s=49) == []
    assert s(ev.Ticked, after_s=1) == [do.KillTrainer("job-000001")]


@pytest.mark.spec("11.3")
@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ("failed", "failed (why)"),
        ("killed", "was killed (why)"),
        ("out_of_memory", "ran out of memory (why)"),
        ("illegal_instruction", "met an instruction that this processor does not have (why)"),
        ("hung", "hung and was killed (why)"),
    ],
)
def test_each_bad_end_is_said_and_backed_off_from(outcome: str, says: str) -> None:
    s = Script().until_training()
    for wait_s in (30, 60):
        (told,) = s(ev.TrainerEnded, "job-000001", outcome, "why")
        assert isinstance(told, do.ReportEvent) and says in str(told.detail["reason"])
        assert says in s.state.reason and f"in {wait_s} s" in s.state.reason
        assert s(ev.BudgetMeasured, CALM, after_s=wait_s - 1) == []
        assert "StartTrainer" in kinds(s(ev.BudgetMeasured, CALM, after_s=1))


def test_the_daemons_own_stop_is_no_attempt_even_of_a_trainer_that_is_slow_to_obey() -> None:
    s = Script().until_training()
    assert s(ev.StopOrdered) == [do.StopTrainer("job-000001")]
    s(ev.TrainerEnded, "job-000001", "hung")
    assert s.phase is Phase.ADMITTED and s.state.round is not None and s.state.round.attempts == 0


def test_signs_of_life_are_not_written_down() -> None:
    s = Script().until_training()
    before = durable(s.state)
    s(ev.TrainerProgressed, "job-000001", 3, 9, "prefix")
    assert durable(s.state) == before != s.state


# ------------------------------------------------------------------------------------------------ the breaker


def failing(s: Script, rounds: int) -> Script:
    for number in range(rounds):
        s(ev.NovelSampleStored, 50)
        s(ev.TriggerArrived, f"f{s.state.rounds_begun}-{number}", (f"c{s.state.rounds_begun}",), 50)
        s(ev.JobUnpreparable, f"job-{s.state.rounds_begun:06d}", "the card is broken")
    return s


@pytest.mark.spec("10.6")
def test_after_three_failed_rounds_triggers_wait_and_say_why_until_an_operator_resumes() -> None:
    s = failing(Script(), 3)
    assert s.phase is Phase.IDLE and s.state.failures == 3
    (report,) = s(ev.TriggerArrived, "t1", ("d",), 50)
    assert isinstance(report, do.ReportJob) and report.state == "QUEUED"
    assert "3 rounds in a row have failed" in report.detail and "the card is broken" in report.detail
    assert s(ev.Ticked) == []
    assert "none is begun until `understudy agent resume`" in s.state.reason
    again = Script(state=msgspec.json.decode(msgspec.json.encode(s.state), type=State))
    again(ev.Started, 1, None, ("a", "b"))
    assert again(ev.Ticked) == [] and again.phase is Phase.IDLE  # a restart does not end it
    assert again(ev.ResumeOrdered, "r1") == [do.ReportEvent("rounds_resumed", {"waiting": 1})]
    again(ev.Ticked)
    assert again.state.round is not None and again.state.round.wish.trigger_id == "t1"


@pytest.mark.spec("10.6", "2.2")
def test_a_resume_has_one_effect() -> None:
    s = failing(Script(), 3)
    s(ev.ResumeOrdered, "r1")
    failing(s, 3)
    assert s(ev.ResumeOrdered, "r1") == [] and s.state.failures == 3


@pytest.mark.spec("10.6")
def test_only_rounds_in_a_row_count_and_only_failed_ones() -> None:
    s = failing(Script(), 2)
    s(ev.NovelSampleStored, 0)
    s(ev.TriggerArrived, "x", ("d",), 50)
    s(ev.Ticked, after_s=UPLOAD.training.collect_limit_s)  # no samples came: nobody's failure
    assert reports(s.commands)[-1] == "TIMED_OUT" and s.state.failures == 2
    s(ev.TriggerArrived, "y", ("e",), 50)
    s(ev.CancelOrdered, "c")
    assert s.state.failures == 2
    s(ev.NovelSampleStored, 50)
    s(ev.TriggerArrived, "z", ("f",), 50)
    job = f"job-{s.state.rounds_begun:06d}"
    s(ev.JobPrepared, job, 50)
    s(ev.TeacherAnswered, job)
    s(ev.BudgetMeasured, CALM)
    s(ev.TrainerEnded, job, "finished")
    s(ev.CandidateJudged, job, 2, GOOD)
    s(ev.Promoted, 2, 1, ("a", "b", "f"))
    s(ev.LiveMeasured, LiveView(50, 2, 0.9, 2))
    assert reports(s.commands)[-1] == "SUCCEEDED" and s.state.failures == 0


def test_local_mode_never_asks_a_teacher() -> None:
    s = Script(LOCAL).until_training()
    assert s.phase is Phase.TRAINING
    assert "AskTeacher" not in kinds(s.commands)
    assert do.StartTrainer("job-000001", "sparse") in s.commands


def test_a_silent_teacher_costs_a_tier_not_the_round() -> None:
    s = Script()
    s(ev.LinkCame)
    s(ev.TriggerArrived, "t1", ("c",), 50)
    s(ev.NovelSampleStored, 50)
    s(ev.JobPrepared, "job-000001", 50)
    for _ in range(UPLOAD.training.teacher_attempts):
        s(ev.Ticked, after_s=5000)
    assert s.phase is Phase.ADMITTED
    assert s.state.round is not None and s.state.round.tier == "sparse"
    assert "no answer" in s.state.reason
    assert kinds(s.commands).count("AskTeacher") == UPLOAD.training.teacher_attempts


def test_a_crashing_trainer_is_retried_with_backoff_then_given_up() -> None:
    s = Script().until_training()
    for attempt in range(UPLOAD.training.attempts):
        s(ev.TrainerEnded, "job-000001", "out_of_memory", "")
        if attempt < UPLOAD.training.attempts - 1:
            assert s(ev.BudgetMeasured, CALM, after_s=0.1) == []  # backing off
            s(ev.BudgetMeasured, CALM, after_s=4000)
            assert s.phase is Phase.TRAINING
    assert s.phase is Phase.IDLE
    assert reports(s.commands)[-1] == "FAILED"
    assert s.state.failures == 1


def test_progress_between_kills_is_not_a_crash_loop() -> None:
    s = Script().until_training()
    for done in range(10):
        s(ev.TrainerProgressed, "job-000001", done + 1, 20)
        s(ev.TrainerEnded, "job-000001", "killed", "")
        s(ev.BudgetMeasured, CALM, after_s=4000)
        assert s.phase is Phase.TRAINING


def test_an_illegal_instruction_falls_back_to_the_numpy_head() -> None:
    s = Script().until_training()
    s(ev.TrainerEnded, "job-000001", "illegal_instruction", "")
    assert do.StartTrainer("job-000001", "head") in s(ev.BudgetMeasured, CALM, after_s=4000)


def test_a_candidate_that_forgets_is_not_promoted() -> None:
    s = Script().until_training()
    s(ev.TrainerEnded, "job-000001", "finished")
    ending = s(ev.CandidateJudged, "job-000001", 2, BAD)
    assert reports(ending) == ["FAILED"]
    assert "Promote" not in kinds(s.commands)
    assert s.state.models == Models(active=1, labels=("a", "b"))


def test_a_promoted_model_that_fails_in_life_is_rolled_back_once() -> None:
    s = Script().until_training()
    s(ev.TrainerEnded, "job-000001", "finished")
    s(ev.CandidateJudged, "job-000001", 2, GOOD)
    s(ev.Promoted, 2, 1, ("a", "b", "c"))
    assert s(ev.LiveMeasured, LiveView(30, 29, 0.9, 2)) == [do.RollBack(1)]
    assert s(ev.LiveMeasured, LiveView(31, 30, 0.9, 2)) == []
    ending = s(ev.RolledBack, 1, ("a", "b"))
    assert reports(ending) == ["FAILED"]
    assert s.state.models.active == 1 and s.phase is Phase.IDLE


def test_a_promotion_that_finishes_after_its_cancellation_is_undone() -> None:
    s = Script().until_training()
    s(ev.TrainerEnded, "job-000001", "finished")
    s(ev.CandidateJudged, "job-000001", 2, GOOD)
    s(ev.CancelOrdered, "c1")
    assert s(ev.Promoted, 2, 1, ("a", "b", "c")) == [do.RollBack(1)]
    s(ev.RolledBack, 1, ("a", "b"))
    assert s.state.models.active == 1 and s.state.models.labels == ("a", "b")


@pytest.mark.parametrize("steps", range(9))
def test_a_restart_at_any_point_finishes_the_round(steps: int) -> None:
    """Kill after each event; the next life starts from the persisted bytes and the pointer's truth."""
    story: list[tuple[type[ev.Event], tuple[object, ...]]] = [
        (ev.LinkCame, ()),
        (ev.TriggerArrived, ("t1", ("c",), 50)),
        (ev.NovelSampleStored, (50,)),
        (ev.JobPrepared, ("job-000001", 50)),
        (ev.TeacherAnswered, ("job-000001",)),
        (ev.BudgetMeasured, (CALM,)),
        (ev.TrainerEnded, ("job-000001", "finished")),
        (ev.CandidateJudged, ("job-000001", 2, GOOD)),
        (ev.Promoted, (2, 1, ("a", "b", "c"))),
    ]
    first = Script()
    for kind, args in story[: steps + 1]:
        first(kind, *args)
    stored = msgspec.json.encode(first.state)
    second = Script(state=msgspec.json.decode(stored, type=State))
    pending = second(ev.Started, 2 if steps == 8 else 1, 1 if steps == 8 else None, ("a", "b"))
    for _ in range(12):
        s, phase = second.state, second.phase
        if phase is Phase.IDLE and steps == 0:
            return
        if phase is Phase.IDLE:
            break
        if phase is Phase.COLLECTING:
            pending = second(ev.NovelSampleStored, 50)
        elif phase is Phase.AWAITING_TEACHER:
            if s.round is not None and s.round.prepared:
                pending = second(ev.TeacherAnswered, "job-000001")
            else:
                assert "PrepareJob" in kinds(pending)
                pending = second(ev.JobPrepared, "job-000001", 50)
        elif phase is Phase.ADMITTED:
            pending = second(ev.BudgetMeasured, CALM)
        elif phase is Phase.TRAINING:
            assert "StartTrainer" in kinds(pending)
            pending = second(ev.TrainerEnded, "job-000001", "finished")
        elif phase is Phase.VERIFYING:
            if "JudgeCandidate" in kinds(pending):
                pending = second(ev.CandidateJudged, "job-000001", 2, GOOD)
            else:
                assert "Promote" in kinds(pending)
                pending = second(ev.Promoted, 2, 1, ("a", "b", "c"))
        else:
            pending = second(ev.LiveMeasured, LiveView(60, 0, 0.9, 2))
    assert reports(second.commands)[-1] == "SUCCEEDED"
    assert second.state.models.active == 2


def test_an_ending_is_reported_again_after_a_restart() -> None:
    s = Script().until_training()
    s(ev.CancelOrdered, "x")
    again = Script(state=msgspec.json.decode(msgspec.json.encode(s.state), type=State))
    assert kinds(again(ev.Started, 1, None, ("a", "b"))) == ["ReportJob", "CloseJob"]


def test_every_pair_is_in_the_table_or_explicitly_ignored() -> None:
    for phase in Phase:
        assert set(RULES[phase]) | IGNORED[phase] == set(ev.ALL_EVENTS), phase
        assert not set(RULES[phase]) & IGNORED[phase], phase


# ------------------------------------------------------------------------------------------------ any events, any order

JOBS = st.sampled_from(["job-000001", "job-000002", "job-000003"])
GENERATIONS = st.integers(1, 4)
SCORES = st.sampled_from([GOOD, BAD, Scores(None, None, None, None)])
READINGS = st.sampled_from([CALM, HOT, FULL, TIGHT, Reading()])
OUTCOMES = st.sampled_from(
    ["finished", "failed", "killed", "out_of_memory", "illegal_instruction", "stopped", "hung"],
)
ARGUMENTS: dict[type[ev.Event], st.SearchStrategy[tuple[object, ...]]] = {
    ev.Started: st.just(()),  # made from the state below: the pointer is never behind what was confirmed
    ev.Ticked: st.just(()),
    ev.StopOrdered: st.just(()),
    ev.LinkCame: st.just(()),
    ev.LinkWent: st.just(("gone",)),
    ev.TriggerArrived: st.tuples(
        st.sampled_from(["t1", "t2", "t3", "t4"]),
        st.lists(st.sampled_from(["a", "c", "d", "e", "f"]), min_size=1, max_size=3, unique=True).map(tuple),
        st.integers(2, 40),
        st.booleans(),
    ),
    ev.CancelOrdered: st.tuples(st.sampled_from(["x1", "x2"])),
    ev.RollbackOrdered: st.tuples(st.sampled_from(["r1", "r2", "r3"])),
    ev.ResumeOrdered: st.tuples(st.sampled_from(["m1", "m2"])),
    ev.NovelSampleStored: st.tuples(st.integers(0, 60)),
    ev.BudgetMeasured: st.tuples(READINGS),
    ev.JobPrepared: st.tuples(JOBS, st.just(40)),
    ev.JobUnpreparable: st.tuples(JOBS, st.just("no samples")),
    ev.TeacherAnswered: st.tuples(JOBS),
    ev.TeacherRefused: st.tuples(JOBS, st.just("unknown teacher")),
    ev.TrainerProgressed: st.tuples(JOBS, st.integers(0, 20), st.just(20), st.sampled_from(["prefix", "train"])),
    ev.TrainerEnded: st.tuples(JOBS, OUTCOMES),
    ev.CandidateJudged: st.tuples(JOBS, GENERATIONS, SCORES, st.sampled_from([(), ("c",), ("d", "e")])),
    ev.CandidateUnusable: st.tuples(JOBS, st.just("probe differs")),
    ev.Promoted: st.tuples(GENERATIONS, st.just(1), st.just(("a", "b", "c"))),
    ev.PromotionFailed: st.tuples(GENERATIONS, st.just("disk full")),
    ev.LiveMeasured: st.builds(
        lambda n, k, g: (LiveView(n, min(n, k), 0.9, g),), st.integers(0, 80), st.integers(0, 80), GENERATIONS
    ),
    ev.GroupMeasured: st.builds(
        lambda novel, chance, generation: (GroupView(500, novel, chance, generation),),
        st.integers(0, 500),
        st.sampled_from([1e-4, 0.5]),
        GENERATIONS,
    ),
    ev.Probed: st.tuples(GENERATIONS, st.integers(0, 10), st.just(10)),
    ev.RolledBack: st.tuples(GENERATIONS, st.just(("a", "b")), st.sampled_from([None, 1])),
    ev.RollbackFailed: st.tuples(st.just("there is none"), st.booleans()),
}
STORIES = st.lists(
    st.one_of([st.tuples(st.just(kind), arguments) for kind, arguments in ARGUMENTS.items()]).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.sampled_from([0.5, 2.0, 50_000.0]))
    ),
    max_size=60,
)


FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "CANCELED", "REJECTED")


def wishes_of(state: State) -> list[Wish]:
    return [*state.waiting, *([state.round.wish] if state.round else [])]


def run(story: list[tuple[type[ev.Event], tuple[object, ...], float]], config: Config) -> Script:
    s = Script(config)
    running: set[str] = set()
    asked: set[str] = set()
    for kind, args, after_s in story:
        stopped = s.state.failures >= config.training.failures
        began = s.state.rounds_begun
        if kind is ev.Started:
            s.state = msgspec.json.decode(msgspec.json.encode(s.state), type=State)
            running.clear()
            args = (s.state.models.active, s.state.models.previous, s.state.models.labels)
        commands = s(kind, *args, after_s=after_s)
        if kind is ev.TrainerEnded:
            running.discard(str(args[0]))
        for command in commands:
            if isinstance(command, do.StartTrainer):
                running.add(command.job_id)
            elif isinstance(command, do.StopTrainer):
                running.discard(command.job_id)
        assert len(running) <= 1, "two jobs at once"
        assert not stopped or s.state.rounds_begun == began, "a round was begun though too many have failed"
        if kind is ev.TriggerArrived:
            asked.add(str(args[0]))
        ended = {c.trigger_id for c in s.commands if isinstance(c, do.ReportJob) and c.state in FINAL}
        assert asked == ended | {wish.trigger_id for wish in wishes_of(s.state)}, "a trigger was lost"
        assert s.state.models.active >= 1
        assert (s.state.round is None) == (s.phase is Phase.IDLE)
        assert s.state.link in Link
        named = [category for wish in wishes_of(s.state) for category in wish.categories]
        assert len(named) == len(set(named)), "a category is to be learned twice"
        if s.phase is not Phase.TRAINING:
            assert not any(isinstance(c, do.PauseTrainer | do.ResumeTrainer) for c in commands)
        if s.phase is Phase.IDLE:
            assert s.state.models.standing is Standing.SETTLED
    return s


NERVOUS = replace(LOCAL, training=Training(failures=1, hang_s=20, attempts=2))


@pytest.mark.spec("10.6", "11.3")
@settings(deadline=None, max_examples=400)
@given(STORIES, st.sampled_from([UPLOAD, LOCAL, NERVOUS]))
def test_any_story_keeps_the_invariants_and_can_return_to_idle(
    story: list[tuple[type[ev.Event], tuple[object, ...], float]], config: Config
) -> None:
    s = run(story, config)
    s.state = replace(s.state, waiting=())
    for number in range(20):  # left alone with a cooperative world, every round ends
        if s.phase is Phase.IDLE:
            break
        job = s.state.round.job_id if s.state.round else ""
        if s.phase is Phase.VERIFYING:
            s(ev.CandidateUnusable, job, "gone")
        elif s.phase is Phase.PROBATION and s.state.owed_rollback_to is not None:
            s(ev.RolledBack, s.state.owed_rollback_to, ("a", "b"))
        elif s.phase is Phase.TRAINING:
            s(ev.TrainerEnded, job, "failed", f"{number}")
        elif s.phase is Phase.AWAITING_TEACHER and s.state.round and not s.state.round.prepared:
            s(ev.JobUnpreparable, job, "no samples")
        else:
            s(ev.Ticked, after_s=10_000_000.0)
    assert s.phase is Phase.IDLE
    if s.state.owed_rollback_to is not None:
        s(ev.RolledBack, s.state.owed_rollback_to, ("a", "b"), None)
    s(ev.BudgetMeasured, CALM)
    s(ev.ResumeOrdered, "at last")
    s(ev.TriggerArrived, "afterwards", ("g",), 5)
    assert s.phase is not Phase.IDLE, "nothing is learned any more"


@pytest.mark.spec("7.1")
@settings(deadline=None, max_examples=200)
@given(STORIES, st.sampled_from([UPLOAD, LOCAL, NERVOUS]), st.sampled_from(["a", "g"]))
def test_a_trigger_is_answered_though_the_process_dies_between_the_state_and_the_answer(
    story: list[tuple[type[ev.Event], tuple[object, ...], float]], config: Config, category: str
) -> None:
    """It is not answered when it comes again, for its id has had its effect: so the next start must."""
    s = run(story, config)
    answers = [
        command for command in s(ev.TriggerArrived, "asked", (category,), 5) if isinstance(command, do.ReportJob)
    ]
    models = s.state.models
    again = Script(config, msgspec.json.decode(msgspec.json.encode(s.state), type=State))
    given_again = again(ev.Started, models.active, models.previous, models.labels)
    assert [command for command in given_again if command in answers] == answers
    assert len(answers) == 1 and again(ev.TriggerArrived, "asked", (category,), 5) == []


def test_an_answer_is_not_given_again_where_a_later_report_says_more() -> None:
    s = Script().until_training()
    again = Script(state=msgspec.json.decode(msgspec.json.encode(s.state), type=State))
    assert "QUEUED" not in reports(again(ev.Started, 1, None, ("a", "b")))


@settings(deadline=None, max_examples=200)
@given(STORIES)
def test_the_state_survives_its_encoding(
    story: list[tuple[type[ev.Event], tuple[object, ...], float]],
) -> None:
    s = run(story, UPLOAD)
    assert msgspec.json.decode(msgspec.json.encode(s.state), type=State) == s.state


def test_training_config_is_what_the_scripts_assume() -> None:
    assert Training().attempts == 3
