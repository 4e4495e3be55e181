"""The slow commands on real stores, real models and a real candidate: each ends in the event that says what came."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_shop import JOB, LIME, PREPARE, Shop
from tiny_world import NEW, OLD, World, frame, images

from agent.adapters.judgements import Judgements
from agent.adapters.model_store import ModelStore
from agent.config import Config, Model, Privacy, Training
from agent.core import commands as do
from agent.core import events as ev
from agent.job import Result, read_job, write_result
from agent.trainer.__main__ import run
from transfer import bundle, wire
from transfer.bundle import Bundle

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


def test_several_categories_go_through_to_what_is_served(shop: Shop) -> None:
    """Labelled samples of two new categories and of a known one: one round, one candidate, each judged by its own."""
    teal = shop.buffer(images("teal", 12, seed=6), "teal")
    shop.buffer(images("navy", 30, seed=4), "navy")
    snow = shop.buffer(images("snow", 3, seed=4), "snow")
    shop.buffer(LIME, NEW)
    assert isinstance(shop(do.PrepareJob(JOB, (NEW, "snow", "navy"), 70, "head")), ev.JobPrepared)
    folder = shop.jobs.path(JOB)
    write_result(folder, run(folder))
    event = shop(do.JudgeCandidate(JOB))
    assert isinstance(event, ev.CandidateJudged) and event.left_out == ("snow",)
    assert event.scores.new_after is not None and event.scores.new_after >= 0.9
    assert event.scores.weakest in (NEW, "navy")
    ((_, detail),) = shop.reports
    assert detail["left_out"] in ("snow (1)", "snow (2)", "snow (3)") and detail["unlabelled"] == 0
    assert shop(do.Promote(2)) == ev.Promoted(0.0, 2, 1, (*OLD, NEW, "navy"))
    closed = shop(do.CloseJob(JOB, True, 2))
    left = {sample.sample_id for sample in shop.store.select(100)}
    assert left == set(snow) and not left & set(teal)  # they wait for a trigger with more of them
    assert closed == ev.NovelSampleStored(0.0, 3)


def test_the_tier_may_fall_before_the_trainer_starts(shop: Shop) -> None:
    shop.buffer(LIME)
    shop(do.PrepareJob(JOB, (NEW,), 40, "transfer"))
    shop.workshop.trainable(JOB, "sparse", 3)
    job = read_job(shop.jobs.path(JOB))
    assert (job.tier, job.threads) == ("sparse", 3)


# ------------------------------------------------------------------------------------------------ asking


@pytest.mark.parametrize(
    ("mode", "kind"), [("upload", wire.ActivationRequest), ("teacher_download", wire.BundleRequest)]
)
def test_privacy_decides_what_is_asked(world: World, tmp_path: Path, mode: Any, kind: type) -> None:
    shop = Shop(world, tmp_path, Config(training=Training(min_samples=8), privacy=Privacy(mode=mode)))
    shop.buffer(LIME)
    shop(PREPARE)
    assert shop.workshop.carry_out(do.AskTeacher(JOB)) == [] and shop.events.empty()
    assert {type(message) for message in shop.sent} == {kind}
    shop.inference.close()


def test_a_job_about_which_nobody_can_be_asked_is_refused(shop: Shop) -> None:
    event = shop(do.AskTeacher("job-000009"))
    assert isinstance(event, ev.TeacherRefused) and "job.json" in event.reason


# ------------------------------------------------------------------------------------------------ judging


def test_a_candidate_is_taken_in_signed_and_measured(world: World, shop: Shop) -> None:
    shop.trained()
    event = shop(do.JudgeCandidate(JOB))
    assert isinstance(event, ev.CandidateJudged) and event.generation == 2
    scores = event.scores
    assert scores.old_before == 1.0 and scores.new_before == 0.0
    assert scores.old_after is not None and scores.old_after >= 0.9
    assert scores.new_after is not None and scores.new_after >= 0.9
    assert bundle.load(shop.models.path(2), trusted=[world.public]).manifest.labels == (*OLD, NEW)
    assert shop.active == 1  # judged is not promoted
    ((kind, detail),) = shop.reports
    assert kind == "judged" and detail["new_count"] == scores.new_count


def test_refused_samples_judge_nothing(shop: Shop) -> None:
    folder = shop.trained()
    job = read_job(folder)
    held = [s for s, h in zip(job.sample_ids, job.holdout, strict=True) if h]
    labels = (NEW,) * len(job.sample_ids)
    write_result(folder, Result(ok=True, labels=labels, refused=tuple(held[:-1]), held_out=(held[-1],)))
    event = shop(do.JudgeCandidate(JOB))
    assert isinstance(event, ev.CandidateJudged) and event.scores.new_count == 1


@pytest.mark.parametrize("damage", ["no result", "not ok", "no candidate", "a candidate that was changed", "no model"])
def test_what_cannot_be_judged_says_why(shop: Shop, damage: str) -> None:
    folder = shop.trained()
    if damage == "no result":
        (folder / "result.json").unlink()
    elif damage == "not ok":
        write_result(folder, Result(ok=False, reason="off by 0.3"))
    elif damage == "no candidate":
        (folder / "candidate").rename(folder / "elsewhere")
    elif damage == "no model":
        (folder / "candidate" / bundle.MODEL).unlink()
    else:
        (folder / "candidate" / bundle.WEIGHTS).write_bytes(b"other")
    event = shop(do.JudgeCandidate(JOB))
    assert isinstance(event, ev.CandidateUnusable) and event.job_id == JOB
    expected = {"no result": "left no result", "not ok": "off by 0.3"}.get(damage, "candidate")
    assert expected in event.reason and shop.models.numbers() == [1]


# ------------------------------------------------------------------------------------------------ swapping


def test_promoting_swaps_what_serves_and_moves_the_pointer(shop: Shop) -> None:
    shop.trained()
    shop(do.JudgeCandidate(JOB))
    event = shop(do.Promote(2))
    assert event == ev.Promoted(0.0, 2, 1, (*OLD, NEW))
    assert shop.active == 2 and shop.inference.current.generation == 2
    ((kind, detail),) = shop.reports
    assert kind == "swapped" and detail["dropped_frames"] == 0


def test_whatever_keeps_all_threads_waiting_begins_just_after_a_frame(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and verifying a generation, its class statistics, and each of the interpreter's two steps."""
    shop.trained()
    shop(do.JudgeCandidate(JOB))
    done: list[str] = []
    load = ModelStore.load

    def loaded(store: ModelStore, number: int) -> Bundle:
        done.append("load")
        return load(store, number)

    monkeypatch.setattr(ModelStore, "load", loaded)
    monkeypatch.setattr(shop.inference, "await_lull", lambda: done.append("lull"))
    for command in (do.Promote(2), do.RollBack(1)):
        done.clear()
        shop(command)
        assert done == ["lull", "load", "lull", "lull", "lull", "lull", "load"]


def test_the_swap_is_measured_with_the_first_frame_of_the_new_model(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.trained()
    shop(do.JudgeCandidate(JOB))
    monkeypatch.setattr("agent.workshop.FIRST_FRAME_WAIT_S", 10.0)
    stop = threading.Event()

    def feed() -> None:
        while not stop.is_set():
            shop.inference.submit(frame(LIME[0]))

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        shop(do.Promote(2))
    finally:
        stop.set()
        feeder.join(10)
    assert shop.reports[0][1]["longest_wait_ms"] > 0  # type: ignore[operator]


@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores and Linux: with one there is nothing to choose")
@pytest.mark.parametrize(("threads", "shared"), [(1, False), (2, True)])
def test_meanwhile_the_serving_thread_has_a_core_that_the_workshop_leaves_alone(
    world: World, tmp_path: Path, threads: int, shared: bool
) -> None:
    """An interpreter of several threads is left alone: they would keep for ever what they are born with."""
    shop = Shop(world, tmp_path, Config(model=Model(threads=threads)))
    try:
        serving = shop.inference.thread_id
        assert serving is not None
        meanwhile = [set[int]()]
        shop.inference.swap = lambda classifier: meanwhile.append(  # type: ignore[method-assign]
            os.sched_getaffinity(0) & os.sched_getaffinity(serving)
        )
        shop.workshop.carry_out(do.RollBack(1))
        assert bool(meanwhile.pop()) is shared
        assert os.sched_getaffinity(0) == os.sched_getaffinity(serving) == CORES
    finally:
        shop.inference.close()


def test_a_candidate_that_does_not_load_is_not_promoted(shop: Shop) -> None:
    event = shop(do.Promote(7))
    assert isinstance(event, ev.PromotionFailed) and event.generation == 7
    assert shop.active == 1 and shop.inference.current.generation == 1


def model_on_disk(shop: Shop) -> dict[str, bytes]:
    """All that says which model serves, and the model itself."""
    models = shop.folder / "models"
    return {
        str(path.relative_to(models)): path.read_bytes()
        for path in [models / "pointer.json", models / "pointer.bak", *models.glob("generations/*/*")]
    }


@pytest.mark.spec("10.5")
def test_going_back_leaves_the_model_byte_for_byte_as_it_was(shop: Shop) -> None:
    """Pointer, its copy, and every generation; the one that failed is gone when its round is closed."""
    before = model_on_disk(shop)
    shop.trained()
    shop(do.JudgeCandidate(JOB))
    shop(do.Promote(2))
    assert model_on_disk(shop)["pointer.json"] != before["pointer.json"]
    shop(do.RollBack(1))
    shop(do.CloseJob(JOB, False, 2))
    assert model_on_disk(shop) == before and shop.models.numbers() == [1]


@pytest.mark.spec("14.2")
@pytest.mark.parametrize("reached", ["prepared", "trained", "judged", "promoted and taken back"])
def test_a_round_that_is_closed_unlearned_leaves_nothing(shop: Shop, reached: str) -> None:
    def seen() -> object:
        buffered = [(s.sample_id, s.reserved_for) for s in shop.store.select(1000)]
        files = sorted(path for path in shop.folder.glob("jobs/*"))
        return buffered, files, model_on_disk(shop)

    shop.buffer(LIME)
    before = seen()
    shop(PREPARE)
    if reached != "prepared":
        write_result(shop.jobs.path(JOB), run(shop.jobs.path(JOB)))
    if reached in ("judged", "promoted and taken back"):
        shop(do.JudgeCandidate(JOB))
    if reached == "promoted and taken back":
        shop(do.Promote(2))
        shop(do.RollBack(1))
    assert seen() != before
    shop(do.CloseJob(JOB, False, None))
    assert seen() == before and shop.inference.current.generation == 1


@pytest.mark.spec("10.4")
def test_a_disk_that_refuses_does_not_keep_a_failing_model_in_service(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right one serves at once; that it could not be written down is said, and tried again."""
    shop.trained()
    shop(do.JudgeCandidate(JOB))
    shop(do.Promote(2))

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    event = shop(do.RollBack(1))
    assert isinstance(event, ev.RollbackFailed) and event.again and "No space left" in event.reason
    assert shop.inference.current.generation == 1 and shop.active == 2
    monkeypatch.undo()
    assert shop(do.RollBack(1)) == ev.RolledBack(0.0, 1, OLD)
    assert shop.active == 1


def test_what_was_judged_is_remembered(shop: Shop) -> None:
    shop.trained()
    shop(do.JudgeCandidate(JOB))
    judgement = Judgements(shop.folder / "judged.json").of(shop.models.load(2).digest)
    assert judgement is not None and judgement.categories == (NEW,) and judgement.generation == 2
    assert judgement.scores is not None and judgement.scores.old_before == 1.0
    assert NEW in judgement.answers and judgement.right >= 0.9 * len(judgement.answers)


def test_rolling_back_serves_the_old_model_again_and_twice_is_once(shop: Shop) -> None:
    shop.trained()
    shop(do.JudgeCandidate(JOB))
    shop(do.Promote(2))
    for _ in range(2):
        assert shop(do.RollBack(1)) == ev.RolledBack(0.0, 1, OLD)
        assert shop.active == 1 and shop.inference.current.generation == 1


def test_a_generation_that_is_gone_cannot_be_rolled_back_to(shop: Shop) -> None:
    event = shop(do.RollBack(5))
    assert isinstance(event, ev.RollbackFailed) and "000005" in event.reason
    assert shop.active == 1


# ------------------------------------------------------------------------------------------------ closing


def test_what_was_learned_leaves_the_buffer_and_what_was_refused_stays(shop: Shop) -> None:
    """A refused sample is of none of the categories: perhaps of the one that the next trigger is about."""
    strangers = np.full((3, 16, 16, 3), 255, np.uint8)
    strangers[1, :8], strangers[2, :, :8] = 0, 0
    folder = shop.trained()
    kept = shop.buffer(strangers)
    ids = read_job(folder).sample_ids
    refused = ids[:2]
    write_result(folder, Result(ok=True, refused=refused, labels=("", "", *[NEW] * (len(ids) - 2))))
    event = shop(do.CloseJob(JOB, True, None))
    left = {sample.sample_id: sample.reserved_for for sample in shop.store.select(100)}
    assert set(left) == {*kept, *refused} and set(left.values()) == {""}
    assert event == ev.NovelSampleStored(0.0, 5)
    assert not shop.jobs.exists(JOB)


def test_what_the_new_model_knows_is_no_longer_kept(shop: Shop) -> None:
    shop.trained()
    shop(do.JudgeCandidate(JOB))
    shop(do.Promote(2))
    shop.buffer(images(NEW, 20, seed=77))
    event = shop(do.CloseJob(JOB, True, 2))
    assert isinstance(event, ev.NovelSampleStored) and event.count < 15


def test_what_was_not_learned_is_released(shop: Shop) -> None:
    shop.trained()
    event = shop(do.CloseJob(JOB, False, None))
    assert event == ev.NovelSampleStored(0.0, 40)
    assert {sample.reserved_for for sample in shop.store.select(100)} == {""}


@pytest.mark.parametrize("learned", [True, False])
def test_closing_again_after_a_crash_finds_it_done(shop: Shop, learned: bool) -> None:
    shop.trained()
    first = shop(do.CloseJob(JOB, learned, None))
    assert shop(do.CloseJob(JOB, learned, None)) == first


@pytest.mark.spec("7.4")
def test_a_job_that_the_disk_does_not_let_close_is_closed_later(shop: Shop, tmp_path: Path) -> None:
    shop.trained()
    shop.store.close()
    database, aside = tmp_path / "samples.db", tmp_path / "elsewhere"
    database.rename(aside)
    database.mkdir()  # as good as a disk that refuses
    ((kind, detail),) = shop.workshop.carry_out(do.CloseJob(JOB, True, None))
    assert kind == "job_not_closed" and "samples.db" in str(detail["error"])
    assert shop.jobs.exists(JOB), "what it has learned from must be known at the next start"
    database.rmdir()
    aside.rename(database)
    assert shop(do.CloseJob(JOB, True, None)) == ev.NovelSampleStored(0.0, 0)
    assert not shop.jobs.exists(JOB)


def test_generations_that_nobody_needs_go(world: World, shop: Shop) -> None:
    for _ in range(4):
        shop.models.promote(shop.models.import_bundle(world.student, [world.public]))
    shop(do.CloseJob("job-000009", False, None))
    assert shop.models.numbers() == [3, 4, 5]


# ------------------------------------------------------------------------------------------------ defects


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (PREPARE, ev.JobUnpreparable(0.0, JOB, "why")),
        (do.AskTeacher(JOB), ev.TeacherRefused(0.0, JOB, "why")),
        (do.JudgeCandidate(JOB), ev.CandidateUnusable(0.0, JOB, "why")),
        (do.Promote(2), ev.PromotionFailed(0.0, 2, "why")),
        (do.RollBack(1), ev.RollbackFailed(0.0, "why")),
    ],
)
def test_a_defect_ends_what_the_command_began(shop: Shop, command: do.Command, event: ev.Event) -> None:
    assert list(shop.workshop.failure_of(command, "why")) == [event]


def test_after_closing_there_is_nothing_to_end_and_other_commands_are_not_its(shop: Shop) -> None:
    assert list(shop.workshop.failure_of(do.CloseJob(JOB, True, None), "why")) == []
    with pytest.raises(TypeError, match="PauseTrainer"):
        shop.workshop.carry_out(do.PauseTrainer(JOB))
